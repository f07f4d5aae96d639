"""Which study and which volumes a report is about: the library knows them by pseudonyms alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from medssl.curation.selection import Selection
from medssl.errors import InputError
from medssl.io.deidentify import Pseudonymizer
from medssl.io.sources.folder import candidate_names
from medssl.library.catalog import read_catalog_table
from medssl.library.identity import identity_path
from medssl.library.outcomes import read_outcomes
from medssl.reports.sources import RawReport, Refused
from medssl.runs.folder import read_json

_COLUMNS: Final = ("volume_key", "series_key", "study_key", "acquisition_s")


@dataclass(frozen=True)
class Volume:
    """A volume that training may see."""

    volume_key: str
    study_key: str
    series_key: str
    patient_key: str
    split: str
    modality: str
    intensity: str

    @property
    def lacks_hounsfield(self) -> bool:
        """Whether it is a CT whose values are not known to be Hounsfield units."""
        return self.modality == "CT" and self.intensity != "hu"


class LibraryJoin:
    """Finds the volumes that a report is about, among those that a selection keeps."""

    def __init__(self, library: Path, selection: Selection, pseudonymizer: Pseudonymizer) -> None:
        """Read the catalog.

        Raises:
            InputError: The library was made with another key, or cannot be read.
        """
        _check_key(library, pseudonymizer)
        self._library, self._pseudonymizer = library, pseudonymizer
        catalog = read_catalog_table(library, _COLUMNS).to_pylist()
        self._study_of = _study_of(catalog)
        ordered = sorted(catalog, key=_order)
        kept = {str(row["volume_key"]): row for row in selection.kept.to_dict("records")}
        self.volumes = tuple(
            _volume(kept[key]) for row in ordered if (key := str(row["volume_key"])) in kept
        )
        self.refused = tuple(
            Refused("", each.study_key, "no_hounsfield_units", _NO_HU.format(each.intensity))
            for each in self.volumes
            if each.lacks_hounsfield
        )
        self._file_volumes: Mapping[str, str] | None = None

    @property
    def study_keys(self) -> set[str]:
        """Every study that the selection keeps a volume of."""
        return {volume.study_key for volume in self.volumes}

    def find(self, raw: RawReport) -> tuple[str, tuple[Volume, ...]] | Refused:
        """Return the study that ``raw`` is about and its volumes, or why there are none."""
        keys = self._keys(raw)
        study = next((self._study_of[key] for key in keys if key in self._study_of), None)
        if study is None:
            return Refused(raw.place, "", "unknown_study", _UNKNOWN.format(raw.key_kind))
        fitting = [v for v in self.volumes if keys & {v.study_key, v.series_key, v.volume_key}]
        if not fitting:
            reason = "the library has it, and the selection keeps none of its volumes"
            return Refused(raw.place, study, "not_selected", reason)
        usable = tuple(volume for volume in fitting if not volume.lacks_hounsfield)
        if not usable:
            reason = _NO_HU.format(fitting[0].intensity)
            return Refused(raw.place, study, "no_hounsfield_units", reason)
        if len({volume.split for volume in usable}) > 1:
            reason = "its volumes are in different splits: curate again, by patient"
            return Refused(raw.place, study, "several_splits", reason)
        return study, usable

    def _keys(self, raw: RawReport) -> set[str]:
        """Return the pseudonyms that the key of a report may stand for."""
        if not raw.key:
            return set()
        if raw.key_kind == "study_uid":
            return {self._pseudonymizer.study_key(raw.key)}
        if raw.key_kind == "series_uid":
            return {self._pseudonymizer.series_key(raw.key)}
        if raw.key_kind == "file":
            return set(self._volumes_of_file(raw.key))
        return {raw.key}

    def _volumes_of_file(self, name: str) -> Iterator[str]:
        if self._file_volumes is None:
            rows = read_outcomes(self._library).to_dict("records")
            self._file_volumes = {row["file_key"]: row["volume_key"] for row in rows}
        for candidate in (name, *candidate_names(Path(name))):
            volume = self._file_volumes.get(self._pseudonymizer.file_key(candidate))
            if volume:
                yield volume


_NO_HU: Final = (
    "a CT whose values are not known to be Hounsfield units ({}): what a report says of density "
    "cannot be learned from it; ingest says why"
)
_UNKNOWN: Final = "no scan of the library belongs to its key, taken as {}; is key_kind right?"


def _check_key(library: Path, pseudonymizer: Pseudonymizer) -> None:
    path = identity_path(library)
    found = read_json(path).get("key_id") if path.is_file() else None
    if found != pseudonymizer.key_id:
        raise InputError(
            f"{library} was made with another key, so no report can be joined to it",
            hint="point key_file at the key that `medssl ingest` used",
        )


def _study_of(catalog: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    return {
        str(row[column]): str(row["study_key"])
        for row in catalog
        for column in ("volume_key", "series_key", "study_key")
    }


def _order(row: Mapping[str, Any]) -> tuple[float, str]:
    """Return where a volume stands in its study: as they were taken, then by their keys."""
    time_s = row["acquisition_s"]
    return (float("inf") if time_s is None else float(time_s), str(row["volume_key"]))


def _volume(row: Mapping[Any, Any]) -> Volume:
    return Volume(**{name: str(row[name]) for name in Volume.__dataclass_fields__})
