"""Why a file may not leave, beyond the reasons for which it would be no volume either."""

from medssl.errors import RejectedFileError

REFUSED = {
    "not_dicom": "Not a DICOM file.",
    "face_in_view": "It shows a head, or does not say that it shows none, and faces may be "
    "recognised. Give a `deface_command`, or set `allow_faces` where that is permitted.",
    "needs_private_elements": "A mosaic: without its private elements, which are removed, nobody "
    "can tell its slices apart.",
    "deface_failed": "The `deface_command` failed, or left no image of the same size for it.",
    "unknown_packing": "Its pixels are compressed in a way that is not known here and may have "
    "room for words, or they are damaged.",
    "spare_bits": "Its pixels do not fill the lowest bits of their words (HighBit): nobody can "
    "tell what the others hold.",
}
_SKIPPED = frozenset({"not_dicom", "face_in_view"})


def refuse(code: str) -> RejectedFileError:
    """Return the error for a code of ``REFUSED``, ready to raise."""
    return RejectedFileError(code, REFUSED[code], skipped=code in _SKIPPED)
