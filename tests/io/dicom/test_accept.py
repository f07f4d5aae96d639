"""Objects that are no images, in the same series as a scan: each its reason, the scan converts."""

from collections import Counter
from pathlib import Path

import pytest
from pydicom import dcmread, uid
from pydicom.data import get_testdata_file

from medssl.errors import RejectedFileError
from medssl.io.deidentify import Pseudonymizer
from medssl.io.dicom.headers import read_headers
from medssl.io.dicom.read import read_dicom_folder
from medssl.io.limits import Limits
from tests import phantoms

AFFINE = phantoms.affine_ras()
ARRAY = phantoms.phantom(AFFINE)

STRANGERS = {
    uid.SegmentationStorage: ("SEG", "derived_object"),
    uid.SurfaceSegmentationStorage: ("SEG", "derived_object"),
    uid.UID("1.2.840.10008.5.1.4.1.1.66.7"): ("SEG", "derived_object"),
    uid.RTStructureSetStorage: ("RTSTRUCT", "derived_object"),
    uid.ParametricMapStorage: ("MR", "derived_object"),
    uid.SpatialRegistrationStorage: ("REG", "derived_object"),
    uid.DeformableSpatialRegistrationStorage: ("REG", "derived_object"),
    uid.RTDoseStorage: ("RTDOSE", "unsupported_modality"),
    uid.RTPlanStorage: ("RTPLAN", "unsupported_modality"),
    uid.BasicTextSRStorage: ("SR", "unsupported_modality"),
    uid.XRayRadiationDoseSRStorage: ("SR", "unsupported_modality"),
    uid.GrayscaleSoftcopyPresentationStateStorage: ("PR", "unsupported_modality"),
    uid.KeyObjectSelectionDocumentStorage: ("KO", "unsupported_modality"),
    uid.MRSpectroscopyStorage: ("MR", "unsupported_modality"),
    uid.RawDataStorage: ("MR", "unsupported_modality"),
    uid.XRayAngiographicImageStorage: ("XA", "unsupported_modality"),
    uid.UltrasoundImageStorage: ("US", "unsupported_modality"),
    uid.NuclearMedicineImageStorage: ("NM", "unsupported_modality"),
    uid.VLWholeSlideMicroscopyImageStorage: ("SM", "unsupported_modality"),
    uid.SecondaryCaptureImageStorage: ("OT", "secondary_capture"),
    uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage: ("CT", "secondary_capture"),
    uid.CTImageStorage: ("OT", "unsupported_modality"),
}


def code_of(path):
    with pytest.raises(RejectedFileError) as caught:
        read_headers(Path(path), "file", Pseudonymizer.ephemeral(), Limits())
    assert caught.value.skipped
    return caught.value.code


@pytest.mark.parametrize("pixels", [True, False], ids=["pixels", "no pixels"])
def test_what_is_no_image_does_not_block_the_series_it_lies_in(pixels, tmp_path):
    slices = phantoms.dicom_slices(ARRAY, AFFINE)
    phantoms.save(slices, tmp_path)
    expected = Counter()
    for index, (sop_class, (modality, code)) in enumerate(STRANGERS.items()):
        ds = phantoms.dicom_slices(ARRAY[:, :, :1], AFFINE)[0]
        ds.SOPClassUID, ds.Modality = sop_class, modality
        ds.SeriesInstanceUID = slices[0].SeriesInstanceUID
        ds.StudyInstanceUID = slices[0].StudyInstanceUID
        if not pixels:
            del ds.PixelData
        (path,) = phantoms.save([ds], tmp_path, seed=index + 1)
        assert code_of(path) == code, sop_class.name
        expected[code] += 1
    assert set(expected) == {"derived_object", "unsupported_modality", "secondary_capture"}
    (found,) = read_dicom_folder(tmp_path)
    assert len(found.files) == len(slices)
    assert phantoms.value_error(found.volume.array_IJK, found.volume.affine_ras) == 0


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("liver_1frame.dcm", "derived_object"),
        ("rtstruct.dcm", "not_dicom"),  # without a preamble, and of no class that is read here
        ("rtdose.dcm", "unsupported_modality"),
        ("rtplan.dcm", "unsupported_modality"),
        ("reportsi.dcm", "unsupported_modality"),
        ("test-SR.dcm", "unsupported_modality"),
        ("waveform_ecg.dcm", "unsupported_modality"),
        ("examples_palette.dcm", "unsupported_modality"),
        ("SC_rgb_jpeg.dcm", "secondary_capture"),
    ],
)
def test_real_objects_that_are_no_scan(name, code):
    path = get_testdata_file(name, download=False)
    assert code_of(path) == code, dcmread(path, force=True, stop_before_pixels=True).SOPClassUID
