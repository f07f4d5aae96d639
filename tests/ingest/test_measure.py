"""What is measured of a volume on its way into the library."""

import numpy as np
import pytest

from medssl.ingest.measure import statistics, store_measured
from medssl.io.volume import Volume
from medssl.library.fingerprints.dct256 import dct256
from medssl.library.fingerprints.perceptual import perceptual
from medssl.library.fingerprints.voxel_digest import voxel_digests
from medssl.library.volumes import read_slices, read_volume, volume_path
from tests import phantoms

AFFINE = phantoms.affine_ras((5, 4, 3))


@pytest.mark.parametrize("intensity", ["hu", "arbitrary"])
def test_it_is_the_same_for_any_number_of_threads(tmp_path, intensity):
    volume = Volume(
        array_IJK=phantoms.phantom(AFFINE, (40, 50, 60)).astype(np.int16),
        affine_ras=AFFINE,
        modality="CT",
        intensity=intensity,
    )
    found = {}
    for threads in (1, 3):
        library = tmp_path / str(threads)
        found[threads] = store_measured(library, "key", volume, lambda: "bytes", threads)
        stored, slices = read_volume(library, "key"), read_slices(library, "key")
        digests = voxel_digests(stored.array_IJK, intensity, stored.slice_axis)
        assert (found[threads].voxel_digest, slices.digests) == (digests.volume, digests.slices)
        array = np.ascontiguousarray(stored.array_IJK)
        signatures = perceptual(array, intensity, stored.slice_axis)
        assert found[threads].perceptual == slices.perceptual == signatures
        assert (signatures.dct_full, signatures.dct_bbox) == dct256(array, intensity)
        assert found[threads].statistics == statistics(np.ascontiguousarray(stored.array_IJK))
    one, other = (volume_path(tmp_path / name, "key").read_bytes() for name in "13")
    assert one == other


def test_what_goes_wrong_in_a_thread_reaches_the_caller(tmp_path):
    volume = Volume(
        array_IJK=np.zeros((4, 4, 4), np.int16),
        affine_ras=np.eye(4),
        modality="CT",
        intensity="hu",
    )
    with pytest.raises(ZeroDivisionError):
        store_measured(tmp_path, "key", volume, lambda: str(1 // 0), 2)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_saturation_is_the_share_of_the_largest_value(dtype):
    array = np.arange(60).reshape(3, 4, 5).clip(0, 50).astype(dtype)
    assert statistics(array)["saturated_share"] == np.mean(array == 50) == 10 / 60
