"""How much one file may ask for before it is believed."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds on what readers allocate and on what they call a volume.

    Attributes:
        volume_bytes: the most voxel bytes one volume may have, as announced by its header.
        least_slices: a stack of fewer slices is no volume.
    """

    volume_bytes: int = 4096 * 2**20
    least_slices: int = 4


MIB = 2.0**20
