"""Whole volumes as one embedding each, and two crops of each as an augmentation shows them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from medssl.data.covering import covering_starts
from medssl.errors import ConfigError, InputError
from medssl.models.encoders.base import Encoder, pooled
from medssl.runs.folder import atomic_path

Size3 = tuple[int, int, int]
Floats = NDArray[np.float32]
Rows = Sequence[Mapping[str, Any]]
"""One a case, as ``write_rows`` writes them."""
_AT_ONCE = 4
"""Patches that are embedded together."""
_FLAT = 2


class Description(NamedTuple):
    """What an encoder makes of one volume."""

    embedding_D: Floats
    levels: tuple[Floats, ...]
    """The mean of each map of the pyramid over space, finest first."""


def check_patch(encoder: Encoder, size: Size3) -> None:
    """Raise ConfigError unless the encoder can read patches of ``size``."""
    coarsest = max(encoder.strides)
    if any(length % coarsest for length in size[: encoder.dims]):
        raise ConfigError(
            f"patches of {size} voxels are no multiple of {coarsest}, the coarsest stride of the "
            "encoder",
            hint=f"set patch_voxels to multiples of {coarsest}",
        )


def view_size(encoder: Encoder, size: Size3) -> Size3:
    """Return the voxels of a patch; for an encoder of slices it is one slice."""
    return (*size[:2], 1) if encoder.dims == _FLAT else size


def box_of(volume_IJK: Floats, start: Sequence[int], size: Sequence[int]) -> Floats:
    """Return one box of a volume; what lies outside it is 0, as air or the darkest voxels are."""
    found = np.zeros(tuple(size), np.float32)
    lengths = zip(start, size, volume_IJK.shape, strict=True)
    inside = [(max(first, 0), min(first + n, length), first) for first, n, length in lengths]
    target = tuple(slice(a - first, b - first) for a, b, first in inside)
    found[target] = volume_IJK[tuple(slice(a, b) for a, b, _ in inside)]
    return found


def as_input(boxes: Iterable[Floats], encoder: Encoder, device: torch.device) -> Tensor:
    """Return boxes as a batch ``(B, C, I, J[, K])``; further channels repeat the first."""
    x_B1IJK = torch.from_numpy(np.stack(list(boxes)))[:, None].to(device)
    if encoder.dims == _FLAT:
        x_B1IJK = x_B1IJK[..., 0]
    channels = int(getattr(encoder.config, "in_channels", 1))
    return x_B1IJK.expand(-1, channels, *x_B1IJK.shape[2:])


@torch.inference_mode()
def describe(
    encoder: Encoder, volume_IJK: Floats, size: Size3, *, most: int, device: torch.device
) -> Description:
    """Return the mean over patches that cover a volume, each counting alike.

    Patches touch or overlap evenly; where more than ``most`` would be needed along an axis, they
    leave gaps between them. A volume smaller than a patch is centred in it. For an encoder of
    slices patches are parts of axial slices.

    Args:
        encoder: In evaluation mode, on ``device``.
        volume_IJK: Resampled and scaled.
        size: Voxels of a patch.
        most: Patches along each axis, at most.
        device: Where the encoder is.
    """
    size = view_size(encoder, size)
    starts = covering_starts(volume_IJK.shape, size, most)
    embeddings, levels = list[Tensor](), list[list[Tensor]]()
    for first in range(0, len(starts), _AT_ONCE):
        boxes = (box_of(volume_IJK, start, size) for start in starts[first : first + _AT_ONCE])
        features = encoder.features(as_input(boxes, encoder, device))
        embeddings.append(encoder.pool(features))
        levels.append([pooled(level) for level in features])
    return Description(_mean(embeddings), tuple(map(_mean, zip(*levels, strict=True))))


def _mean(parts: Sequence[Tensor]) -> Floats:
    mean: Floats = torch.cat(list(parts)).double().mean(0).float().cpu().numpy()
    return mean


def write_rows(path: Path, rows: Rows) -> None:
    """Write rows as Parquet, whole or not at all.

    ``volume_key`` and ``embedding`` are what ``medssl curate`` reads; curation takes the mean of
    several rows of a volume, here there is one each.
    """
    with atomic_path(path) as partial:
        pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), partial)


def read_rows(path: Path, keys: Sequence[str]) -> Rows | None:
    """Return the rows of ``keys``; None where there are none, or others.

    Raises:
        InputError: The file is damaged.
    """
    if not path.is_file():
        return None
    try:
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path}: the table of embeddings is damaged ({type(error).__name__})",
            hint="delete it, and run the same command again",
        ) from None
    return rows if [row["volume_key"] for row in rows] == list(keys) else None


def column(rows: Rows, name: str) -> Tensor:
    """Return ``(N, D)`` a column of vectors, or ``(N,)`` one of numbers."""
    return torch.tensor([row[name] for row in rows], dtype=torch.float64)


def level_names(rows: Rows) -> Iterator[str]:
    """Yield the names of the columns that hold maps of the pyramid, finest first."""
    number = 0
    while f"level_{number}" in rows[0]:
        yield f"level_{number}"
        number += 1
