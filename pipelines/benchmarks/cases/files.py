"""Rows about files that are no slices: archives, strays, other kinds of DICOM."""

import tempfile
import zipfile
from pathlib import Path

from pydicom import Dataset, uid
from pydicom.dataset import FileMetaDataset

from pipelines.benchmarks.cases.alter import Slices, same_series, series
from pipelines.benchmarks.cases.case import AXIAL, SHAPE, Case, converts, skipped
from pipelines.benchmarks.cases.phantoms import dicom_slices, phantom

_STRANGERS = {
    "US": uid.UltrasoundImageStorage,
    "XA": uid.XRayAngiographicImageStorage,
    "NM": uid.NuclearMedicineImageStorage,
    "SM": uid.VLWholeSlideMicroscopyImageStorage,
    "OT": uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
    "PR": uid.GrayscaleSoftcopyPresentationStateStorage,
    "KO": uid.KeyObjectSelectionDocumentStorage,
    "SR": uid.EnhancedSRStorage,
    "RTDOSE": uid.RTDoseStorage,
    "RTSTRUCT": uid.RTStructureSetStorage,
    "RTPLAN": uid.RTPlanStorage,
    "SEG": uid.SegmentationStorage,
    "MR": uid.MRSpectroscopyStorage,
    "CT": uid.RawDataStorage,
}
_WITHOUT_PIXELS = {"PR", "KO", "SR", "RTSTRUCT", "RTPLAN"}


def _strangers(slices: Slices) -> Slices:
    """Add one file of every other kind to the series."""
    modalities = [*_STRANGERS]
    others = []
    for number, modality in enumerate(modalities):
        [ds] = dicom_slices(phantom(AXIAL, (*SHAPE[:2], 1)), AXIAL)
        same_series(ds, slices[0])
        ds.Modality, ds.SOPClassUID = modality, _STRANGERS[modality]
        ds.InstanceNumber = 100 + number
        if modality in _WITHOUT_PIXELS:
            del ds.PixelData, ds.Rows, ds.Columns
        others.append(ds)
    return [*slices, *others]


def _screenshot(slices: Slices) -> Slices:
    [ds] = dicom_slices(phantom(AXIAL, (*SHAPE[:2], 1)), AXIAL)
    same_series(ds, slices[0]).SOPClassUID = uid.SecondaryCaptureImageStorage
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.PixelData, ds.InstanceNumber = bytes(3 * ds.Rows * ds.Columns), 99
    return [*slices, ds]


def _strays(folder: Path) -> None:
    series()(folder)
    for name, content in {
        ".DS_Store": b"\0\0\0\1Bud1" + bytes(100),
        "empty": b"",
        "photo.jpg": b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(200),
        "notes.txt": b"a shopping list",
        "DICOMDIR": b"no index at all",
    }.items():
        (folder / name).write_bytes(content)


def _zipped(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as plain,
        zipfile.ZipFile(folder / "scan.zip", "w") as archive,
    ):
        series()(Path(plain))
        for path in sorted(Path(plain).iterdir()):
            archive.write(path, path.name, zipfile.ZIP_DEFLATED)


def _file_set(folder: Path) -> None:
    """A folder as on a CD, whose index lists one file, which is gone."""
    series()(folder)
    record = Dataset()
    record.DirectoryRecordType, record.ReferencedFileID = "IMAGE", ["IMAGES", "GONE"]
    record.ReferencedSOPClassUIDInFile = uid.CTImageStorage
    index = Dataset()
    index.file_meta = FileMetaDataset()
    index.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    index.file_meta.MediaStorageSOPClassUID = uid.MediaStorageDirectoryStorage
    index.file_meta.MediaStorageSOPInstanceUID = uid.generate_uid()
    index.FileSetID, index.DirectoryRecordSequence = "CD", [record]
    index.save_as(folder / "DICOMDIR", enforce_file_format=True)


CASES = [
    Case(
        "23",
        "screenshot beside CT",
        series(_screenshot),
        converts(others=skipped("secondary_capture")),
    ),
    Case("25", "files that are no DICOM", _strays, converts(others=skipped("not_dicom", 5))),
    Case("42", "zip archive", _zipped, converts()),
    Case(
        "K1",
        "other kinds of DICOM in the series",
        series(_strangers),
        converts(
            others=skipped("unsupported_modality", len(_STRANGERS) - 3)
            | skipped("derived_object", 2)
            | skipped("secondary_capture")
        ),
    ),
    Case(
        "K2", "DICOMDIR that lists a missing file", _file_set, converts(others=skipped("dicomdir"))
    ),
]
