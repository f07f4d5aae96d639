"""A volume into the library, and what its row says of its voxels, in one go."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from medssl.io.geometry import to_closest_ras
from medssl.io.narrow import VoxelArray
from medssl.io.volume import Volume
from medssl.library.fingerprints.perceptual import Perceptual, perceptual
from medssl.library.fingerprints.voxel_digest import voxel_digests
from medssl.library.pictures import three_planes
from medssl.library.small_integers import are_small, histogram
from medssl.library.volumes import write_volume

T = TypeVar("T")


@dataclass(frozen=True)
class Measured:
    """A volume as it lies in the library, and what was found out on the way."""

    volume: Volume
    file_digest: str
    voxel_digest: str
    perceptual: Perceptual
    statistics: dict[str, float]


def store_measured(
    library: Path, volume_key: str, volume: Volume, file_digest: Callable[[], str], threads: int = 1
) -> Measured:
    """Write ``volume`` as ``write_volume`` does, and measure it meanwhile.

    Neither what is found nor what is written depends on the number of threads.
    """
    turned = to_closest_ras(volume)
    array, intensity = turned.array_IJK, turned.intensity
    with _pool(threads) as pool:
        signatures = _begin(pool, perceptual, array, intensity, turned.slice_axis)
        content = _begin(pool, file_digest)
        numbers = _begin(pool, statistics, array)
        digests = _begin(pool, voxel_digests, array, intensity, turned.slice_axis)
        stored = write_volume(
            library,
            volume_key,
            turned,
            lambda: digests().slices,
            lambda: three_planes(turned, numbers()["p01"], numbers()["p99"]),
            signatures,
            pool,
        )
        return Measured(stored, content(), digests().volume, signatures(), numbers())


@contextmanager
def _pool(threads: int) -> Iterator[ThreadPoolExecutor | None]:
    """Yield a pool, or None for one thread: that is the calling one, which would only wait."""
    if threads == 1:
        yield None
        return
    with ThreadPoolExecutor(threads) as pool:
        yield pool


def _begin(
    pool: ThreadPoolExecutor | None, function: Callable[..., T], *arguments: object
) -> Callable[[], T]:
    """Return what gives the result; without a pool it is worked out when first asked for."""
    if pool is None:
        return cache(partial(function, *arguments))
    return pool.submit(function, *arguments).result


def statistics(array: VoxelArray) -> dict[str, float]:
    """Return the extremes, the 1st and 99th percentile, mean and standard deviation of ``array``.

    The percentiles are voxels of the volume, never interpolated. ``saturated_share`` is the share
    of voxels that are as large as the largest.
    """
    if are_small(array.dtype):
        counted = histogram(array)
        low, high = counted.values[0], counted.values[-1]
        p01, p99 = counted.percentiles((1, 99))
        mean, std = counted.mean, counted.std
        saturated = counted.counts[-1]
    else:
        low, high = array.min(), array.max()
        p01, p99 = np.percentile(array, (1, 99), method="inverted_cdf")
        mean, std = array.mean(dtype=np.float64), array.std(dtype=np.float64)
        saturated = np.count_nonzero(array == high)
    return {
        "min": float(low),
        "max": float(high),
        "p01": float(p01),
        "p99": float(p99),
        "mean": float(mean),
        "std": float(std),
        "saturated_share": float(saturated / array.size),
    }
