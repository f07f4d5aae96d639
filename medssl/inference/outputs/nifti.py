"""Masks as NIfTI files on the scan's own grid."""

from collections.abc import Sequence
from pathlib import Path

from medssl.inference.outputs.base import Output
from medssl.inference.predicted import Predicted
from medssl.io.nifti import write_nifti


class Nifti(Output):
    """``<name>_seg.nii.gz``: uint8, shape and affine of the scan, the answers from 1 on.

    Regions that overlap are painted in their order. DICOM lies in the order column, row, slice.
    """

    class Config(Output.Config):
        """No options."""

    def write(self, predicted: Predicted, folder: Path) -> Sequence[Path]:
        """Write the mask of a segmentation."""
        if predicted.masks is None:
            return ()
        path = folder / f"{predicted.name}_seg.nii.gz"
        write_nifti(predicted.masks.painted_IJK, predicted.volume.affine_ras, path)
        return (path,)
