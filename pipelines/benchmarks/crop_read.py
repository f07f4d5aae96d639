"""What one crop costs from the crop store, and what it costs from a compressed NIfTI file.

    python pipelines/benchmarks/crop_read.py --out runs/crop_read.json

A scan that ships with the tests is resampled to the size of a usual CT, gets the noise that
resampling took from it, and is written both ways. Then, in turns, so that a busy machine slows
all of them alike:

- store, open: a crop at a random position, through an open store;
- store, file opened anew: the same, and the time to open the volume's file (the index is read
  once per training, and is not counted);
- nii.gz: nibabel reads the whole volume, as it must for any crop.

The page cache is warm throughout: what is compared is decoding, not disks.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from medssl.data.entry import StoreEntry
from medssl.data.foreground import AIR_HU, BODY_ABOVE_HU
from medssl.data.resample import resample
from medssl.data.store import CropStore
from medssl.data.store_writer import write_index, write_stored_volume
from medssl.io.nifti import read_nifti, write_nifti
from medssl.io.volume import Volume
from medssl.runs.environment import describe

SCAN = Path(__file__).parents[2] / "tests/data/nifti/ct/tsct_p01_body.nii.gz"
OPEN, ANEW, WHOLE = "store, open", "store, file opened anew", "nii.gz, whole volume"
NOISE_HU = 12.0
CROPS_PER_ROUND = 10
CLAIM = 100
KEY = "scan"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON; 1 if a crop costs more than 1/100 of a volume."""
    options = _options(arguments)
    with tempfile.TemporaryDirectory() as folder:
        volume = enlarge(read_nifti(options.scan, "CT"), options.shape)
        nifti, store = write_both(volume, Path(folder))
        times_ms = measure(nifti, store, volume, options.crop, options.rounds)
        written_bytes = {
            "nii.gz": nifti.stat().st_size,
            "store": sum(path.stat().st_size for path in store.rglob("*") if path.is_file()),
        }
    rows = {name: summarise(values, times_ms[WHOLE]) for name, values in times_ms.items()}
    result = {
        "shape": volume.shape,
        "dtype": volume.array_IJK.dtype.name,
        "crop_voxels": options.crop,
        "bytes": written_bytes,
        "rows": rows,
        "claim": f"the median crop costs at most 1/{CLAIM} of the median volume",
        "holds": rows[OPEN]["volume_over_this"] >= CLAIM,
        "environment": describe(),
    }
    show(result)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if result["holds"] else 1


def enlarge(scan: Volume, shape: Sequence[int]) -> Volume:
    """Resample a scan to a shape and give it back the noise of a real one (sigma 12 HU)."""
    spacing_mm = np.array(scan.spacing_mm) * scan.shape / np.array(shape)
    array_IJK, affine_ras = resample(scan.array_IJK, scan.affine_ras, spacing_mm.tolist())
    noise_IJK = np.random.default_rng(0).normal(0, NOISE_HU, array_IJK.shape)
    noisy_IJK = np.rint(array_IJK + noise_IJK).clip(-1024, 3071).astype(np.int16)
    return Volume(array_IJK=noisy_IJK, affine_ras=affine_ras, modality="CT", intensity="hu")


def write_both(volume: Volume, folder: Path) -> tuple[Path, Path]:
    """Write a volume as .nii.gz and as a store of one volume."""
    nifti, store = folder / "scan.nii.gz", folder / "store"
    write_nifti(volume.array_IJK, volume.affine_ras, nifti)
    entry = write_stored(store, volume, KEY)
    write_index(store, [entry], volume.spacing_mm)
    return nifti, store


def write_stored(store: Path, volume: Volume, key: str) -> StoreEntry:
    """Write one volume into a store, without the index."""
    return write_stored_volume(
        store,
        volume.array_IJK,
        volume_key=key,
        patient_key=key,
        split="train",
        modality=volume.modality,
        intensity=volume.intensity,
        spacing_mm=volume.spacing_mm,
        affine_ras=volume.affine_ras.tolist(),
        background=AIR_HU,
        foreground_above=BODY_ABOVE_HU,
        p005=float(np.percentile(volume.array_IJK, 0.5)),
        p995=float(np.percentile(volume.array_IJK, 99.5)),
    )


def measure(
    nifti: Path, store_path: Path, volume: Volume, crop: int, rounds: int
) -> dict[str, list[float]]:
    """Return the milliseconds of every reading, taken in turns; what was read is compared."""
    rng = np.random.default_rng(1)
    last_start = np.array(volume.shape) - crop
    store = CropStore(store_path)
    times_ms: dict[str, list[float]] = {OPEN: [], ANEW: [], WHOLE: []}
    for _ in range(rounds):
        loaded_IJK = _timed(times_ms[WHOLE], partial(load_all, nifti))
        for n in range(CROPS_PER_ROUND):
            start = rng.integers(0, last_start, endpoint=True).tolist()
            name, reader = (ANEW, CropStore(store_path)) if n == 0 else (OPEN, store)
            crop_IJK = _timed(times_ms[name], partial(reader.read, KEY, start, [crop] * 3))
            box = tuple(slice(first, first + crop) for first in start)
            if not np.array_equal(crop_IJK, loaded_IJK[box]):
                raise AssertionError("the store and the NIfTI file hold different voxels")
    return times_ms


def load_all(path: Path) -> NDArray[Any]:
    """Read all voxels in their stored type: nibabel's quickest way."""
    image: Any = nibabel.load(path)
    return np.asarray(image.dataobj)


def summarise(values_ms: Sequence[float], volume_ms: Sequence[float]) -> dict[str, float]:
    """Return median and quartiles, and how many such readings a volume's median would pay for."""
    low, median, high = np.percentile(values_ms, (25, 50, 75)).tolist()
    return {
        "median_ms": median,
        "quartile_low_ms": low,
        "quartile_high_ms": high,
        "readings": len(values_ms),
        "volume_over_this": float(np.median(volume_ms)) / median,
    }


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    shape = " x ".join(map(str, result["shape"]))
    table = Table(title=f"one {result['crop_voxels']}^3 crop of {shape} {result['dtype']}")
    for column in ("read from", "median ms", "quartiles ms", "times", "ratio"):
        table.add_column(column, justify="left" if column == "read from" else "right", no_wrap=True)
    for name, row in result["rows"].items():
        quartiles = f"{row['quartile_low_ms']:.2f} to {row['quartile_high_ms']:.2f}"
        ratio = f"{row['volume_over_this']:.0f}"
        table.add_row(name, f"{row['median_ms']:.2f}", quartiles, str(row["readings"]), ratio)
    console = Console()
    console.print(table)
    sizes = ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in result["bytes"].items())
    console.print(f"on disk: {sizes}")
    console.print(f"{result['claim']}: {'yes' if result['holds'] else 'NO'}")


def _timed(times_ms: list[float], read: Callable[[], NDArray[Any]]) -> NDArray[Any]:
    begin = time.perf_counter()
    found = read()
    times_ms.append((time.perf_counter() - begin) * 1e3)
    return found


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scan", type=Path, default=SCAN, help="a CT to enlarge")
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 200))
    parser.add_argument("--crop", type=int, default=96, help="voxels along each side")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, help="where to write the numbers as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
