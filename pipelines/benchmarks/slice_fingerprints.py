"""What the fingerprints of slices cost, and which copies of a volume still share its slice keys.

    python -m pipelines.benchmarks.slice_fingerprints --out runs/slice_fingerprints.json

- cost: CPU seconds of one core for 300 slices of 512^2, of the pass that the fingerprints of the
  volume and those of the slices share, and of what each adds. The best of several rounds.
- keys: every real volume of a folder, changed as other kernels, matrices, windows and crops change
  it; the share of the copy's slices whose key the original has, as a join of equal keys counts
  them, empty slices left out. Beside it, the same between volumes of different scans.
- bits: how many bits of the 256 a slice's own copies are away, and slices 12 mm or more apart.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy import ndimage

from medssl.errors import MedSSLError
from medssl.io.geometry import to_closest_ras
from medssl.io.nifti import read_nifti
from medssl.io.volume import Volume
from medssl.library.fingerprints.dct256 import dct256, look
from medssl.library.fingerprints.slice_dct256 import SliceSignatures, slice_dct256
from medssl.runs.environment import describe
from pipelines.benchmarks.ct_series import realistic_ct

VOLUMES: Final = Path(__file__).parents[3] / "shared/data/volumes"
MIN_BODY: Final = 0.05
APART_MM: Final = 12.0
MOST_S: Final = 0.08
PARTS: Final = ("ts_body_ct_sm_3mm",)
"""Volumes that are parts of others; those and their wholes are no strangers."""
SYMMETRIC: Final = ("template_scct_head_2mm", "nilearn_mni152_t1")
"""Averages of many heads, which no scanner makes."""

Array = NDArray[np.float64]


def cost(rounds: int) -> dict[str, float]:
    """Return CPU seconds for 300 x 512^2, in the order in which a scanner's slices lie."""
    array = np.ascontiguousarray(realistic_ct((512, 512, 300)).T).T
    seen = look(array, "hu")
    jobs: dict[str, Callable[[], object]] = {
        "shared pass": lambda: look(array, "hu"),
        "volume, after it": lambda: dct256(array, "hu", seen),
        "slices, after it": lambda: slice_dct256(array, "hu", 2, seen),
        "volume alone": lambda: dct256(array, "hu"),
        "slices alone": lambda: slice_dct256(array, "hu", 2),
    }
    return {name: min(_cpu_s(job) for _ in range(rounds)) for name, job in jobs.items()}


def copies(array: Array, span: float, rng: np.random.Generator) -> Iterator[tuple[str, Array]]:
    """Yield copies of a volume as other exports and reconstructions make them."""
    smooth = ndimage.gaussian_filter(array, (1, 1, 0))
    yield "resized to 0.76", ndimage.zoom(array, (0.76, 0.76, 1), **_LINEAR)
    yield "soft kernel", ndimage.gaussian_filter(array, (0.8, 0.8, 0))
    yield "sharp kernel", 2 * array - smooth + rng.normal(0, 0.01 * span, array.shape)
    yield "slices 1.4 x closer", ndimage.zoom(array, (1, 1, 1.4), **_LINEAR)
    quarter = array.shape[2] // 4
    yield "middle half", array[:, :, quarter : array.shape[2] - quarter]


