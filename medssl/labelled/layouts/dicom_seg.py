"""A folder of DICOM series, with DICOM SEG objects that were drawn on them."""

from collections.abc import Sequence
from pathlib import Path

from medssl.errors import RejectedFileError
from medssl.io.deidentify import Pseudonymizer
from medssl.io.dicom.series import group_by_series, split_by_kind
from medssl.io.dicom.slices import SliceHeader, paths_of
from medssl.labelled.layouts.base import Entry, Layout, Listing
from medssl.labelled.segmentation_object import (
    SegmentationObject,
    is_segmentation,
    read_segmentation_object,
)
from medssl.labelled.volumes import dicom_headers

_BACKGROUND = "background"


class DicomSeg(Layout):
    """Every SEG is a case, in the order of their paths; classes are the labels of segments."""

    looks_for = "a folder with DICOM series and the DICOM SEG objects made of them"

    def mismatch(self, path: Path) -> str:
        """Return why it is no folder with a SEG in it."""
        if not path.is_dir():
            return "it is not a folder"
        return "" if any(map(is_segmentation, _files(path))) else "there is no DICOM SEG in it"

    def read(self, path: Path) -> Listing:
        """Return every SEG with the series that it refers to."""
        pseudonymizer = Pseudonymizer.ephemeral()
        files = _files(path)
        paths = [file for file in files if is_segmentation(file)]
        headers, refused = dicom_headers(sorted({*files} - {*paths}), pseudonymizer)
        series = group_by_series(headers)
        found: list[SegmentationObject | RejectedFileError] = []
        for file in paths:
            try:
                found.append(read_segmentation_object(file, pseudonymizer))
            except RejectedFileError as error:
                found.append(error)
        labels = _labels([item for item in found if isinstance(item, SegmentationObject)])
        entries = [
            _entry(item, list(series.values()), labels)
            if isinstance(item, SegmentationObject)
            else Entry(problems=(f"the DICOM SEG cannot be read: {item.problem}",))
            for item in found
        ]
        used = {file for entry in entries for file in entry.files}
        alone = sum(used.isdisjoint(paths_of(slices)) for slices in series.values())
        return Listing(
            name=path.name,
            labels=labels,
            entries=tuple(entries),
            problems=tuple(f"{file.name}: {error.problem}" for file, error in refused),
            warnings=(f"{alone} series without a DICOM SEG are left out",) if alone else (),
        )


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _labels(objects: Sequence[SegmentationObject]) -> tuple[str, ...]:
    """Return the classes of all objects, by name: their numbers differ from object to object."""
    names = {name for item in objects for name in item.segments.values()}
    return (_BACKGROUND, *sorted(name for name in names if name.lower() != _BACKGROUND))


def _entry(
    item: SegmentationObject, series: Sequence[Sequence[SliceHeader]], labels: tuple[str, ...]
) -> Entry:
    meant = [slices for slices in series if slices[0].keys.series in item.series] or [
        slices for slices in series if item.instances & {header.keys.instance for header in slices}
    ]
    if len(meant) != 1:
        lie = "none lies in the folder" if not meant else f"it refers to {len(meant)} of them"
        return Entry(problems=(f"a DICOM SEG needs the one series that it was drawn on: {lie}",))
    segments = {n: labels.index(name) for n, name in item.segments.items() if name in labels[1:]}
    if not segments:
        return Entry(problems=("the DICOM SEG describes nothing but background",))
    slices = _drawn_on(item, meant[0])
    first = slices[0]
    files = tuple(sorted(paths_of(slices)))  # pseudonyms, by which they came, are new every time
    about = {
        "sex": first.acquisition.sex,
        "scanner": first.acquisition.manufacturer,
        "slice_thickness_mm": f"{first.thickness_mm:g}" if first.thickness_mm else "",
    }
    return Entry(
        image=files[0].parent,
        files=files,
        label=item.path,
        segments=segments,
        patient=first.keys.patient,
        about={name: value for name, value in about.items() if value},
    )


def _drawn_on(item: SegmentationObject, series: Sequence[SliceHeader]) -> Sequence[SliceHeader]:
    """Return the slices of the kind that was drawn on, where a series is of several kinds."""
    try:
        kinds = [kind.slices for kind in split_by_kind(series)]
    except RejectedFileError:
        return series  # reading it will say what is wrong with it
    drawn_on = [
        slices for slices in kinds if item.instances & {header.keys.instance for header in slices}
    ]
    return drawn_on[0] if len(drawn_on) == 1 else series
