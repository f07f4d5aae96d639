"""A header that may leave, built from the allow-list: what is not on it is never copied.

This follows the Basic Application Level Confidentiality Profile of DICOM PS3.15, Annex E.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from pydicom import DataElement, Dataset
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.tag import BaseTag
from pydicom.uid import UID

from medssl import __version__
from medssl.io.deidentify import Pseudonymizer, body_part
from medssl.privacy import allow_list, values

Dates = Literal["shifted", "removed"]

_DUMMY_DATE, _DUMMY_TIME = "19700101", "000000"
_REQUIRED_DATES = frozenset({"SeriesDate", "ContentDate", "SeriesTime", "ContentTime"})
_MAY_BE_EMPTY = frozenset(
    {
        "RadiopharmaceuticalInformationSequence",
        "RadionuclideCodeSequence",
        "PatientOrientationCodeSequence",
        "PatientGantryRelationshipCodeSequence",
        "EnergyWindowRangeSequence",
        "AcquisitionContextSequence",
    }
)
_UNKNOWN = "UNKNOWN"
_UNKNOWN_WORD_LETTERS = 12

Action = Callable[[str, Any], Any]


@dataclass(frozen=True)
class HeaderCleaner:
    """Makes clean headers of the files of one patient."""

    pseudonymizer: Pseudonymizer
    patient_key: str
    dates: Dates = "shifted"
    characteristics: bool = True
    """Whether sex, age in bands of ten years, weight and size stay."""

    def clean(self, source: Dataset, *, defaced: bool = False) -> Dataset:
        """Return what of ``source`` may leave, without pixels, and the record of what was done."""
        clean = self._listed(source)
        clean.SpecificCharacterSet = "ISO_IR 192"
        clean.PatientName = clean.PatientID = self.patient_key
        clean.PatientBirthDate = ""
        clean.PatientSex = ""
        for keyword in ("StudyDate", "StudyTime", *sorted(allow_list.EMPTIED_ALWAYS)):
            if keyword not in clean:
                setattr(clean, keyword, "")
        if self.characteristics:
            self._describe_patient(source, clean)
        self._record(clean, defaced=defaced)
        return clean

    def _describe_patient(self, source: Dataset, clean: Dataset) -> None:
        sex = str(_read(source, "PatientSex") or "")
        clean.PatientSex = sex if sex in {"F", "M", "O"} else ""
        age = values.age_band(_read(source, "PatientAge") or "")
        if age:
            clean.PatientAge = age
        for keyword in ("PatientWeight", "PatientSize"):
            number = values.numbers(_read(source, keyword))
            if number:
                setattr(clean, keyword, number)

    def _record(self, clean: Dataset, *, defaced: bool) -> None:
        done = {
            "113100": True,
            "113102": defaced,
            "113107": self.dates == "shifted",
            "113108": self.characteristics,
        }
        clean.PatientIdentityRemoved = "YES"
        clean.DeidentificationMethod = f"medssl {__version__}: attributes by allow-list"
        clean.DeidentificationMethodCodeSequence = [
            _code_item(code, "DCM", allow_list.CONFORMANCE[code])
            for code, true in done.items()
            if true
        ]
        moved = self.dates == "shifted"
        clean.LongitudinalTemporalInformationModified = "MODIFIED" if moved else "REMOVED"
        if defaced:
            clean.RecognizableVisualFeatures = "NO"

    def _listed(self, source: Dataset) -> Dataset:
        clean = Dataset()
        for tag in sorted(source.keys()):
            keyword = "" if tag.is_private else keyword_for_tag(tag)
            action = self._actions.get(keyword)
            if action is None:
                continue
            value = action(keyword, _read(source, keyword))
            if value is not None:
                clean.add(DataElement(tag, _vr(source, tag), value))
        return clean

    @cached_property
    def _actions(self) -> dict[str, Action]:
        groups: list[tuple[frozenset[str], Action]] = [
            (allow_list.NUMBERS, lambda _, value: values.numbers(value)),
            (allow_list.TERMS, self._terms),
            (allow_list.DATES, self._date),
            (allow_list.CLASSES, _standard_uid),
            (allow_list.UIDS, self._uid),
            (allow_list.SEQUENCES, self._sequence),
            (allow_list.CODES, self._codes),
            (allow_list.EMPTIED, lambda *_: ""),
            (frozenset(allow_list.DUMMIES), lambda keyword, _: allow_list.DUMMIES[keyword]),
        ]
        actions = {keyword: action for group, action in reversed(groups) for keyword in group}
        return actions | {
            "Manufacturer": lambda keyword, value: (
                values.manufacturer(value) or allow_list.DUMMIES[keyword]
            ),
            "ConvolutionKernel": lambda keyword, value: (
                values.kernels(value) or allow_list.DUMMIES[keyword]
            ),
            "BodyPartExamined": lambda _, value: (
                str(value).strip().upper() if body_part(str(value)) else None
            ),
            "ImageType": self._image_type,
            "FrameType": self._image_type,
        }

    def _terms(self, keyword: str, value: Any) -> Any:
        unknown = allow_list.DUMMIES.get(keyword, _UNKNOWN) if values.several(value) else ""
        return values.terms(value) or unknown

    def _image_type(self, _keyword: str, value: Any) -> list[str]:
        """Keep known words; others become keyed words, so that what they tell apart stays apart."""
        return [self._known_or_keyed(word) for word in values.words(value)]

    def _known_or_keyed(self, word: str) -> str:
        if word in allow_list.WORDS or not word:
            return word
        return self.pseudonymizer.content_key(word)[:_UNKNOWN_WORD_LETTERS].upper()

    def _date(self, keyword: str, value: Any) -> str:
        text = str(value or "")
        if self.dates == "removed":
            return _removed(keyword) if text else ""
        if dictionary_VR(keyword) == "TM":
            return values.clock(text)
        return values.moved_date(text, self.pseudonymizer.day_shift(self.patient_key))

    def _uid(self, _keyword: str, value: Any) -> Any:
        found = [str(uid) for uid in values.several(value)]
        mapped = [uid if _is_standard(uid) else self.pseudonymizer.uid(uid) for uid in found]
        return mapped or None

    def _sequence(self, keyword: str, value: Any) -> list[Dataset] | None:
        items = [item for item in map(self._listed, value or []) if _names_its_class(item)]
        if keyword != "PerFrameFunctionalGroupsSequence":  # there an item is a frame
            items = [item for item in items if len(item)]
        return items if items or keyword in _MAY_BE_EMPTY else None

    def _codes(self, keyword: str, value: Any) -> list[Dataset] | None:
        items = []
        for item in value or []:
            value_, scheme = (
                str(_read(item, k) or "") for k in ("CodeValue", "CodingSchemeDesignator")
            )
            found = values.standard_code(value_, scheme)
            if found is not None:
                clean = _code_item(*found)
                clean.update(self._listed(item))
                items.append(clean)
        return items if items or keyword in _MAY_BE_EMPTY else None


def _names_its_class(item: Dataset) -> bool:
    """Return whether a reference says of what class it is: others are of no use, and invalid."""
    return "ReferencedSOPInstanceUID" not in item or "ReferencedSOPClassUID" in item


def _standard_uid(_keyword: str, value: Any) -> str | None:
    return str(value) if _is_standard(str(value)) else None


def _is_standard(uid: str) -> bool:
    return bool(UID(uid).type)  # "" for what the standard does not list


def _removed(keyword: str) -> str:
    vr = dictionary_VR(keyword)
    if vr == "DT":
        return _DUMMY_DATE + _DUMMY_TIME
    required = keyword in _REQUIRED_DATES
    return (_DUMMY_DATE if vr == "DA" else _DUMMY_TIME) if required else ""


def _code_item(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _read(source: Dataset, keyword: str) -> Any:
    """Return a value, or None where it is absent or its bytes are no value of its kind."""
    try:
        return source.get(keyword)
    except (ValueError, TypeError, ArithmeticError, LookupError, NotImplementedError):
        return None


def _vr(source: Dataset, tag: BaseTag) -> str:
    """Return the VR of the standard; where that leaves a choice, the file's."""
    vr = dictionary_VR(tag)
    return str(source[tag].VR) if " or " in vr else vr
