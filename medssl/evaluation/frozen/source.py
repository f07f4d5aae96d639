"""Volumes with something known about them, on the grid and the scale that an encoder expects."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medssl.data.normalize import IntensityConfig
from medssl.data.preprocessing import PreprocessingConfig, as_metatensor, compose, in_memory
from medssl.data.store import INDEX, CropStore, volume_file
from medssl.errors import InputError
from medssl.labelled.cases import PARTS, LabelledCase, LabelledSet, Part, read_image
from medssl.labelled.read import read_labelled
from medssl.runs.digest import digest_file, digest_json
from medssl.training.probe import check_known

Values = Mapping[str, str]


class Grid(NamedTuple):
    """What an encoder was trained to see."""

    spacing_mm: tuple[float, float, float]
    intensity: IntensityConfig


class Source(ABC):
    """A set of volumes with something known about them."""

    cases: Sequence[LabelledCase]
    values: Sequence[Values]
    """Of each case: column -> what is written there; "" where it is not known."""
    folds: Sequence[Mapping[Part, Sequence[str]]]
    """Case keys of the parts of every fold that the set itself declares."""
    digest: str

    @abstractmethod
    def scaled(self, case: LabelledCase, grid: Grid) -> NDArray[np.float32]:
        """Return a whole volume ``(I, J, K)``, resampled, its values in [0, 1]."""


class LabelledFiles(Source):
    """A labelled set: resampled and scaled as ``medssl finetune`` does it."""

    def __init__(self, labelled: LabelledSet) -> None:
        self.cases, self.folds, self.digest = labelled.cases, labelled.folds, labelled.digest
        self.values = [{**_shown(case, labelled.labels), **case.targets} for case in self.cases]
        self._modality = labelled.modality

    def scaled(self, case: LabelledCase, grid: Grid) -> NDArray[np.float32]:
        """Return the whole volume; Hounsfield units as CT, everything else as MR."""
        volume = read_image(case, self._modality)
        intensity = grid.intensity.ct if volume.intensity == "hu" else grid.intensity.mr
        config = PreprocessingConfig(spacing_mm=grid.spacing_mm, intensity=intensity)
        image = as_metatensor(volume.array_IJK, volume.affine_ras)
        prepared = compose(in_memory(config.specs()))({"image": image})["image"][0]
        scaled_IJK: NDArray[np.float32] = np.asarray(prepared.numpy(), np.float32)
        return scaled_IJK


def _shown(case: LabelledCase, labels: Sequence[str]) -> dict[str, str]:
    """Return for each class, the background apart, whether the case's label map shows it."""
    if case.label is None:
        return {}
    return {name: str(int(n in case.classes)) for n, name in enumerate(labels[1:], start=1)}


class StoredVolumes(Source):
    """Volumes of a crop store, of which a table says more."""

    def __init__(self, store: CropStore, table: Path) -> None:
        self._store, rows = store, _read_table(table)
        check_known(table, rows.keys(), store)
        self.values, self.folds = list(rows.values()), ()
        self.cases = [_stored_case(store, key, values) for key, values in rows.items()]
        self.digest = digest_json([store.digest, digest_file(table)])

    def scaled(self, case: LabelledCase, grid: Grid) -> NDArray[np.float32]:
        """Return the whole volume, by the percentiles that the store keeps.

        Raises:
            InputError: The store has another spacing than the encoder expects.
        """
        if not np.allclose(grid.spacing_mm, self._store.spacing_mm):
            raise InputError(
                f"the store has a spacing of {self._store.spacing_mm} mm, the encoder was trained "
                f"at {grid.spacing_mm}",
                hint="prepare a store at that spacing",
            )
        entry = self._store.entry(case.case_key)
        stored_IJK = self._store.read(case.case_key, (0, 0, 0), entry.shape)
        return grid.intensity.normalize(stored_IJK, entry)


def _stored_case(store: CropStore, key: str, values: Values) -> LabelledCase:
    entry = store.entry(key)
    return LabelledCase(
        case_key=key,
        patient_key=entry.patient_key,
        image=volume_file(store.path, key),
        targets=values,
        part=next((part for part in PARTS if part == entry.split), None),
    )


def _read_table(table: Path) -> dict[str, dict[str, str]]:
    try:
        frame = pd.read_csv(table, dtype=str, keep_default_na=False)
        keys = frame.pop("volume_key")
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            f"{table}: not a table of labels ({type(error).__name__})",
            hint="a CSV file with the column volume_key and others that say something of it",
        ) from None
    if keys.duplicated().any():
        raise InputError(
            f"{table}: {keys.duplicated().sum()} volume(s) have more than one row",
            hint="give each volume one row",
        )
    return {
        str(key): {str(name): str(value) for name, value in row.items()}
        for key, row in zip(keys, frame.to_dict("records"), strict=True)
    }


def open_source(dataset: Path, table: Path | None) -> Source:
    """Return the volumes of a labelled set, or of a crop store and a table.

    Raises:
        InputError: There is no such set, it has problems, or the table does not fit the store.
    """
    stored = (dataset / INDEX).is_file()
    if stored and table is None:
        raise InputError(
            f"{dataset}: a crop store knows nothing to ask an encoder about",
            hint="give `table`: a CSV file with the column volume_key and others",
        )
    if table is None:
        return LabelledFiles(read_labelled(dataset))
    return StoredVolumes(CropStore(dataset), table)
