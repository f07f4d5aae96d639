"""The slices of one file: frames of an enhanced image, tiles of a mosaic, or one."""

from collections.abc import Iterator, Sequence

from pydicom import Dataset

from medssl.io.dicom import vocabulary as terms
from medssl.io.dicom.mosaic import is_mosaic, tiles_of
from medssl.io.dicom.values import floats_of, innermost, text_of, value_of

_GRADIENT = "DiffusionGradientDirectionSequence"


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
    """Return the macros of a frame; the gradient's direction lies one level deeper."""
    macros = [element.value[0] for element in groups if element.VR == "SQ" and element.value]
    return macros + [macro[_GRADIENT][0] for macro in macros if macro.get(_GRADIENT)]


def phase_of(layers: Sequence[Dataset]) -> Iterator[tuple[str, float | str]]:
    """Yield what may tell a slice from others of its place, as (label, value)."""
    for label, keywords in terms.PHASE_TAGS.items():
        for keyword in keywords:
            number = floats_of(layers, keyword, 1)
            text = text_of(innermost(layers, keyword), keyword)
            if number or text:
                yield label, number[0] if number else text
                break
    yield from zip(terms.DIMENSION_LABELS, _dimensions(layers), strict=False)


def _dimensions(layers: Sequence[Dataset]) -> list[float]:
    """Return the numbers of a frame along the dimensions of its file."""
    values = value_of(layers, "DimensionIndexValues")
    several = [values] if isinstance(values, int) else values or []
    return [float(value) for value in several]
