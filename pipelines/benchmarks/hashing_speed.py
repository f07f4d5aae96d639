"""How many slices a second are hashed on one core, beside imagehash on the same slices.

    python -m pipelines.benchmarks.hashing_speed --out runs/hashing.json

Every hash gets what it reads: 8-bit images for dhash64 and imagehash, int16 volumes for the
signatures that ingestion makes. Slices are a shipped CT's, enlarged to the size of a usual one with
the noise that enlarging took. All run in one process on one core, in turns, so that a busy machine
slows all of them alike; the median of the rounds counts. imagehash must be installed (dev extra).
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from medssl.io.nifti import read_nifti
from medssl.library.fingerprints.dhash64 import dhash64, min_max_8_bit, thumbnails
from medssl.library.fingerprints.dhash64 import resize_rows as resize_in_numpy
from medssl.library.fingerprints.slice_dct256 import slice_dct256
from medssl.runs.environment import describe
from pipelines.benchmarks.crop_read import SCAN, enlarge

FACTOR = 10.0
RIVAL, COMPAT = "imagehash.dhash", "dhash64, compat mode"


def hashers(
    images_NHW: NDArray[np.uint8], slices_IJK: NDArray[np.int16]
) -> dict[str, Callable[[], Any]]:
    """Return what is timed."""
    pil = [Image.fromarray(image) for image in images_NHW]
    planes_NHW = np.moveaxis(slices_IJK, 2, 0)
    return {
        RIVAL: lambda: [imagehash.dhash(image) for image in pil],
        "imagehash.phash": lambda: [imagehash.phash(image) for image in pil],
        "imagehash.phash of 256 bits": lambda: [imagehash.phash(im, hash_size=16) for im in pil],
        COMPAT: lambda: dhash64(images_NHW),
        "dhash64 without a compiler": lambda: thumbnails(images_NHW, resize_in_numpy),
        "dhash64 with 16 to 8 bits": lambda: dhash64(min_max_8_bit(planes_NHW)),
        "slice_dct256, key and body share": lambda: slice_dct256(slices_IJK, "hu", 2),
    }


def measure(
    tools: dict[str, Callable[[], Any]], slices: int, rounds: int
) -> dict[str, dict[str, float]]:
    """Return milliseconds per slice, the median of rounds taken in turns after a warm-up."""
    times: dict[str, list[float]] = {name: [] for name in tools}
    for round_number in range(rounds + 1):
        for name, run in tools.items():
            begin = time.process_time()
            run()
            if round_number:
                times[name].append((time.process_time() - begin) * 1e3 / slices)
    rival = median(times[RIVAL])
    return {
        name: {
            "ms_per_slice": median(values),
            "slices_per_s": 1e3 / median(values),
            "times_imagehash": rival / median(values),
        }
        for name, values in times.items()
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write JSON; 1 if a claim does not hold."""
    options = _options(arguments)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    scan = enlarge(read_nifti(SCAN, "CT"), (options.side, options.side, options.slices))
    slices_IJK = np.asfortranarray(scan.array_IJK)  # as a scanner's slices lie in memory
    images_NHW = min_max_8_bit(np.moveaxis(slices_IJK, 2, 0)[:, ::-1, ::-1].swapaxes(1, 2))
    expected = [int(str(imagehash.dhash(Image.fromarray(image))), 16) for image in images_NHW]
    equal = dhash64(images_NHW).tolist() == expected
    rows = measure(hashers(images_NHW, slices_IJK), options.slices, options.rounds)
    factor = rows[COMPAT]["times_imagehash"]
    claims = {
        f"{COMPAT}: bit for bit imagehash.dhash": equal,
        f"{COMPAT}: {factor:.1f} times imagehash (at least {FACTOR:g})": factor >= FACTOR,
    }
    table = Table(title=f"{options.slices} slices of {options.side} x {options.side}, one core")
    for column in ("hash", "ms per slice", "slices per s", "times imagehash"):
        table.add_column(column, justify="left" if column == "hash" else "right")
    for name, row in rows.items():
        cells = f"{row['ms_per_slice']:.3f}", f"{row['slices_per_s']:.0f}"
        table.add_row(name, *cells, f"{row['times_imagehash']:.1f}")
    Console(width=100).print(table)
    for claim, holds in claims.items():
        print(f"{claim}: {'yes' if holds else 'NO'}")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        result = {"side": options.side, "slices": options.slices, "rows": rows, "claims": claims}
        options.out.write_text(json.dumps({**result, "environment": describe()}, indent=2) + "\n")
    return 0 if all(claims.values()) else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--slices", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, help="where to write the numbers as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
