"""Keep a slice when its perceptual hash differs enough from those of the kept ones nearby."""

from typing import Annotated, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from medssl.curation.slices import VolumeSlices
from medssl.curation.strategies.base import Floats, Leader, Places

Kind = Literal["dct256", "dhash64"]
Order = Literal["anatomical", "lexicographic"]

DEFAULT_BITS: Final[dict[Kind, int]] = {"dct256": 72, "dhash64": 6}


class Hash(Leader):
    """Hamming distance of perceptual hashes.

    ``dct256`` compares the signatures made during ingestion and reads no voxel. ``dhash64`` with
    ``order: lexicographic`` is the published "Hash-6" (Wolf et al. 2024, arXiv 2410.14524), plus
    the two guards; only to compare with it.
    """

    class Config(Leader.Config):
        kind: Kind = "dct256"
        """256 bits of a cosine transform, or the 64 bits of imagehash.dhash."""
        max_bits: Annotated[int, Field(ge=0)] | None = None
        """Slices that differ in no more bits are alike; null for 72 of 256, and 6 of 64."""
        order: Order = "anatomical"
        """Along the body, or as numbered files sort: 0, 1, 10, 100, 101, ..., 2, 20."""

    config: Config
    is_distance = True

    @property
    def spec(self) -> str:
        """Name the hash too."""
        return f"{self.config.name}.{self.config.kind}/{self.version}"

    @property
    def threshold(self) -> float:
        """Return the most bits in which two slices are alike."""
        bits = self.config.max_bits
        return float(DEFAULT_BITS[self.config.kind] if bits is None else bits)

    def ranking(self, slices: VolumeSlices) -> list[int]:
        """Order by place along the body, or by file names without leading zeros."""
        places = range(len(slices))
        return sorted(places, key=str) if self.config.order == "lexicographic" else list(places)

    def describe(self, slices: VolumeSlices) -> NDArray[np.uint64]:
        """Return (N, words) signatures."""
        if self.config.kind == "dhash64":
            from medssl.library.fingerprints.dhash64 import dhash64, min_max_8_bit

            planes = np.moveaxis(slices.volume.array_IJK, slices.slice_axis, 0)
            shown = planes[:, ::-1, ::-1].swapaxes(1, 2)  # as viewers do: right and front first
            return dhash64(min_max_8_bit(shown))[:, None]
        words = np.frombuffer(b"".join(slices.dct256), dtype="<u8")
        return words.reshape(len(slices), -1)

    def scores(self, described: NDArray[np.uint64], one: int, others: Places) -> Floats:
        """Count the bits that differ."""
        differ = np.bitwise_count(described[others] ^ described[one])
        bits: Floats = differ.sum(axis=1, dtype=np.int64).astype(np.float64)
        return bits
