"""How many VoCo samples a loader worker makes from the crop store, beside the published way.

    python -m pipelines.benchmarks.loader_speed --out runs/loader_speed.json

A sample is nine base crops and two random crops of 64^3 at 1.5 mm, each changed on its own, out of
a random place of one volume. Ours reads the region from the crop store. The published way is
MONAI's PersistentDataset: whole volumes, cached in float32 after resampling, windowing, cropping
to the body and padding; every sample loads one, cuts 192 x 192 x 64 voxels out of it and eleven
crops out of those. The volumes are scans enlarged to a usual size, with noise, the same for both.

- warm: samples per second of a loader with one worker, files in the page cache, the median of
  several rounds in turn; ours is a thread of this process, theirs a process, as MONAI has it;
- cold: seconds per sample in this process, every file taken out of the page cache before;
- waiting: the share of time that a training whose step takes ``--step-ms`` would stand still.

On a GPU the share of waiting is what ``speed.jsonl`` of a pretraining says.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import torch
from monai import transforms
from monai.data import DataLoader as MonaiLoader
from monai.data import PersistentDataset
from monai.data.utils import list_data_collate
from rich.console import Console
from rich.table import Table

from medssl.data.augment import AugmentConfig
from medssl.data.crops import base_grid_starts, random_crop_starts
from medssl.data.dataset import CropDataset, DatasetConfig
from medssl.data.grid_views import GridViews
from medssl.data.sampling import Stream, generator
from medssl.data.store import CropStore
from medssl.data.store_writer import write_index
from medssl.io.nifti import read_nifti, write_nifti
from medssl.io.volume import Volume
from medssl.runs.environment import describe
from medssl.training.launch import Place
from medssl.training.loaders import LoaderConfig, PretrainLoaders
from pipelines.benchmarks.crop_read import SCAN, enlarge, write_stored

OURS: Final = "crop store"
PUBLISHED: Final = "PersistentDataset"
CLAIM: Final = 10
SPACING_MM: Final = (1.5, 1.5, 1.5)
WINDOW_HU: Final = (-175.0, 250.0)
Sampler = Callable[[int], Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON; 1 if ours makes less than ten times the samples."""
    options = _options(arguments)
    views = views_of(options.crop)
    with tempfile.TemporaryDirectory() as folder:
        niftis, store = write_volumes(options, Path(folder))
        cache = Path(folder) / "cache"
        published = published_dataset(niftis, cache, views)
        for index in range(len(niftis)):
            _ = published[index]  # fills the cache
        samplers: dict[str, tuple[Sampler, Path]] = {
            OURS: (lambda index: our_dataset(store, views, options.samples)[index], store),
            PUBLISHED: (lambda index: published[index % len(niftis)], cache),
        }
        rows = {
            name: {"cold_s": cold(sampler, files, options.cold)}
            for name, (sampler, files) in samplers.items()
        }
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in rows}
        for _ in range(options.rounds):  # in turn: what else the machine does meets both
            for name, loader in loaders(store, published, views, options).items():
                rounds[name].append(warm(loader, options))
        for name, measured in rounds.items():
            rows[name] |= {of: median(one[of] for one in measured) for of in measured[0]}
    result = {
        "volume": options.shape,
        "volumes": options.volumes,
        "crop_voxels": options.crop,
        "step_ms": options.step_ms,
        "rows": rows,
        "rounds": rounds,
        "ratio_warm": rows[OURS]["samples_per_s"] / rows[PUBLISHED]["samples_per_s"],
        "ratio_cold": rows[PUBLISHED]["cold_s"] / rows[OURS]["cold_s"],
        "claim": f"at least {CLAIM} times the samples per second, files in the page cache",
        "environment": describe(),
    }
    result["holds"] = result["ratio_warm"] >= CLAIM
    show(result)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if result["holds"] else 1


