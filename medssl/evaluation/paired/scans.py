"""Scans in files as studies: prepared as `medssl prepare` does it, in a crop store of their own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from medssl.data.entry import StoreEntry
from medssl.data.placing import place_on_grid
from medssl.data.prepare_config import PrepareConfig
from medssl.data.store import CropStore
from medssl.data.store_writer import finished_entry, write_index, write_stored_volume
from medssl.errors import InputError, RejectedFileError
from medssl.evaluation.paired.studies import LeftOut
from medssl.inference.sources import find_sources, read_source
from medssl.io.volume import Volume
from medssl.reports.pairs import Pair
from medssl.runs.progress import track

SPLIT: Final = "test"
NO_CATALOG: Final = Path()


class Scans(NamedTuple):
    """What became of files: a store and a study each, or a reason."""

    store: CropStore
    pairs: tuple[Pair, ...]
    """Without reports; a study is called after the number of its file or folder, from 1."""
    left_out: tuple[LeftOut, ...]


def store_scans(
    paths: Sequence[Path], folder: Path, spacing_mm: tuple[float, float, float], modality: str
) -> Scans:
    """Read scans and write them to a crop store; what is there already is not written again.

    Args:
        paths: NIfTI files, folders of them, folders of DICOM.
        folder: Of the store.
        spacing_mm: Voxel size of the store.
        modality: What NIfTI files show, which do not say so.

    Raises:
        InputError: None can be read.
    """
    how = PrepareConfig(library=NO_CATALOG, selection="", out=folder, spacing_mm=spacing_mm)
    entries, pairs, left_out = list[StoreEntry](), list[Pair](), list[LeftOut]()
    for source in track(find_sources(paths), "read scans"):
        study_key = f"scan-{source.number:04d}"
        try:
            volumes = read_source(source, modality)
            found = [
                _stored(volume, f"{study_key}-{n}", study_key, how)
                for n, volume in enumerate(volumes, start=1)
            ]
        except (RejectedFileError, InputError) as error:
            left_out.append(LeftOut(study_key, error.problem))
            continue
        entries += found
        keys = tuple(entry.volume_key for entry in found)
        pairs.append(
            Pair(
                study_key=study_key,
                patient_key=study_key,
                split=SPLIT,
                volume_keys=keys,
                sections=(),
            )
        )
    if not pairs:
        raise InputError(
            f"none of {len(left_out)} scans can be read: {left_out[0].reason}",
            hint="give NIfTI files (.nii, .nii.gz) or folders of DICOM files",
        )
    write_index(folder, entries, spacing_mm)
    return Scans(CropStore(folder), tuple(pairs), tuple(left_out))


def _stored(volume: Volume, key: str, study_key: str, how: PrepareConfig) -> StoreEntry:
    earlier = finished_entry(how.out, key)
    if earlier is not None:
        return earlier
    array_IJK, affine_ras, statistics = place_on_grid(volume, how)
    return write_stored_volume(
        how.out,
        array_IJK,
        volume_key=key,
        patient_key=study_key,
        split=SPLIT,
        modality=volume.modality,
        intensity=volume.intensity,
        spacing_mm=how.spacing_mm,
        affine_ras=affine_ras.tolist(),
        **statistics,
    )
