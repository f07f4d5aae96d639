"""The first pass: what every file is, by its content and header, without pixels."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from medssl.errors import RejectedFileError
from medssl.ingest.convert import CONVERSION_VERSION, rejected
from medssl.ingest.items import DicomItem, Item, ItemResult, NiftiItem
from medssl.io.deidentify import Pseudonymizer, ScanKeys
from medssl.io.dicom.headers import read_headers
from medssl.io.dicom.series import group_by_series, renumbered
from medssl.io.dicom.slices import SliceHeader
from medssl.io.identify import identify
from medssl.io.limits import Limits
from medssl.io.reasons import reject
from medssl.io.sources.folder import FileRef
from medssl.library.outcomes import FileOutcome
from medssl.runs.digest import digest_json
from medssl.runs.progress import track

BIDS_PATIENT = r"(?:^|/)(?P<patient>sub-[A-Za-z0-9]+)"


@dataclass(frozen=True, kw_only=True)
class NiftiLabels:
    """What NIfTI files do not say of themselves, taken from their names."""

    patient: re.Pattern[str]
    modalities: Mapping[str, str]

    def modality(self, ref: FileRef) -> str:
        """Return the modality of the first glob that fits, else "unknown"."""
        fitting = (modality for glob, modality in self.modalities.items() if ref.matches([glob]))
        return next(fitting, "unknown")

    def keys(self, ref: FileRef, pseudonymizer: Pseudonymizer) -> ScanKeys:
        """Return the pseudonyms of ``ref``; a file without a patient stands for its own."""
        found = self.patient.search(ref.name)
        patient = found["patient"] if found else ref.file_key
        issuer = "file name" if found else "the file stands for its patient"
        return ScanKeys(
            patient=pseudonymizer.patient_key(patient, issuer),
            study=pseudonymizer.study_key(f"{patient}/{PurePosixPath(ref.name).parent}"),
            series=pseudonymizer.series_key(ref.file_key),
            instance=ref.file_key,
            patient_known=found is not None,
        )


@dataclass(frozen=True)
class Scan:
    """What the first pass found: work to do, and files that are already settled."""

    items: list[Item]
    settled: list[FileOutcome]
    kept: frozenset[str] = frozenset()
    """Keys of earlier items that stay as they are, though some of their files may be listed."""


class Scanner:
    """Sorts files into items."""

    def __init__(
        self,
        pseudonymizer: Pseudonymizer,
        limits: Limits,
        labels: NiftiLabels,
        exclude: Sequence[str] = (),
    ) -> None:
        self.pseudonymizer, self.limits, self.labels = pseudonymizer, limits, labels
        self.exclude = exclude
        self.settled: list[FileOutcome] = []
        self.nifti: list[Item] = []
        self.headers: list[SliceHeader] = []
        self.refs: dict[str, FileRef] = {}
        self.seen: set[str] = set()

    def scan(
        self,
        refs: Sequence[FileRef],
        earlier: Mapping[str, ItemResult] | None = None,
        paths: Mapping[str, str] | None = None,
    ) -> Scan:
        """Read every header once.

        Args:
            refs: the files.
            earlier: finished items of the library.
            paths: where the library's files lay; a series that grows by a second delivery is
                converted together with those of its first that are still there.
        """
        for ref in track(refs, "Reading headers"):
            self._sort_in(ref)
        earlier = earlier or {}
        for ref in self._first_deliveries(earlier, paths or {}):
            self._sort_in(ref)
        series = self._with_renumbered(group_by_series(self.headers))
        known = series.keys() & earlier.keys()
        kept = {key for key in known if self._would_shrink(earlier[key], series[key])}
        for key in sorted(kept):
            self._refuse_new_files(earlier[key], series.pop(key))
        dicom = [self._series_item(key, members) for key, members in sorted(series.items())]
        return Scan([*dicom, *self.nifti], self.settled, frozenset(kept))

    def _with_renumbered(
        self, series: dict[str, list[SliceHeader]]
    ) -> dict[str, list[SliceHeader]]:
        """Return ``series`` with slices that were renumbered one by one joined or refused."""
        series, merge = dict(series), self.limits.policy.merge_single_slices
        if self.limits.least_slices == 1 and not merge:
            return series  # each is a volume of its own
        for keys in renumbered(series, self.limits.least_slices):
            joined = [header for key in keys for header in series.pop(key)]
            if merge:
                series[keys[0]] = joined
                continue
            error = reject("single_slices", count=len(joined))
            self.settled += [rejected(self.refs[h.file_key], error, "dicom") for h in joined]
        return series

    def _sort_in(self, ref: FileRef) -> None:
        source_format = ""
        self.seen.add(ref.file_key)
        try:
            if ref.matches(self.exclude):
                raise reject("excluded")
            source_format = identify(ref.path)
            if source_format == "nifti":
                self.nifti.append(self._nifti_item(ref))
                return
            headers = read_headers(ref.path, ref.file_key, self.pseudonymizer, self.limits)
        except RejectedFileError as error:
            known = "" if error.code == "not_dicom" else source_format
            self.settled.append(rejected(ref, error, known))
            return
        self.headers += headers
        self.refs[ref.file_key] = ref

    def _series_item(self, key: str, members: list[SliceHeader]) -> DicomItem:
        keys = dict.fromkeys(header.file_key for header in members)
        files = tuple(self.refs[file_key] for file_key in keys)
        return DicomItem(
            key=key,
            files=files,
            headers=tuple(members),
            signature=self._signature(files),
        )

    def _nifti_item(self, ref: FileRef) -> NiftiItem:
        keys, modality = self.labels.keys(ref, self.pseudonymizer), self.labels.modality(ref)
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
                [self.limits.volume_bytes, self.limits.least_slices],
                self.limits.policy.model_dump(),
                settings,
                sorted([ref.file_key, ref.bytes, ref.mtime_ns] for ref in files),
            ]
        )

    def _first_deliveries(
        self, earlier: Mapping[str, ItemResult], paths: Mapping[str, str]
    ) -> list[FileRef]:
        """Return files of the series at hand that an earlier run listed and this one did not."""
        refs = []
        for series in group_by_series(self.headers).keys() & earlier.keys():
            for row in earlier[series].files:
                path = Path(paths.get(row.file_key, ""))
                if row.file_key not in self.refs and path.is_file():
                    facts = path.stat()
                    name = path.as_posix()
                    refs.append(FileRef(path, name, row.file_key, facts.st_size, facts.st_mtime_ns))
        return sorted(refs, key=lambda ref: ref.path)

    def _would_shrink(self, result: ItemResult, members: Sequence[SliceHeader]) -> bool:
        """Return whether files of ``result`` are gone and ``members`` could not stand for them."""
        if not self._gone(result):
            return False
        usable = {(h.keys.instance, h.frame_index): h.pixels for h in members if not h.defect}
        pixels = sum(pixel.rows * pixel.columns for pixel in usable.values())
        shapes = ([row[f"shape_{axis}"] for axis in "ijk"] for row in result.volumes)
        files = sum(int(row["source_files"]) for row in result.volumes)
        return len(usable) < files or pixels < sum(map(math.prod, shapes))

    def _gone(self, result: ItemResult) -> int:
        """Return how many files that volumes were made of are neither listed nor where they lay."""
        converted = (row for row in result.files if row.outcome == "converted")
        return sum(row.file_key not in self.seen for row in converted)

    def _refuse_new_files(self, result: ItemResult, members: Sequence[SliceHeader]) -> None:
        known = {row.file_key for row in result.files}
        error = reject("incomplete_redelivery", gone=self._gone(result))
        new = dict.fromkeys(h.file_key for h in members if h.file_key not in known)
        self.settled += [rejected(self.refs[key], error, "dicom") for key in new]
