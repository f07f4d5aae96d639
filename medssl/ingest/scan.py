"""The first pass: what every file is, by its content and header, without pixels."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from medssl.errors import InputError
from medssl.ingest.convert import CONVERSION_VERSION, conversion_settings, rejected
from medssl.ingest.items import DicomItem, Item, ItemResult, NiftiItem
from medssl.ingest.look import Looking, NiftiLabels, Seen, look_into, look_into_all
from medssl.ingest.state import State
from medssl.io.deidentify import Pseudonymizer
from medssl.io.dicom.series import group_by_series, renumbered
from medssl.io.dicom.slices import SliceHeader
from medssl.io.limits import Limits
from medssl.io.reasons import reject
from medssl.io.sources.folder import FileRef
from medssl.io.volume import SliceSource
from medssl.library.outcomes import FileOutcome
from medssl.library.volumes import read_slices
from medssl.runs.digest import digest_json
from medssl.runs.workers import INLINE


@dataclass(frozen=True)
class Scan:
    """What the first pass found: work to do, and files that are already settled."""

    items: list[Item]
    settled: list[FileOutcome]
    touched: dict[str, FileRef]
    """The files that were looked into, by key; all others are as they were."""
    kept: frozenset[str] = frozenset()
    """Keys of earlier items that stay as they are, though some of their files may be listed."""


Locate = Callable[[Collection[str]], Iterable[FileRef]]
"""Finds files of earlier runs by their keys, as far as they can still be had."""


class Scanner:
    """Sorts files into items; what is known and unchanged is not opened."""

    def __init__(
        self,
        pseudonymizer: Pseudonymizer,
        limits: Limits,
        labels: NiftiLabels,
        exclude: Sequence[str] = (),
        *,
        ocr: bool = False,
        workers: int | str = INLINE,
    ) -> None:
        self.looking = Looking(pseudonymizer=pseudonymizer, limits=limits, exclude=exclude)
        self.limits, self.labels, self.ocr, self.workers = limits, labels, ocr, workers

    def scan(self, refs: Sequence[FileRef], state: State, locate: Locate) -> Scan:
        """Read the headers of what is new or changed, and of the series that it belongs to.

        Args:
            refs: the files.
            state: what the library holds.
            locate: finds a series' files that an earlier run listed and this one did not.
        """
        return _Pass(self, refs, state, locate).scan()

    def series_item(self, key: str, members: list[SliceHeader], files: list[FileRef]) -> DicomItem:
        """Return the item of one series."""
        return DicomItem(
            key=key,
            files=tuple(files),
            headers=tuple(members),
            signature=self._signature(files),
        )

    def nifti_item(self, ref: FileRef) -> NiftiItem:
        """Return the item of one NIfTI file."""
        keys, modality = (
            self.labels.keys(ref, self.looking.pseudonymizer),
            self.labels.modality(ref),
        )
        return NiftiItem(
            key=keys.series,
            files=(ref,),
            keys=keys,
            modality=modality,
            signature=self._signature((ref,), keys.patient, modality),
        )

    def _signature(self, files: Sequence[FileRef], *settings: str) -> str:
        return digest_json(
            [
                CONVERSION_VERSION,
                conversion_settings(self.limits, ocr=self.ocr),
                settings,
                sorted([ref.file_key, ref.bytes, ref.mtime_ns] for ref in files),
            ]
        )


class _Pass:
    """One look at a list of files."""

    def __init__(
        self, scanner: Scanner, refs: Sequence[FileRef], state: State, locate: Locate
    ) -> None:
        self.scanner, self.state, self.locate = scanner, state, locate
        self.listed = {ref.file_key: ref for ref in refs}
        self.touched: dict[str, FileRef] = {}
        self.settled: list[FileOutcome] = []
        self.nifti: list[Item] = []
        self.headers: list[SliceHeader] = []

    def scan(self) -> Scan:
        again = self.scanner.limits.policy.merge_single_slices  # any slice may join any other
        new = [ref for ref in self.listed.values() if again or not self.state.is_unchanged(ref)]
        earlier = self.state.journal.results
        scanner = self.scanner
        self._sort_in(look_into_all(scanner.looking, new, scanner.workers))
        grown = group_by_series(self.headers).keys() & earlier.keys()
        self._sort_in(look_into(scanner.looking, self._other_files_of(grown)))
        series = self._with_renumbered(group_by_series(self.headers))
        lost = {
            key: self._lost(earlier[key], series[key]) for key in series.keys() & earlier.keys()
        }
        kept = sorted(key for key, gone in lost.items() if gone)
        for key in kept:
            self._refuse_new_files(earlier[key], series.pop(key), lost[key])
        items = [self._series_item(key, members) for key, members in sorted(series.items())]
        return Scan([*items, *self.nifti], self.settled, self.touched, frozenset(kept))

    def _with_renumbered(
        self, series: dict[str, list[SliceHeader]]
    ) -> dict[str, list[SliceHeader]]:
        """Return ``series`` with slices that were renumbered one by one joined or refused."""
        series, limits = dict(series), self.scanner.limits
        if limits.least_slices == 1 and not limits.policy.merge_single_slices:
            return series  # each is a volume of its own
        for keys in renumbered(series, limits.least_slices):
            joined = [header for key in keys for header in series.pop(key)]
            if limits.policy.merge_single_slices:
                series[keys[0]] = joined
                continue
            error = reject("single_slices", count=len(joined))
            refs = [self.touched[header.file_key] for header in joined]
            self.settled += [rejected(ref, error, "dicom") for ref in refs]
        return series

    def _sort_in(self, files: Iterable[tuple[FileRef, Seen]]) -> None:
        for ref, seen in files:
            self.touched[ref.file_key] = ref
            self.headers += seen.headers
            if seen.refused is not None:
                self.settled.append(seen.refused)
            if seen.is_nifti:
                self.nifti.append(self.scanner.nifti_item(ref))

    def _series_item(self, key: str, members: list[SliceHeader]) -> DicomItem:
        keys = dict.fromkeys(header.file_key for header in members)
        files = [self.touched[file_key] for file_key in keys]
        return self.scanner.series_item(key, members, files)

    def _other_files_of(self, grown: Iterable[str]) -> list[FileRef]:
        """Return the files of series that gained members, unless they were just read."""
        earlier = self.state.journal.results
        rows = [row for key in sorted(grown) for row in earlier[key].files]
        keys = {row.file_key for row in rows} - self.touched.keys()
        here = [self.listed[key] for key in keys & self.listed.keys()]
        found = {ref.file_key: ref for ref in [*here, *self.locate(keys - self.listed.keys())]}
        return sorted(found.values(), key=lambda ref: ref.path)

    def _lost(self, result: ItemResult, members: Sequence[SliceHeader]) -> int:
        """Return how many files are gone, where ``members`` could not stand for what they held."""
        usable = {(h.keys.instance, h.frame_index) for h in members if not h.defect}
        there = {row.file_key for row in result.files if not self._is_gone(row)}
        lost = {
            source.file_key
            for row in result.volumes
            for source in self._slices(str(row["volume_key"]))
            if (source.instance_key, source.frame_index) not in usable
            and source.file_key not in there
        }
        gone = sum(self._is_gone(row) for row in result.files if row.outcome == "converted")
        return max(gone, len(lost)) if lost else 0

    def _is_gone(self, row: FileOutcome) -> bool:
        """Return whether the file of ``row`` is neither here as it was, nor where it lay."""
        ref = self.touched.get(row.file_key) or self.listed.get(row.file_key)
        return ref is None or (
            row.file_key in self.touched and ref.content_stamp != row.stamp.partition("-")[0]
        )

    def _slices(self, volume_key: str) -> tuple[SliceSource, ...]:
        try:
            return read_slices(self.state.library, volume_key).sources
        except InputError:  # a volume that is damaged is not worth keeping
            return ()

    def _refuse_new_files(
        self, result: ItemResult, members: Sequence[SliceHeader], gone: int
    ) -> None:
        known = {row.file_key for row in result.files if not self._is_gone(row)}
        error = reject("incomplete_redelivery", gone=gone)
        new = dict.fromkeys(h.file_key for h in members if h.file_key not in known)
        self.settled += [rejected(self.touched[key], error, "dicom") for key in new]
