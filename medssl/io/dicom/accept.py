"""Which DICOM files are images of a scan, and which are none of our business."""

from pydicom import Dataset
from pydicom.uid import UID

from medssl.io.dicom import vocabulary as terms
from medssl.io.dicom.values import integer_of, text_of, words_of
from medssl.io.reasons import reject

_CODES = {
    terms.DICOMDIR_CLASS: "dicomdir",
    **dict.fromkeys(terms.CAPTURE_CLASSES, "secondary_capture"),
    **dict.fromkeys(terms.DERIVED_CLASSES, "derived_object"),
}


def refuse_strangers(dataset: Dataset, *, preamble: bool) -> None:
    """Reject what is not an image of one of the accepted modalities."""
    sop_class = UID(
        text_of(dataset, "SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID", "")
    )
    accepted = terms.IMAGE_CLASSES | terms.MULTIFRAME_CLASSES
    image_type = set(words_of(dataset, "ImageType"))
    if sop_class not in accepted and not preamble:
        # pydicom, told to, reads any bytes as DICOM; without the preamble only this tells.
        raise reject("not_dicom")
    if not sop_class:
        raise reject("damaged_header")
    if sop_class in _CODES:
        raise reject(_CODES[sop_class])
    if sop_class not in accepted or text_of(dataset, "Modality") not in terms.MODALITIES:
        raise reject("unsupported_modality")
    if "YES" in words_of(dataset, "BurnedInAnnotation") or image_type & terms.SCREEN_TYPES:
        raise reject("burned_in_risk")
    if image_type & terms.LOCALIZER_TYPES:
        raise reject("localizer")
    if image_type & terms.PROJECTION_TYPES:
        raise reject("projection")
    if integer_of([dataset], "SamplesPerPixel", 1) != 1:
        raise reject("rgb")
