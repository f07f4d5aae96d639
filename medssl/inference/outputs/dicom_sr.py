"""Answers about whole scans as DICOM structured reports beside their series."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from medssl.inference.outputs.base import Output
from medssl.inference.predicted import Predicted
from medssl.io.dicom.derived import write_object
from medssl.io.dicom.report_writer import report_object
from medssl.io.dicom.structure_codes import CodeConfig


class DicomSr(Output):
    """``<name>_sr.dcm``: every answer of a classification or regression as a measurement.

    What a classification comes down to is there as well: the likeliest class, or for each of
    several findings whether it is likelier than not.
    """

    class Config(Output.Config):
        codes: dict[str, CodeConfig] = Field(default_factory=dict)
        """Codes of answers, by the names that the model gives them, and of columns of classes."""

    config: Config
    dicom = True

    def write(self, predicted: Predicted, folder: Path) -> Sequence[Path]:
        """Write the answers about a whole scan."""
        if not predicted.answers:
            return ()
        derived = report_object(
            predicted.slices,
            predicted.answers,
            modality=predicted.volume.modality,
            model=predicted.description.title,
            conclusions=predicted.conclusions,
            codes_of=self.config.codes,
        )
        path = folder / f"{predicted.name}_sr.dcm"
        write_object(derived, path)
        return (path,)
