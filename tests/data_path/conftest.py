"""Small crop stores made of known numbers."""

import numpy as np
import pytest

from medssl.data.store import CropStore
from medssl.data.store_writer import write_index, write_stored_volume

SPACING_MM = (3.0, 3.0, 3.0)


def about(key, **changes):
    """Everything an entry needs beside its array."""
    return {
        "volume_key": key,
        "patient_key": f"patient-{key}",
        "split": "train",
        "modality": "CT",
        "intensity": "hu",
        "spacing_mm": SPACING_MM,
        "affine_ras": np.diag([*SPACING_MM, 1.0]).tolist(),
        "background": -1000.0,
        "foreground_above": -500.0,
        "p005": -990.0,
        "p995": 700.0,
        **changes,
    }


@pytest.fixture
def make_store(tmp_path):
    """Return a function: {key: array or (array, changes)} -> CropStore."""

    def make(volumes, folder="store"):
        entries = []
        for key, volume in volumes.items():
            array_IJK, changes = volume if isinstance(volume, tuple) else (volume, {})
            entries.append(
                write_stored_volume(tmp_path / folder, array_IJK, **about(key, **changes))
            )
        write_index(tmp_path / folder, entries, SPACING_MM)
        return CropStore(tmp_path / folder)

    return make


@pytest.fixture
def noise():
    """Tissue-like int16 noise, no two planes alike."""
    return np.random.default_rng(0).integers(-1000, 1000, (40, 37, 21)).astype(np.int16)
