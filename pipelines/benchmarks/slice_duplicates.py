"""Which copies of slices are found, and what is called a copy by mistake, beside other tools.

    python -m pipelines.benchmarks.slice_duplicates ../shared/data/volumes --out runs/slices.json

Slices at least 12 mm apart of real volumes, each in seven versions (``planted_slices``). A pair is
true when both are versions of one slice. Shifted and flipped versions count as true too, though
nothing here aligns images: inside a library orientation is canonical. Slices of one torso 12 mm
apart count as false however alike they are, so precision is a lower bound.

Rivals run in a virtual environment of their own, made at the first run.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from medssl.curation.slice_agreement import (
    CANDIDATE_BITS,
    COPY_AGREEMENT,
    agreement,
    fine_structure,
)
from medssl.library.fingerprints.dhash64 import dhash64
from medssl.library.fingerprints.slice_dct256 import slice_dct256
from medssl.runs.environment import describe
from pipelines.benchmarks.planted_slices import VERSIONS, Image8, suite

RIVALS = (
    ["imagededup==0.3.3.post2"],
    [
        *("numpy", "scipy", "scikit-learn", "pillow", "PyWavelets", "matplotlib", "tqdm"),
        "imagehash==4.3.2",
    ],
)
"""Installed without their own requirements (imagededup asks for torchvision), and with them."""
JUDGED = ("resize", "gamma", "smooth", "sharpen")
LEAST = 0.98
OURS = f"slice_dct256 <= {CANDIDATE_BITS}, agreement >= {COPY_AGREEMENT}"

Pairs = NDArray[np.bool_]
Planted = list[tuple[int, str, Image8]]


def ours(planted: Planted) -> dict[str, dict[str, Any]]:
    """Return what our own tools call pairs, as upper triangles, and the seconds they took."""
    begin = time.perf_counter()
    images = [image for _, _, image in planted]
    signatures = [
        slice_dct256(image[:, :, None], "arbitrary", 2).signatures_SB[0] for image in images
    ]
    bits_NN = hamming(np.stack(signatures).view("<u8"))
    hashed = time.perf_counter() - begin
    close = upper(bits_NN <= CANDIDATE_BITS)
    structures = [fine_structure(image) for image in images]
    copies = np.zeros_like(close)
    for a, b in zip(*np.nonzero(close), strict=True):
        copies[a, b] = agreement(structures[a], structures[b]) >= COPY_AGREEMENT
    verified = time.perf_counter() - begin
    begin = time.perf_counter()
    compat = hamming(np.array([dhash64(image[None])[0] for image in images])[:, None])
    compat_seconds = time.perf_counter() - begin
    return {
        OURS: {"pairs": copies, "seconds": verified},
        "slice_dct256 <= 12 alone": {"pairs": upper(bits_NN <= 12), "seconds": hashed},  # noqa: PLR2004
        "slice_dct256 <= 24 alone": {"pairs": upper(bits_NN <= 24), "seconds": hashed},  # noqa: PLR2004
        "dhash64 <= 6 (compat)": {"pairs": upper(compat <= 6), "seconds": compat_seconds},  # noqa: PLR2004
    }


def rivals(planted: Planted, environment: Path) -> dict[str, dict[str, Any]]:
    """Return the same of other tools, which read the slices as PNG files."""
    python = environment / "bin" / "python"
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if not python.exists():
        venv.create(environment, with_pip=True)
        install = [str(python), "-m", "pip", "install", "-q"]
        subprocess.run([*install, "--no-deps", *RIVALS[0]], check=True, env=clean)  # noqa: S603
        subprocess.run([*install, *RIVALS[1]], check=True, env=clean)  # noqa: S603
    with tempfile.TemporaryDirectory() as scratch:
        folder, out = Path(scratch) / "png", Path(scratch) / "pairs.json"
        folder.mkdir()
        for n, (_, _, image) in enumerate(planted):
            Image.fromarray(image).save(folder / f"{n:05d}.png")
        script = Path(__file__).parent / "rivals" / "hash_images.py"
        done = subprocess.run(  # noqa: S603
            [python, script, folder, out], env=clean, stderr=subprocess.PIPE, check=False
        )
        if done.returncode:
            raise SystemExit(f"the rivals failed:\n{done.stderr.decode(errors='replace')}")
        found = json.loads(out.read_text())
    for tool in found.values():
        pairs = np.zeros((len(planted), len(planted)), bool)
        for a, b in tool["pairs"]:
            pairs[int(a.partition(".")[0]), int(b.partition(".")[0])] = True
        tool["pairs"] = upper(pairs | pairs.T)
    return dict(found)


def hamming(words_NW: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return (N, N) how many bits differ."""
    bits = np.zeros((len(words_NW), len(words_NW)), np.int64)
    for word in words_NW.T:
        bits += np.bitwise_count(word[:, None] ^ word[None, :])
    return bits


def upper(pairs_NN: Pairs) -> Pairs:
    """Return each pair once."""
    return np.triu(pairs_NN, 1)


def measure(pairs_NN: Pairs, planted: Planted) -> dict[str, float]:
    """Return the recall of each version beside the original, pair precision, all-pairs recall."""
    number = np.array([n for n, _, _ in planted])
    version = np.array([name for _, name, _ in planted])
    same = upper(number[:, None] == number[None, :])
    found, true = int(pairs_NN.sum()), int((pairs_NN & same).sum())
    first = np.flatnonzero(version == "original")
    recall = {
        name: float(pairs_NN[first, first + place].mean())
        for place, name in enumerate(VERSIONS)
        if place
    }
    return {
        **recall,
        "precision": true / found if found else 1.0,
        "all-pairs recall": true / int(same.sum()),
        "false pairs": found - true,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write JSON; 1 if the claim does not hold."""
    options = _options(arguments)
    planted = list(suite(options.folder, options.seed))
    tools = ours(planted) | ({} if options.alone else rivals(planted, options.environment))
    rows = {
        name: {**measure(tool["pairs"], planted), "seconds": tool["seconds"]}
        for name, tool in tools.items()
    }
    best = rows[OURS]
    holds = all(best[name] >= LEAST for name in (*JUDGED, "precision"))
    claim = f"pair precision and recall of {', '.join(JUDGED)} at least {LEAST}"
    slices = len(planted) // len(VERSIONS)
    _show(rows, f"{slices} slices of {options.folder.name}, {len(VERSIONS)} versions of each")
    print(f"{claim}: {'yes' if holds else 'NO'}")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        result = {"slices": slices, "seed": options.seed, "rows": rows, "claim": claim}
        result |= {"holds": holds, "environment": describe()}
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if holds else 1


def _show(rows: dict[str, dict[str, float]], title: str) -> None:
    table = Table(title=title)
    columns = list(next(iter(rows.values())))
    for column in ("tool", *columns):
        table.add_column(column, justify="left" if column == "tool" else "right")
    for name, row in rows.items():
        cells = [f"{value:.3f}" if value <= 1 else f"{value:.0f}" for value in row.values()]
        table.add_row(name, *cells)
    Console(width=150).print(table)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="NIfTI volumes; CT in folders called ct")
    parser.add_argument("--environment", type=Path, default=Path("runs/rivals/imagededup"))
    parser.add_argument("--alone", action="store_true", help="without the rivals")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="where to write the numbers as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
