"""The settings of ``medssl ingest``."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from medssl.config.base import Config
from medssl.ingest.convert import CONVERSION_VERSION, conversion_settings
from medssl.io.limits import IrregularPolicy, Limits
from medssl.io.sources.opening import Source, SourceSettings
from medssl.runs.digest import digest_json
from medssl.runs.tracking import TrackingConfig
from medssl.runs.workers import Workers


def _patient_pattern(pattern: str | None) -> str | None:
    if pattern is not None:
        try:
            named = re.compile(pattern).groupindex
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        if "patient" not in named:
            raise ValueError("needs a group named patient, such as (?P<patient>[a-z]+_p[0-9]+)_")
    return pattern


class FollowConfig(Config):
    """How a source that grows is watched."""

    interval_s: Annotated[float, Field(gt=0)] = 60.0
    """Pause from the end of one round to the start of the next."""
    quiet_s: Annotated[float, Field(ge=0)] = 30.0
    """A folder in which a file is younger than this is still being written: it waits."""


class IngestConfig(SourceSettings):
    """Everything ``medssl ingest`` reads."""

    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    """Folders, files and archives (zip, tar) to read, never written to; or addresses, such as
    s3://bucket/folder."""
    library: Path
    """The folder to make or to add to."""
    key_file: Path
    """The secret key of the pseudonyms. Keep it apart from the library, and keep it: without it
    new scans of a patient cannot be joined to the old ones."""
    create_key: bool = False
    """Make a new key where `key_file` does not exist, instead of refusing to run."""
    patient_pattern: Annotated[str | None, AfterValidator(_patient_pattern)] = None
    """Regular expression with a group `patient`, searched in a NIfTI file's path within its
    source; files of one patient never end in different splits. Default: BIDS, sub-XX."""
    modalities: dict[str, Literal["CT", "MR", "PT"]] = Field(default_factory=dict)
    """Glob on a NIfTI file's path within its source -> modality; the first that fits counts. The
    format itself does not tell; without a glob the modality is "unknown"."""
    exclude: tuple[str, ...] = ()
    """Globs of files to leave out, such as `*/labels/*`; they are counted as skipped."""
    min_slices: Annotated[int, Field(ge=1)] = 4
    """A stack of fewer slices is no volume."""
    max_volume_mib: Annotated[int, Field(gt=0)] = 4096
    """A file whose header announces more is refused before anything is allocated."""
    irregular: IrregularPolicy = IrregularPolicy()
    """What becomes of tilted, uneven or incomplete stacks, and of time series."""
    ocr: bool = False
    """Look for text in the first, middle and last slice of every scan, and quarantine those that
    show some. Needs `pip install 'medssl[ocr]'`, and about half a second per scan."""
    workers: Workers = 2
    """Processes that convert, 0 for one per core; or `dask://host:port`; or a YAML file that
    describes a cluster; or `inline`: in this process, where a bad file may end it."""
    follow: FollowConfig | None = None
    """Go on forever: look again and again for what is new. `{}` for the usual pauses."""
    repair: bool = False
    """Read every volume of the library back, and convert again those that are damaged."""
    tracking: TrackingConfig = TrackingConfig()
    """Where the run is recorded."""

    @model_validator(mode="after")
    def _key_lies_outside_the_library(self) -> Self:
        if self.key_file.resolve().is_relative_to(self.library.resolve()):
            raise ValueError("key_file must not lie in the library, which it would lay open")
        return self

    @model_validator(mode="after")
    def _listener_follows(self) -> Self:
        listens = any(source.lower().startswith("scp://") for source in self.sources)
        if listens and self.follow is None:
            raise ValueError("an scp:// source waits for others to send: add --follow")
        return self

    @property
    def limits(self) -> Limits:
        """What readers may allocate, and what they call a volume."""
        return Limits(self.max_volume_mib * 2**20, self.min_slices, self.irregular)

    def settings_digest(self) -> str:
        """Return what changes with every setting that makes another library of the same files."""
        names = {"patient_pattern", "modalities", "exclude", "archive"}
        return digest_json(
            [
                CONVERSION_VERSION,
                conversion_settings(self.limits, ocr=self.ocr),
                self.model_dump(mode="json", include=names),
            ]
        )
