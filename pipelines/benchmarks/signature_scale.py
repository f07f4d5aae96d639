"""All pairs of signatures, exact: how long, and how that grows with their number.

    python -m pipelines.benchmarks.signature_scale --out runs/signatures.json

Signatures are 256 bits, half of them set, as those of volumes are: made-up families whose members
differ in a few bits, among strangers that share structure, since a body is a body. Seconds are
fitted to ``c * count^e``; what was found is compared with what was planted, and at the smallest
size with the same work done by NumPy.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from medssl.curation import neighbours
from medssl.curation.neighbours import Words
from medssl.runs.environment import describe
from medssl.runs.workers import available_cores

MAX_BITS, FAMILY_BITS, FAMILY = 48, 20, 4
MOST_S, AT = 60.0, 160_000
SHARED = 0.25
"""Share of the bits that strangers have in common beyond chance."""


def signatures(count: int, seed: int = 0) -> Words:
    """Return signatures of strangers; every tenth is followed by close relatives of it."""
    rng = np.random.default_rng(seed)
    body = rng.integers(0, 2, 256, dtype=np.uint8)
    own = rng.integers(0, 2, (count, 256), dtype=np.uint8)
    bits = np.where(rng.random((count, 256)) < SHARED, body, own)
    for start in range(0, count - FAMILY, 10):
        for member in range(1, FAMILY):
            flipped = rng.choice(256, FAMILY_BITS // 2, replace=False)
            bits[start + member] = bits[start]
            bits[start + member, flipped] ^= 1
    packed = np.packbits(bits, axis=1)
    words: Words = np.ascontiguousarray(packed).view("<u8")
    return words


def planted(count: int) -> set[tuple[int, int]]:
    """Return the pairs within families: they differ in ``FAMILY_BITS`` bits at most."""
    return {
        (start + a, start + b)
        for start in range(0, count - FAMILY, 10)
        for a in range(FAMILY)
        for b in range(a + 1, FAMILY)
    }


def measure(count: int, threads: int, rounds: int) -> dict[str, Any]:
    """Return the quickest of some readings, and whether what was planted was found."""
    words, seconds = signatures(count), []
    for _ in range(rounds):
        begin = time.perf_counter()
        found = neighbours.pairs_within(words, MAX_BITS, threads=threads)
        seconds.append(time.perf_counter() - begin)
    pairs = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    return {
        "count": count,
        "s": min(seconds),
        "gpairs_per_s": count * (count - 1) / 2 / min(seconds) / 1e9,
        "found": len(pairs),
        "missed": len(planted(count) - pairs),
    }


def numpy_agrees(count: int) -> bool:
    """Return whether NumPy finds the same pairs, bit counts included."""
    words = signatures(count)
    found = neighbours.pairs_within(words, MAX_BITS)
    rows, columns, bits = neighbours.numpy_close_pairs(words, words, MAX_BITS, True)
    order = np.lexsort((columns, rows))
    return all(
        np.array_equal(mine, theirs[order])
        for mine, theirs in zip(found, (rows, columns, bits), strict=True)
    )


def exponent(readings: Sequence[dict[str, Any]]) -> float:
    """Return the slope of log seconds over log count, by least squares."""
    counts, seconds = (np.log([reading[key] for reading in readings]) for key in ("count", "s"))
    return float(np.polyfit(counts, seconds, 1)[0])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write JSON; 1 if a claim does not hold."""
    options = _options(arguments)
    neighbours.pairs_within(signatures(100), MAX_BITS)  # compiles
    readings = [measure(count, options.threads, options.rounds) for count in options.counts]
    agrees = numpy_agrees(min(options.counts))
    slope = exponent(readings) if len(readings) > 1 else float("nan")
    console = Console(width=100)
    table = Table(title=f"all pairs of 256 bits, {options.threads} threads")
    for name in ("signatures", "s", "Gpairs/s", "pairs found", "planted pairs missed"):
        table.add_column(name, justify="right")
    for reading in readings:
        numbers = (str(reading[key]) for key in ("found", "missed"))
        speed = f"{reading['s']:.3f}", f"{reading['gpairs_per_s']:.2f}"
        table.add_row(f"{reading['count']:,}", *speed, *numbers)
    console.print(table)
    largest = readings[-1]
    claims = {
        f"{largest['count']:,} signatures in {largest['s']:.1f} s (at most {MOST_S:g} at {AT:,})": (
            largest["s"] <= MOST_S
        ),
        "every planted pair found": not any(reading["missed"] for reading in readings),
        "NumPy finds the same pairs": agrees,
    }
    for claim, holds in claims.items():
        console.print(f"{claim}: {'yes' if holds else 'NO'}")
    console.print(f"seconds grow with the count to the power of {slope:.2f}")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        result = {"readings": readings, "exponent": slope, "claims": claims}
        whole = {**result, "threads": options.threads, "environment": describe()}
        options.out.write_text(json.dumps(whole, indent=2) + "\n")
    return 0 if all(claims.values()) else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    counts = [1000, 5000, 10_000, 20_000, 40_000, 80_000, 160_000]
    parser.add_argument("--counts", type=int, nargs="+", default=counts)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=available_cores())
    parser.add_argument("--out", type=Path, help="where to write the numbers as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
