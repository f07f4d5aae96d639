"""Masks as DICOM SEG beside the series they were drawn on."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from medssl.inference.outputs.base import Output
from medssl.inference.predicted import Predicted
from medssl.io.dicom.derived import write_object
from medssl.io.dicom.segmentation_writer import segmentation_object
from medssl.io.dicom.structure_codes import CodeConfig


class DicomSeg(Output):
    """``<name>_seg.dcm``: one segment per structure, in the frame of reference of the series.

    The object carries the header of its study, identifiers included, as DICOM asks for.
    """

    class Config(Output.Config):
        codes: dict[str, CodeConfig] = Field(default_factory=dict)
        """Codes of structures, by the names that the model gives them; the others are looked up
        in medssl/io/dicom/structure_codes.yaml."""

    config: Config
    dicom = True

    def write(self, predicted: Predicted, folder: Path) -> Sequence[Path]:
        """Write the masks of a segmentation."""
        masks = predicted.masks
        if masks is None:
            return ()
        derived = segmentation_object(
            predicted.volume,
            predicted.slices,
            masks.stacked_CIJK if masks.numbers_IJK is None else masks.numbers_IJK,
            masks.names,
            model=predicted.description.title,
            codes_of=self.config.codes,
        )
        path = folder / f"{predicted.name}_seg.dcm"
        write_object(derived, path)
        return (path,)
