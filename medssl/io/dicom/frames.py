"""The slices of one file: frames of an enhanced image, tiles of a mosaic, or one."""

from collections.abc import Iterator, Sequence

from pydicom import Dataset

from medssl.io.dicom import vocabulary as terms
from medssl.io.dicom.mosaic import is_mosaic, tiles_of
from medssl.io.dicom.values import floats_of, innermost, text_of


def frames_of(dataset: Dataset) -> Iterator[tuple[int | None, list[Dataset]]]:
    """Yield each frame with the places to look a value up, its own groups first.

    Raises:
        RejectedFileError: ``mosaic_unsupported``.
    """
    if is_mosaic(dataset):
        for index, tile in enumerate(tiles_of(dataset)):
            yield index, [tile, dataset]
        return
    own = dataset.get("PerFrameFunctionalGroupsSequence") or []
    if not own:
        yield None, [dataset]
        return
    shared = [
        macro
        for groups in dataset.get("SharedFunctionalGroupsSequence") or []
        for macro in _macros(groups)
    ]
    for index, groups in enumerate(own):
        yield index, [*_macros(groups), *shared, dataset]


def _macros(groups: Dataset) -> list[Dataset]:
    return [element.value[0] for element in groups if element.VR == "SQ" and element.value]


def phase_of(layers: Sequence[Dataset]) -> Iterator[tuple[str, float | str]]:
    """Yield what may tell a slice from others of its place, as (label, value)."""
    for label, keywords in terms.PHASE_TAGS.items():
        for keyword in keywords:
            number = floats_of(layers, keyword, 1)
            text = text_of(innermost(layers, keyword), keyword)
            if number or text:
                yield label, number[0] if number else text
                break