def views_of(crop: int) -> GridViews:
    """Return the published views: three by three base crops, two random ones."""
    augment = AugmentConfig(
        flip_probability=0.2, rotate_probability=0.2, shift_probability=0.5, shift_range=0.1
    )
    return GridViews(grid=(3, 3, 1), crop_voxels=crop, random_crops=2, augment=augment)


def write_volumes(options: argparse.Namespace, folder: Path) -> tuple[list[Path], Path]:
    """Write every volume as .nii.gz and into a store."""
    scan, store, niftis, entries = read_nifti(options.scan, "CT"), folder / "store", [], []
    for number in range(options.volumes):
        large = enlarge(scan, options.shape)
        affine = large.affine_ras.copy()
        affine[:3, :3] = [[1.5, 0, 0], [0, 1.5, 0], [0, 0, 1.5]]
        volume = Volume(array_IJK=large.array_IJK, affine_ras=affine, modality="CT", intensity="hu")
        niftis.append(folder / f"{number}.nii.gz")
        write_nifti(volume.array_IJK, affine, niftis[-1])
        entries.append(write_stored(store, volume, f"v{number}"))
    write_index(store, entries, SPACING_MM)
    return niftis, store


def our_dataset(store: Path, views: GridViews, samples: int) -> CropDataset:
    """Return a dataset that has opened no volume yet."""
    return CropDataset(
        CropStore(store), views, dataset_config(), samples=samples, batch_size=1, seed=0
    )


def dataset_config() -> DatasetConfig:
    """Return the published window, and the first region drawn, however little body it holds."""
    window = {"ct": {"window_hu": WINDOW_HU}}
    return DatasetConfig.model_validate({"intensity": window, "candidates": 1})


def published_dataset(niftis: list[Path], cache: Path, views: GridViews) -> Any:
    """Return MONAI's dataset with the steps of the published loader for labelled abdomens."""
    low, high = WINDOW_HU
    key = ["image"]
    region = views.region_voxels
    steps: list[Callable[..., Any]] = [
        transforms.LoadImaged(key, reader="NibabelReader"),
        transforms.EnsureChannelFirstd(key),
        transforms.Orientationd(key, axcodes="RAS", labels=None),
        transforms.Spacingd(key, pixdim=SPACING_MM, mode="bilinear"),
        transforms.ScaleIntensityRanged(key, low, high, 0.0, 1.0, clip=True),
        transforms.CropForegroundd(key, source_key="image", allow_smaller=True),
        transforms.SpatialPadd(key, views.crop_size),
        transforms.RandShiftIntensityd(key, offsets=0.1, prob=0),  # random: the cache ends here
        transforms.SpatialPadd(key, region),
        transforms.RandSpatialCropd(key, region, random_size=False),
        PublishedCrops(views),
    ]
    return PersistentDataset([{"image": str(path)} for path in niftis], steps, cache)


class PublishedCrops:
    """Cut a region into base and random crops, and change each, with MONAI's transforms."""

    def __init__(self, views: GridViews) -> None:
        self.views, self.drawn = views, 0

    def __call__(self, item: dict[str, Any]) -> list[Any]:
        """Return the random crops, then the base crops."""
        views, self.drawn = self.views, self.drawn + 1
        rng = generator(0, self.drawn, Stream.SAMPLE)
        random_N3 = random_crop_starts(rng, views.random_crops, views.grid, views.crop_size)
        starts = [*random_N3.tolist(), *base_grid_starts(views.grid, views.crop_size).tolist()]
        return [self._crop(start)(item)["image"] for start in starts]

    def _crop(self, start: list[int]) -> transforms.Compose:
        key, size = ["image"], self.views.crop_size
        end = [first + length for first, length in zip(start, size, strict=True)]
        return transforms.Compose(
            [
                transforms.SpatialCropd(key, roi_start=start, roi_end=end),
                *(transforms.RandFlipd(key, prob=0.2, spatial_axis=axis) for axis in range(3)),
                transforms.RandRotate90d(key, prob=0.2, max_k=3),
                transforms.RandShiftIntensityd(key, offsets=0.1, prob=0.5),
            ]
        )


