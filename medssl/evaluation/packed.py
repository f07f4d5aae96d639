"""Masks of many cases in memory: a few kilobytes each, for the few that will be looked at."""

import zlib
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray


class PackedMasks(NamedTuple):
    """Masks as compressed bits."""

    shape: tuple[int, ...]
    bits: bytes

    @classmethod
    def of(cls, masks_CIJK: NDArray[np.bool_]) -> Self:
        """Return masks packed."""
        return cls(masks_CIJK.shape, zlib.compress(np.packbits(masks_CIJK).tobytes(), level=1))

    def unpacked(self) -> NDArray[np.bool_]:
        """Return the masks as they were."""
        packed = np.frombuffer(zlib.decompress(self.bits), np.uint8)
        count = int(np.prod(self.shape))
        return np.unpackbits(packed, count=count).astype(np.bool_).reshape(self.shape)
