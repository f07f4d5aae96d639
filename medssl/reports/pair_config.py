"""What ``medssl reports pair`` and ``medssl reports check`` are told."""

from pathlib import Path
from typing import Literal

from medssl.config.base import Config
from medssl.reports.reading import ReadingConfig
from medssl.reports.sources import ReportSource
from medssl.runs.tracking import TrackingConfig


class CheckConfig(Config):
    """Everything ``medssl reports check`` reads."""

    sources: ReportSource
    """The reports."""
    reading: ReadingConfig = ReadingConfig()
    """How they are understood."""


class PairConfig(CheckConfig):
    """Everything ``medssl reports pair`` reads."""

    library: Path
    """The library that `medssl ingest` wrote."""
    selection: str
    """Name of the selection that `medssl curate` made of it: its splits are those of the pairs."""
    key_file: Path
    """The secret key that `ingest` made the pseudonyms with."""
    out: Path
    """Folder of the pairs."""
    several: Literal["refuse", "latest", "longest", "join"] = "refuse"
    """Several reports for one study: refuse all of them, take the one with the latest
    `sources.date` or the longest, or join them into one."""
    tracking: TrackingConfig = TrackingConfig()
    """Where the stage is recorded."""