def keys(folder: Path) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """Return, for every kind of copy, the shares of keys and the distances in bits."""
    rng = np.random.default_rng(0)
    shares: dict[str, list[float]] = {}
    bits: dict[str, list[float]] = {}
    originals: dict[str, SliceSignatures] = {}
    thinned: dict[str, NDArray[np.uint8]] = {}
    for name, volume in _volumes(folder):
        array = volume.array_IJK.astype(np.float64)
        low, high = (-1024, 1023) if volume.intensity == "hu" else np.percentile(array, (0.1, 99.9))
        original = _with_body(slice_dct256(array, volume.intensity, 2))
        for kind, changed in copies(array, high - low, rng):
            copy = slice_dct256(changed, volume.intensity, 2)
            shares.setdefault(kind, []).append(_shared(_with_body(copy), original))
            if len(changed[0, 0]) == len(array[0, 0]) and name not in SYMMETRIC:
                whole = slice_dct256(array, volume.intensity, 2)
                seen = whole.foreground_S >= MIN_BODY
                apart = np.bitwise_count(whole.signatures_SB ^ copy.signatures_SB).sum(axis=1)
                bits.setdefault(kind, []).extend(apart[seen].tolist())
        originals[name] = original
        step = max(1, int(np.ceil(APART_MM / volume.spacing_mm[2])))
        thinned[name] = original.signatures_SB[::step]
    strangers = [(a, b) for a in originals for b in originals if a != b and not {a, b} & set(PARTS)]
    shares["strangers"] = [_shared(originals[a], originals[b]) for a, b in strangers]
    every = np.concatenate([part for name, part in thinned.items() if name not in PARTS])
    apart = np.bitwise_count(every[:, None] ^ every[None]).sum(axis=2)
    bits["slices apart"] = apart[np.triu_indices(len(every), 1)].tolist()
    return (
        {kind: _spread(values, (0, 50, 100)) for kind, values in shares.items()},
        {kind: _spread(values, (0.1, 50, 99, 100)) for kind, values in bits.items()},
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, write JSON; 1 if the cost is above what was promised."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--volumes", type=Path, default=VOLUMES, help="a folder of NIfTI files")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="where to write the numbers as JSON")
    options = parser.parse_args(arguments)
    os.environ["OMP_NUM_THREADS"] = "1"
    seconds = cost(options.rounds)
    shares, bits = keys(options.volumes)
    _show("CPU s for 300 x 512^2", {name: {"s": value} for name, value in seconds.items()}, 4)
    _show("share of slices with a key of the original", shares, 3)
    _show("bits of 256 away", bits, 0)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        found = {"cost_s": seconds, "keys": shares, "bits": bits, "environment": describe()}
        options.out.write_text(json.dumps(found, indent=2) + "\n")
    return 0 if seconds["slices, after it"] <= MOST_S else 1


_LINEAR: Final[dict[str, Any]] = {"order": 1, "grid_mode": True, "mode": "nearest"}


def _cpu_s(job: Callable[[], object]) -> float:
    begin = time.process_time()
    job()
    return time.process_time() - begin


def _volumes(folder: Path) -> Iterator[tuple[str, Volume]]:
    for path in sorted(folder.rglob("*.nii*")):
        name = path.name.partition(".")[0]
        is_ct = path.parent.name == "ct" or "_ct_" in name
        try:
            yield name, to_closest_ras(read_nifti(path, "CT" if is_ct else "MR"))
        except MedSSLError:
            continue


def _with_body(found: SliceSignatures) -> SliceSignatures:
    seen = found.foreground_S >= MIN_BODY
    return SliceSignatures(found.keys_SB[seen], found.signatures_SB[seen], found.foreground_S[seen])


def _shared(part: SliceSignatures, whole: SliceSignatures) -> float:
    known = {key.tobytes() for key in whole.keys_SB}
    return float(np.mean([key.tobytes() in known for key in part.keys_SB]))


def _spread(values: Sequence[float], percents: Sequence[float]) -> dict[str, float]:
    return {f"{percent:g} %": float(np.percentile(values, percent)) for percent in percents}


def _show(title: str, rows: dict[str, dict[str, float]], digits: int) -> None:
    table = Table(title=title)
    table.add_column("")
    for name in next(iter(rows.values())):
        table.add_column(name, justify="right")
    for name, row in rows.items():
        table.add_row(name, *(f"{value:.{digits}f}" for value in row.values()))
    Console(width=100).print(table)


if __name__ == "__main__":
    sys.exit(main())
