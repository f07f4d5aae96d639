"""What ``medssl predict`` is told."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SerializeAsAny

from medssl.config.choice import choice
from medssl.inference.outputs.base import OUTPUTS, Output
from medssl.inference.outputs.nifti import Nifti
from medssl.io.deidentify import known_body_part
from medssl.io.limits import Limits
from medssl.io.sources.opening import FetchSettings, Source
from medssl.runs.tracking import TrackingConfig


class PredictConfig(FetchSettings):
    """Everything ``medssl predict`` reads."""

    model: Source
    """A finetune run that holds one model, one model of such a run, a MONAI bundle that
    `medssl export` wrote, or a model of the registry: `models:/NAME@ALIAS`, `models:/NAME/3`."""
    inputs: Annotated[tuple[Source, ...], Field(min_length=1)]
    """NIfTI files, folders of NIfTI or DICOM files, archives (zip, tar) of either, and addresses
    of picture archives, such as dicomweb+https://host/path with a `query`."""
    out: Path
    """Folder for the masks."""
    series: str | int | None = None
    """Which of several DICOM series: a number of the list that is shown where it is needed, a part
    of a description there (* and ? work), or `all` that fit; null: the only one that fits."""
    body_part: Annotated[str | None, AfterValidator(known_body_part)] = None
    """Which part of the body the model is for, such as chest: series of other parts are left
    out. Null: what the model's description says, if anything."""
    outputs: Annotated[
        tuple[Annotated[SerializeAsAny[Output.Config], choice(OUTPUTS)], ...],
        Field(min_length=1),
    ] = (Nifti.Config(),)
    """What predictions are written as, by the names of files in medssl/inference/outputs."""
    send: Source | None = None
    """Address of a picture archive (dicomweb+https://host/path) that DICOM outputs are sent to as
    well; `dicomweb` says who we are there."""
    report: bool = False
    """Also write a page to look at, as the output `page` does."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the network runs; `auto` takes a GPU when there is one."""
    half_precision: bool = True
    """Compute in half precision on a GPU; on the CPU it never is."""
    accept_other_modality: bool = False
    """Also predict DICOM of another modality than the model was trained on."""
    max_volume_mib: Annotated[int, Field(gt=0)] = 4096
    """A file whose header announces more is refused before anything is allocated."""
    tracking: TrackingConfig = TrackingConfig()
    """Where the run is recorded, and the registry that models are taken from."""

    @property
    def limits(self) -> Limits:
        """What readers may allocate."""
        return Limits(self.max_volume_mib * 2**20)
