"""Where the record of a run goes besides its folder."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from medssl.config.base import Config
from medssl.runs.manifest import FILE


class TrackingConfig(Config):
    """Where the record of a run goes besides its folder."""

    enabled: bool = True
    """Whether anything is sent to MLflow."""

    uri: str | None = None
    """The MLflow store; if not set, MLFLOW_TRACKING_URI, or else a SQLite file beside the run."""

    experiment: str = "medssl"
    """The MLflow experiment the run belongs to."""

    system_every_s: Annotated[float, Field(ge=0)] = 10.0
    """Seconds between two samples of processor, memory and GPU; 0: none."""

    @field_validator("uri")
    @classmethod
    def _holds_no_password(cls, uri: str | None) -> str | None:
        """Refuse what would end up in every record of the configuration."""
        if uri and uri != _without_credentials(uri):
            raise ValueError(
                "should not hold a user name or password, which would be recorded with the run; "
                "set MLFLOW_TRACKING_URI, or MLFLOW_TRACKING_USERNAME and _PASSWORD, instead"
            )
        return uri


@dataclass(frozen=True)
class Destination:
    """A store and an experiment in it."""

    uri: str
    experiment: str
    artifact_root: str | None

    @property
    def shown(self) -> str:
        """The URI without the user name and password that it may hold."""
        return _without_credentials(self.uri)


def _without_credentials(uri: str) -> str:
    return re.sub(r"//[^/@]*@", "//", uri)


def destination(config: TrackingConfig, folder: Path) -> Destination:
    """Return where the runs of ``folder`` are recorded."""
    uri = config.uri or os.environ.get("MLFLOW_TRACKING_URI")
    uri = uri or f"sqlite:///{_working_area(Path(folder).resolve()) / 'mlflow.db'}"
    return Destination(uri, config.experiment, artifacts_of(uri))


def artifacts_of(uri: str) -> str | None:
    """Return where a store's files go; None where its server decides.

    Left to MLflow, those of a SQLite store would go to the folder that the command is run in.
    """
    if not uri.startswith("sqlite:///"):
        return None
    database = Path(uri.removeprefix("sqlite:///")).resolve()
    return (database.parent / "mlartifacts").as_uri()


def _working_area(folder: Path) -> Path:
    """Return the folder beside whose stages ``folder`` belongs: a selection lies in a library."""
    inside = [parent for parent in folder.parents if (parent / FILE).is_file()]
    return (inside[-1] if inside else folder).parent
