"""How much one file may ask for before it is believed, and what to do with irregular stacks."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from medssl.config.base import Config

Irregular = Literal["resample", "quarantine"]


class IrregularPolicy(Config):
    """What becomes of scans whose slices form no regular rectangular stack."""

    tilt: Irregular = "resample"
    """Slices shifted sideways by a tilted gantry: shifted back onto a rectangular grid."""
    uneven: Irregular = "resample"
    """Slice distances that vary: interpolated at equal distances."""
    shear: Irregular = "resample"
    """NIfTI affines whose axes do not stand at right angles: resampled onto a rectangular grid."""
    fill_missing: Annotated[int, Field(ge=0)] = 0
    """Up to so many consecutive missing slices are interpolated, and marked as such; else the
    series is quarantined."""
    time_series: Literal["volumes", "skip"] = "volumes"
    """Many images of each place: one volume per time point, or none."""
    most_volumes: Annotated[int, Field(ge=1)] = 64
    """A series of more volumes is skipped as a time series."""
    frames_differ: Literal["flag", "quarantine"] = "flag"
    """NIfTI files whose sform and qform disagree by more than 1 % of a voxel: the sform counts
    and the volume is flagged, or the file is quarantined."""
    nifti_assume_ras: bool = False
    """Take the axes of a NIfTI file that does not say where it lies for right, front, head. The
    common readers disagree on such files, so by default they are quarantined."""
    merge_single_slices: bool = False
    """Join slices that each carry a series number of their own, where all else agrees."""


@dataclass(frozen=True)
class Limits:
    """Bounds on what readers allocate and on what they call a volume.

    Attributes:
        volume_bytes: the most voxel bytes one volume may have, as announced by its header.
        least_slices: a stack of fewer slices is no volume.
        policy: what becomes of irregular stacks.
    """

    volume_bytes: int = 4096 * 2**20
    least_slices: int = 4
    policy: IrregularPolicy = field(default_factory=IrregularPolicy)


MIB = 2.0**20
