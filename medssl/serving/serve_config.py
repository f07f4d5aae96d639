"""What ``medssl serve`` is told."""

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SerializeAsAny

from medssl.config.base import Config
from medssl.config.choice import choice
from medssl.inference.outputs.base import OUTPUTS, Output
from medssl.inference.outputs.nifti import Nifti
from medssl.io.limits import Limits
from medssl.io.sources.archive import ArchiveConfig
from medssl.runs.tracking import TrackingConfig

_ONE_STUDY = ArchiveConfig(most_members=20_000, most_gib=8.0)


class ServeLimits(Config):
    """What one request may ask for, and how many may wait."""

    most_body_mib: Annotated[float, Field(gt=0)] = 1024.0
    """A request whose body is larger is refused before it is read whole."""
    max_volume_mib: Annotated[int, Field(gt=0)] = 4096
    """A scan whose header announces more is refused before anything is allocated."""
    archive: ArchiveConfig = _ONE_STUDY
    """What a zip or tar file may ask for."""
    waiting: Annotated[int, Field(ge=0)] = 4
    """How many requests may wait, or be on their way, while one is predicted."""
    upload_s: Annotated[float, Field(gt=0)] = 120.0
    """A body that takes longer to arrive is given up."""
    time_s: Annotated[float, Field(gt=0)] = 600.0
    """How long a request may take once its body is here, waiting included."""

    @property
    def body_bytes(self) -> int:
        """The most bytes of a body."""
        return int(self.most_body_mib * 2**20)

    @property
    def volumes(self) -> Limits:
        """What readers may allocate."""
        return Limits(self.max_volume_mib * 2**20)


class ServeConfig(Config):
    """Everything ``medssl serve`` reads."""

    model: str
    """A model as `medssl predict` takes it: a folder, a bundle, or one of the registry."""
    host: str = "127.0.0.1"
    """Address to listen at. Any other than this machine's own needs a token."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """Port to listen at; 0: any that is free."""
    token_file: Path | None = None
    """A file with the token that callers must send, readable by its owner only. Null: the
    environment's MEDSSL_SERVE_TOKEN; where that is empty too, nobody is asked for one."""
    hosts: tuple[str, ...] = ()
    """Names that callers may know this service by; others are refused, so that no web page can
    lead a browser here. Empty: those of this machine where it alone is served, else any."""
    outputs: Annotated[
        tuple[Annotated[SerializeAsAny[Output.Config], choice(OUTPUTS)], ...],
        Field(min_length=1),
    ] = (Nifti.Config(),)
    """What masks may be asked for as, by the names of files in medssl/inference/outputs; the first
    one is the default."""
    body_part: str | None = None
    """Which part of the body the model is for; null: what the model's description says, if any."""
    accept_other_modality: bool = False
    """Also predict DICOM of another modality than the model was trained on."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the network runs; `auto` takes a GPU when there is one."""
    half_precision: bool = True
    """Compute in half precision on a GPU; on the CPU it never is."""
    limits: ServeLimits = ServeLimits()
    """What one request may ask for, and how many may wait."""
    describe: bool = False
    """Answer /openapi.json, which describes the service to programs."""
    tracking: TrackingConfig = TrackingConfig()
    """The registry that models are taken from; requests are recorded nowhere."""

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the service."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
