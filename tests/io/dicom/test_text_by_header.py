"""Images with text in them, as far as their headers tell: each refused with its own reason."""

import pytest
from pydicom import uid
from pydicom.config import disable_value_validation

from medssl.errors import RejectedFileError
from medssl.io.deidentify import Pseudonymizer
from medssl.io.dicom import vocabulary
from medssl.io.dicom.headers import read_headers
from medssl.io.limits import Limits
from tests import phantoms

CLASSES = {
    uid.UltrasoundImageStorage: "unsupported_modality",
    uid.UltrasoundMultiFrameImageStorage: "unsupported_modality",
    uid.EncapsulatedPDFStorage: "unsupported_modality",
    **dict.fromkeys(vocabulary.CAPTURE_CLASSES, "secondary_capture"),
}
COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422")


def code_of(tmp_path, **values):
    """Return the reason for which a CT slice with these attributes is refused, or None."""

    def edit(dataset, _):
        for keyword, value in values.items():
            setattr(dataset, keyword, value)

    affine = phantoms.affine_ras()
    with disable_value_validation():  # small letters are against the standard, and are found
        phantoms.write_dicom(tmp_path, phantoms.phantom(affine), affine, edit=edit)
    try:
        read_headers(next(tmp_path.glob("*")), "key", Pseudonymizer.ephemeral(), Limits())
    except RejectedFileError as error:
        return error.code
    return None


def test_a_plain_slice_is_not_refused(tmp_path):
    assert code_of(tmp_path, BurnedInAnnotation="NO") is None


@pytest.mark.parametrize("said", ["YES", "yes", " YES "])
def test_what_says_that_text_is_burned_in(tmp_path, said):
    assert code_of(tmp_path, BurnedInAnnotation=said) == "burned_in_risk"


@pytest.mark.parametrize(
    "words",
    [
        ["DERIVED", "SECONDARY", "SCREEN SAVE"],
        ["DERIVED", "SECONDARY", "SCREENSAVE"],
        ["DERIVED", "SECONDARY", "SCREEN_SAVE"],
        ["DERIVED", "SECONDARY", "DOSE_INFO"],
        ["DERIVED", "PRIMARY", "dose"],
        ["ORIGINAL", "PRIMARY", "PATIENT_INFO"],
        ["DERIVED", "SECONDARY", "OTHER", "CT_SOM5 PROT"],
    ],
)
def test_screens_by_the_words_of_their_image_type(tmp_path, words):
    assert code_of(tmp_path, ImageType=words) == "burned_in_risk"


@pytest.mark.parametrize(("sop_class", "code"), sorted(CLASSES.items()), ids=str)
def test_kinds_of_objects_that_are_no_scans(tmp_path, sop_class, code):
    assert code_of(tmp_path, SOPClassUID=sop_class) == code


@pytest.mark.parametrize("modality", ["US", "OT", "SC", "DOC"])
def test_modalities_that_are_no_scans(tmp_path, modality):
    assert code_of(tmp_path, Modality=modality) == "unsupported_modality"


@pytest.mark.parametrize("colour", COLOURS)
def test_colour(tmp_path, colour):
    assert code_of(tmp_path, SamplesPerPixel=3, PhotometricInterpretation=colour) == "rgb"
