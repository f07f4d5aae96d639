"""What ``medssl prepare`` is told."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from medssl.config.base import Config
from medssl.runs.tracking import TrackingConfig
from medssl.runs.workers import Workers

SpacingMM = Annotated[float, Field(gt=0)]


class PrepareConfig(Config):
    """Everything ``medssl prepare`` reads."""

    library: Path
    """The library that ``medssl ingest`` wrote."""
    selection: str
    """Name of the selection that ``medssl curate`` made of it."""
    out: Path
    """Folder of the crop store."""
    spacing_mm: tuple[SpacingMM, SpacingMM, SpacingMM] = (1.5, 1.5, 1.5)
    """Distance between voxel centres in the store, towards right, anterior, superior."""
    crop_foreground: bool = True
    """Cut away the air around the body; archives hold much of it."""
    margin_mm: Annotated[float, Field(ge=0)] = 10.0
    """Air left around the body."""
    slice_weights: bool = True
    """Carry the weights of slices, where the selection has a sampling table; training draws by
    them."""
    views: bool = False
    """Also prepare the other reconstructions of kept scans; training takes one per epoch."""
    align_sequences: bool = False
    """Put the volumes of one study that share a frame of reference on one grid, that of the one
    with the finest voxels, and call them a group."""
    min_overlap: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of that volume's box that the volumes of a group must all show; others stay alone."""
    contrast_table: Path | None = None
    """CSV with the columns volume_key and contrast (a word such as T1w, or PD, R1, R2s, MT for
    quantitative maps), and group, for volumes of one frame that do not state it, as NIfTI."""
    workers: Workers = 0
    """Processes, 0 for one per core; or a cluster, as in `ingest`."""
    tracking: TrackingConfig = TrackingConfig()
    """Where the stage is recorded."""
