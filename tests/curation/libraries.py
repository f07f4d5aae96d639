"""Small libraries, written as ingest writes them, of volumes that a test makes up or alters."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from scipy import ndimage

from medssl.curation.curate import CurateConfig
from medssl.ingest.describe import Origin, catalog_row
from medssl.ingest.measure import store_measured
from medssl.io.deidentify import ScanKeys
from medssl.io.volume import Volume
from medssl.library.catalog import write_catalog
from medssl.runs.tracking import TrackingConfig


class Scan(NamedTuple):
    """What a library holds beside the voxels."""

    volume: Volume
    patient: str = ""
    study: str = ""
    file_digest: str = ""
    source_format: str = "nifti"


def write_library(library: Path, scans: dict[str, Scan]) -> Path:
    rows = []
    for key, scan in scans.items():
        keys = ScanKeys(
            patient=scan.patient or f"patient-of-{key}",
            study=scan.study or f"study-of-{key}",
            series=f"series-of-{key}",
            instance=f"instance-of-{key}",
            patient_known=bool(scan.patient),
        )
        origin = Origin(
            source_format=scan.source_format,
            source_files=1,
        )
        file_digest = scan.file_digest or f"file-of-{key}"
        measured = store_measured(library, key, scan.volume, partial(str, file_digest))
        rows.append(catalog_row(key, keys, measured, origin))
    write_catalog(library, rows, "test-key")
    return library


def curate_config(library: Path, name: str = "all", **changes: object) -> CurateConfig:
    untracked = TrackingConfig(enabled=False)
    tree = {"library": library, "name": name, "workers": 1, "tracking": untracked, **changes}
    return CurateConfig(**tree)


def read_shipped(path: Path) -> Volume:
    """Read one of the shipped NIfTI files, on its closest RAS grid."""
    image = nib.as_closest_canonical(nib.load(path))
    is_ct = path.parent.name == "ct"
    return Volume(
        array_IJK=np.ascontiguousarray(np.asanyarray(image.dataobj)),
        affine_ras=np.asarray(image.affine, dtype=np.float64),
        modality="CT" if is_ct else "MR",
        intensity="hu" if is_ct else "arbitrary",
    )


def resampled(volume: Volume, factor: float) -> Volume:
    """The same field of view with voxels ``factor`` times as large."""
    array = volume.array_IJK.astype(np.float64)
    blur = np.sqrt(max(factor**2 - 1, 0)) / 2.3548
    array = ndimage.gaussian_filter(array, blur)
    array = ndimage.zoom(array, 1 / factor, order=1, grid_mode=True, mode="nearest")
    step = np.array(volume.shape) / np.array(array.shape)
    old_from_new = np.diag([*step, 1.0])
    old_from_new[:3, 3] = (step - 1) / 2
    return replace(
        volume,
        array_IJK=np.rint(array).astype(np.int16),
        affine_ras=volume.affine_ras @ old_from_new,
    )


def sliced(volume: Volume, start: int, stop: int) -> Volume:
    """Some of the slices, where they lie in the body."""
    affine = volume.affine_ras.copy()
    affine[:3, 3] += volume.affine_ras[:3, 2] * start
    array = np.ascontiguousarray(volume.array_IJK[:, :, start:stop])
    return replace(volume, array_IJK=array, affine_ras=affine)


def altered(volume: Volume, array: np.ndarray) -> Volume:
    """The same grid with other intensities."""
    return replace(volume, array_IJK=np.rint(array).astype(np.int16))


def deformed(volume: Volume, by_mm: float, seed: int = 0) -> Volume:
    """A made-up follow-up: smoothly moved tissue, ``by_mm`` on average (root mean square)."""
    rng = np.random.default_rng(seed)
    sigma = [20 / mm for mm in volume.spacing_mm]
    noise = [
        ndimage.gaussian_filter(rng.normal(size=volume.shape), sigma, mode="wrap") for _ in range(3)
    ]
    length = np.sqrt(np.mean(sum(part**2 for part in noise)))
    grid = np.indices(volume.shape).astype(np.float64)
    moved = [
        axis + part / length * by_mm / mm
        for axis, part, mm in zip(grid, noise, volume.spacing_mm, strict=True)
    ]
    array = ndimage.map_coordinates(
        volume.array_IJK.astype(np.float64), moved, order=1, mode="nearest"
    )
    return altered(volume, array)


def blobs(seed: int, shape: tuple[int, int, int] = (30, 28, 26), spacing_mm: float = 3.0) -> Volume:
    """A body of smooth random tissue in air, in HU."""
    rng = np.random.default_rng(seed)
    tissue = ndimage.gaussian_filter(rng.normal(size=shape), 2.5, mode="wrap")
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    body = (grid**2).sum(axis=0) < 0.8
    return Volume(
        array_IJK=np.where(body, 40 + 200 * tissue / tissue.std(), -1000).astype(np.int16),
        affine_ras=np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0]),
        modality="CT",
        intensity="hu",
    )
