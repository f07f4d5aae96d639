"""Every corruption keeps the promises of medssl.evaluation.corruptions.base."""

from dataclasses import replace

import numpy as np
import pytest

from medssl.config.choice import available, find
from medssl.evaluation.corruptions.base import Corruption
from medssl.evaluation.exam import Exam
from medssl.io.volume import Volume
from tests.finetuned import affine, phantom

NAMES = available("medssl.evaluation.corruptions")
each = pytest.mark.parametrize("name", NAMES)
grids = pytest.mark.parametrize("modality", ["CT", "MR"])


def exam(modality="MR", dtype=np.int16, shift=0):
    image, label = phantom(3)
    volume = Volume(
        array_IJK=np.clip(image + shift, -1000, None).astype(dtype),
        affine_ras=affine((1.0, 0.8, 2.5)),
        modality=modality,
    )
    return Exam(volume, label)


def built(name) -> Corruption:
    return find("medssl.evaluation.corruptions", name).Config().build()


def worst(corruption, modality):
    return max(corruption.scale(modality).severities, key=abs)


@each
@grids
def test_severity_0_is_the_scan_as_it_is(name, modality):
    seen = exam(modality)
    found = built(name).apply(seen, 0.0, np.random.default_rng(0))
    np.testing.assert_array_equal(found.volume.array_IJK, seen.volume.array_IJK)
    np.testing.assert_array_equal(found.label_IJK, seen.label_IJK)


@each
@grids
@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.float32])
def test_grid_type_and_classes_are_kept_and_something_changes(name, modality, dtype):
    seen, corruption = exam(modality, dtype), built(name)
    before = seen.volume.array_IJK.copy(), seen.label_IJK.copy()
    severity = worst(corruption, modality)
    found = corruption.apply(seen, severity, np.random.default_rng(0))
    assert found.volume.array_IJK.dtype == dtype
    assert found.volume.shape == seen.volume.shape
    np.testing.assert_array_equal(found.volume.affine_ras, seen.volume.affine_ras)
    assert found.label_IJK.shape == seen.volume.shape
    assert found.label_IJK.dtype == np.uint8
    assert set(np.unique(found.label_IJK)) <= set(np.unique(before[1]))
    assert (found.volume.array_IJK != before[0]).any()
    np.testing.assert_array_equal(seen.volume.array_IJK, before[0])  # left as it was
    np.testing.assert_array_equal(seen.label_IJK, before[1])


@each
def test_a_seed_decides_and_a_case_without_label_map_is_fine(name):
    corruption, seen = built(name), exam()._replace(label_IJK=None)
    severity = worst(corruption, "MR")
    one, same, other = (
        corruption.apply(seen, severity, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one.volume.array_IJK, same.volume.array_IJK)
    assert one.label_IJK is None
    draws = name in {"noise", "missing_slices"}
    assert (one.volume.array_IJK != other.volume.array_IJK).any() == draws


@each
def test_a_single_slice_is_fine(name):
    seen, corruption = exam(), built(name)
    flat = replace(seen.volume, array_IJK=seen.volume.array_IJK[:, :, 9:10])
    found = corruption.apply(Exam(flat), worst(corruption, "MR"), np.random.default_rng(0))
    assert found.volume.shape == flat.shape


@each
def test_it_says_what_it_is_and_in_which_unit(name):
    corruption = built(name)
    assert corruption.title
    assert corruption.scale("CT").unit
    assert 0 not in corruption.scale("CT").severities
