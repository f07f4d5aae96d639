"""CT series as a scanner writes them, large enough to time, made from a scan of the tests.

The scan is resampled to the wanted size and gets the noise of a real one (sigma 12 HU), so that
compression finds no more to save than it would in a hospital's archive.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from medssl.data.resample import resample
from medssl.io.nifti import read_nifti

SCAN = Path(__file__).parents[2] / "tests/data/nifti/ct/tsct_p01_body.nii.gz"
NOISE_HU = 12.0
_SHIFT_HU = 1024
_STEP_MM, _PIXEL_MM = 1.25, 0.75


def realistic_ct(shape: tuple[int, int, int]) -> NDArray[np.int16]:
    """Return a CT in HU: columns, rows, slices."""
    scan = read_nifti(SCAN, "CT")
    spacing_mm = np.array(scan.spacing_mm) * scan.shape / np.array(shape)
    array_IJK, _ = resample(scan.array_IJK, scan.affine_ras, spacing_mm.tolist())
    rng = np.random.default_rng(0)
    noisy_IJK = np.empty(shape, np.int16)
    for i in range(shape[0]):
        noise_JK = rng.normal(0, NOISE_HU, shape[1:])
        noisy_IJK[i] = np.rint(array_IJK[i] + noise_JK).clip(-_SHIFT_HU, 3071)
    return noisy_IJK


def write_series(folder: Path, array_IJK: NDArray[np.int16], syntax: str | None = None) -> int:
    """Write ``array_IJK`` as one series of 12 bits, compressed with ``syntax``.

    Returns:
        The bytes written.
    """
    folder.mkdir(parents=True)
    uids = [generate_uid() for _ in range(3)]
    for k in range(array_IJK.shape[2]):
        ds = _slice(array_IJK[:, :, k].T + np.int16(_SHIFT_HU), k, uids)
        if syntax is not None:
            ds.compress(syntax, generate_instance_uid=False)
        ds.save_as(folder / f"{k:05d}.dcm", enforce_file_format=True)
    return sum(path.stat().st_size for path in folder.iterdir())


def _slice(stored_RC: NDArray[np.int16], k: int, uids: list[Any]) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = uids
    ds.PatientID, ds.PatientName, ds.Modality = "SPEED", "Speed^Test", "CT"
    ds.StudyDate, ds.StudyTime, ds.Manufacturer = "20200101", "120000", "NONE"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SeriesNumber, ds.InstanceNumber = 1, k + 1
    ds.ImagePositionPatient = [-190, -190, k * _STEP_MM]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.SliceThickness = [_PIXEL_MM, _PIXEL_MM], _STEP_MM
    ds.Rows, ds.Columns = stored_RC.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 1, -_SHIFT_HU, "HU"
    ds.PixelData = np.ascontiguousarray(stored_RC, dtype="<u2").tobytes()
    return ds