def loaders(
    store: Path, published: Any, views: GridViews, options: argparse.Namespace
) -> dict[str, Callable[[], Iterator[Any]]]:
    """Return what starts one worker of each kind."""
    ours = PretrainLoaders(
        CropStore(store),
        views,
        dataset_config(),
        LoaderConfig(volumes_per_batch=1, workers=1),
        batches=range(2 * options.samples + 1),
        seed=0,
        place=Place(rank=0, world=1, nodes=1),
    )

    def repeated() -> Iterator[Any]:
        indices = [number % len(published) for number in range(2 * options.samples + 1)]
        subset = torch.utils.data.Subset(published, indices)
        # forked, as MONAI's users have it on Linux
        return iter(MonaiLoader(subset, num_workers=1, collate_fn=list_data_collate))

    return {OURS: lambda: iter(ours.training()), PUBLISHED: repeated}


def warm(start: Callable[[], Iterator[Any]], options: argparse.Namespace) -> dict[str, float]:
    """Return samples per second, and the share of time that a training would wait."""
    torch.set_num_threads(1)
    batches, waited_s, step_s = start(), 0.0, options.step_ms / 1e3
    next(batches)  # the worker has started
    begin = time.perf_counter()
    for _ in range(options.samples):
        next(batches)
    rate = options.samples / (time.perf_counter() - begin)
    begin = time.perf_counter()
    for _ in range(options.samples):
        time.sleep(step_s)
        asked = time.perf_counter()
        next(batches)
        waited_s += time.perf_counter() - asked
    waiting = waited_s / (time.perf_counter() - begin)
    return {"samples_per_s": rate, "waiting_share": waiting, "samples": options.samples}


def cold(sampler: Sampler, files: Path, samples: int) -> float:
    """Return the median seconds of a sample whose files must be read from the disk."""
    times_s = []
    for index in range(samples):
        evict(files)
        begin = time.perf_counter()
        sampler(index)
        times_s.append(time.perf_counter() - begin)
    return median(times_s)


def evict(folder: Path) -> None:
    """Take the files of a folder out of the page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    shape, crop = " x ".join(map(str, result["volume"])), result["crop_voxels"]
    table = Table(title=f"samples of 9 + 2 crops of {crop}^3 from volumes of {shape}")
    waiting = f"waiting at {result['step_ms']:g} ms a step"
    for column in ("from", "samples/s, warm", waiting, "s per sample, cold"):
        table.add_column(column, justify="left" if column == "from" else "right", no_wrap=True)
    for name, row in result["rows"].items():
        rate, share = f"{row['samples_per_s']:.2f}", f"{row['waiting_share']:.0%}"
        table.add_row(name, rate, share, f"{row['cold_s']:.3f}")
    console = Console(width=100)
    console.print(table)
    console.print(f"ratio: {result['ratio_warm']:.1f} warm, {result['ratio_cold']:.1f} cold")
    console.print("waiting on a GPU: not measured, no training runs here")
    console.print(f"{result['claim']}: {'yes' if result['holds'] else 'NO'}")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scan", type=Path, default=SCAN, help="a CT to enlarge")
    parser.add_argument("--shape", type=int, nargs=3, default=(300, 250, 350))
    parser.add_argument("--volumes", type=int, default=4)
    parser.add_argument("--crop", type=int, default=64, help="voxels along each side of a crop")
    parser.add_argument("--samples", type=int, default=40, help="taken from each loader")
    parser.add_argument("--rounds", type=int, default=5, help="times that each loader is measured")
    parser.add_argument("--cold", type=int, default=8, help="samples read from the disk")
    parser.add_argument("--step-ms", type=float, default=100.0, help="of a training, simulated")
    parser.add_argument("--out", type=Path, help="where to write the numbers as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
