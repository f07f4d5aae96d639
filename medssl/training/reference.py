"""How the scans looked that a model was trained on, as its encoder sees them: numbers, no scan.

A scan is a vector: the mean of the encoder's embeddings of some windows. Its distance is that of
Mahalanobis, under the covariance of the training scans, shrunk towards a sphere as there are few
(Ledoit and Wolf 2004, doi:10.1016/S0047-259X(03)00096-4). How far training scans are is measured on
those that a fit left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from torch import Tensor

from medssl.errors import InputError
from medssl.models.encoders.base import Encoder
from medssl.runs.digest import digest_bytes, digest_file
from medssl.runs.folder import atomic_path

REFERENCE: Final = "reference.safetensors"
LEAST_SCANS: Final = 4
"""Of fewer nobody can tell what is usual."""

_PARTS: Final = 10
"""At most so many fits leave scans out."""
_WINDOWS_PER_AXIS: Final = 2
_AT_ONCE: Final = 4
"""Windows; one small volume alone takes PyTorch's slow path on a CPU, several times as long."""
_DEVIATIONS: Final = 3.0
"""How many standard deviations of log distances above their mean are still usual."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What is usual for a model."""

    mean_D: Floats
    """Of the training scans' vectors."""
    precision_DD: Floats
    """Inverse of their covariance."""
    distances_N: Floats
    """How far each training scan is from the others, ascending."""

    def distance(self, vector_D: Floats) -> float:
        """Return how far a scan is."""
        away_D = vector_D - self.mean_D
        return float(np.sqrt(max(float(away_D @ self.precision_DD @ away_D), 0.0)))

    def share_closer(self, distance: float) -> float:
        """Return the share of training scans that are closer, from 0 to 1."""
        return float(np.searchsorted(self.distances_N, distance) / len(self.distances_N))

    @property
    def limit(self) -> float:
        """The distance beyond which a scan is unlike the training scans.

        Distances are taken for log-normal; the largest that was seen is usual in any case.
        """
        logs_N = np.log(np.maximum(self.distances_N, np.finfo(float).tiny))
        expected = float(np.exp(logs_N.mean() + _DEVIATIONS * logs_N.std(ddof=1)))
        return max(expected, float(self.distances_N[-1]))


def fit_reference(vectors_ND: Floats) -> Reference | None:
    """Return what is usual among scans; None of fewer than ``LEAST_SCANS``, or of no numbers."""
    count = len(vectors_ND)
    if count < LEAST_SCANS or not np.isfinite(vectors_ND).all():
        return None
    parts = np.arange(count) % min(count, _PARTS)
    distances_N = np.empty(count)
    for part in np.unique(parts):
        others = _fitted(vectors_ND[parts != part])
        for index in np.flatnonzero(parts == part):
            distances_N[index] = others.distance(vectors_ND[index])
    mean_D, precision_DD = _moments(vectors_ND)
    return Reference(mean_D=mean_D, precision_DD=precision_DD, distances_N=np.sort(distances_N))


def _fitted(vectors_ND: Floats) -> Reference:
    mean_D, precision_DD = _moments(vectors_ND)
    return Reference(mean_D=mean_D, precision_DD=precision_DD, distances_N=np.empty(0))


def _moments(vectors_ND: Floats) -> tuple[Floats, Floats]:
    from sklearn.covariance import LedoitWolf

    fit = LedoitWolf().fit(vectors_ND)
    # a direction in which nothing varies must not make every distance infinite
    floor = np.finfo(float).eps * max(1.0, float(np.square(fit.location_).max()))
    spread_DD = fit.covariance_ + floor * np.eye(len(fit.location_))
    return np.asarray(fit.location_), np.asarray(np.linalg.inv(spread_DD))


@torch.inference_mode()
def scan_vector(
    encoder: Encoder, image_1IJK: Tensor, window: Sequence[int], device: torch.device
) -> Floats:
    """Return the vector of a scan, ``(embed_dim,)``.

    Args:
        encoder: In evaluation mode.
        image_1IJK: The scan as the network sees it; padded where it is smaller than a window.
        window: Voxels along I, J, K that the encoder sees at once.
        device: Where the encoder is.
    """
    missing = [max(side - have, 0) for side, have in zip(window, image_1IJK.shape[1:], strict=True)]
    padding = [part for count in missing[::-1] for part in (count // 2, count - count // 2)]
    padded = F.pad(image_1IJK, padding) if any(missing) else image_1IJK
    starts = [
        sorted({round(place) for place in np.linspace(0, whole - side, _WINDOWS_PER_AXIS)})
        for side, whole in zip(window, padded.shape[1:], strict=True)
    ]
    windows = [padded[(slice(None), *places)] for places in _windows(starts, window)]
    vectors = [
        _embedded(encoder, some_B1IJK.to(device))
        for some_B1IJK in torch.split(torch.stack(windows), _AT_ONCE)
    ]
    return np.asarray(torch.cat(vectors).mean(0).numpy(), np.float64)


def _embedded(encoder: Encoder, windows_B1IJK: Tensor) -> Tensor:
    """Return the embeddings of windows; of a flat encoder the mean over the slices of each."""
    flat = encoder.dims < windows_B1IJK.ndim - 2
    batch = windows_B1IJK.movedim(-1, 1).flatten(0, 1) if flat else windows_B1IJK
    vectors = encoder.embed(batch).double().cpu()
    return vectors.reshape(len(windows_B1IJK), -1, vectors.shape[1]).mean(1)


def _windows(starts: Sequence[Sequence[int]], window: Sequence[int]) -> list[tuple[slice, ...]]:
    return [
        tuple(slice(start, start + side) for start, side in zip(corner, window, strict=True))
        for corner in product(*starts)
    ]


def save_reference(folder: Path, reference: Reference) -> str:
    """Write ``reference.safetensors`` into ``folder``; return its SHA-256."""
    content = save({name: np.ascontiguousarray(value) for name, value in vars(reference).items()})
    with atomic_path(folder / REFERENCE) as path:
        path.write_bytes(content)
    return digest_bytes(content)


def load_reference(folder: Path, digest: str) -> Reference | None:
    """Return what is usual for the model in ``folder``; None where nothing was recorded.

    Raises:
        InputError: The file is missing, damaged, or not the one of that SHA-256.
    """
    if not digest:
        return None
    path = folder / REFERENCE
    if not path.is_file() or digest_file(path) != digest:
        raise InputError(
            f"{folder}: {REFERENCE} is not the file that the model's description names",
            hint="the file is damaged, or was left out or replaced; export the model again",
        )
    try:
        tensors: dict[str, Any] = load_file(path)
        return Reference(**tensors)
    except (SafetensorError, TypeError) as error:
        raise InputError(f"{folder}: {REFERENCE} cannot be read") from error
