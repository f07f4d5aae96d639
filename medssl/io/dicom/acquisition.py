"""How a scan was made and of whom, as far as it names nobody: numbers, vocabulary, pseudonyms."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date

from pydicom import Dataset

from medssl.io.deidentify import Pseudonymizer
from medssl.io.dicom.values import floats_of, innermost, text_of

_EPOCH = date(1970, 1, 1)

_MANUFACTURERS = {
    "siemens": "siemens",
    "ge": "ge",
    "ge medical": "ge",
    "general electric": "ge",
    "philips": "philips",
    "adac": "philips",
    "marconi": "philips",
    "picker": "philips",
    "canon": "canon",
    "toshiba": "canon",
    "hitachi": "hitachi",
    "fujifilm": "fujifilm",
    "uih": "united_imaging",
    "united imaging": "united_imaging",
    "shanghai united": "united_imaging",
    "neusoft": "neusoft",
    "hyperfine": "hyperfine",
    "bruker": "bruker",
    "esaote": "esaote",
}
"""How the names of manufacturers begin, and the word that stands for each."""

_KERNEL_CODE = re.compile(r"(?:[A-Z][a-z]?|FC)\d{2}[a-z]?")
_KERNEL_WORDS = """
STANDARD SOFT LUNG BONE BONEPLUS DETAIL EDGE CHEST ULTRA SHARP SMOOTH BODY BRAIN
A B C D E L EA EB EC UA UB UC YA YB YC
"""
_KNOWN_KERNELS = frozenset(_KERNEL_WORDS.split())
"""Names of reconstruction kernels; others are free text, and stay outside."""

_RANGES = {
    "kvp": ("KVP", 10, 500),
    "repetition_time_ms": ("RepetitionTime", 0, 1e6),
    "inversion_time_ms": ("InversionTime", 0, 1e5),
    "flip_angle_deg": ("FlipAngle", 0, 360),
    "field_strength_t": ("MagneticFieldStrength", 0.001, 30),
    "slice_thickness_mm": ("SliceThickness", 0.001, 500),
    "stated_step_mm": ("SpacingBetweenSlices", 0.001, 500),
    "b_value": ("DiffusionBValue", 0, 1e5),
}
"""Numbers kept, with the least and the most that can be true."""

_SEXES = ("F", "M", "O")
_OLDEST_BAND = 90
_DAYS_PER_YEAR = 365.25
_AGE = re.compile(r"(\d{1,3})([DWMY])")
_YEARS = {"D": 1 / _DAYS_PER_YEAR, "W": 7 / _DAYS_PER_YEAR, "M": 1 / 12, "Y": 1.0}
_TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d)?([0-5]\d(?:\.\d{1,6})?)?")
_SECONDS_PER_DAY = 86_400
_GAUSS_PER_TESLA = 10_000
_GAUSS_ABOVE = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Acquisition:
    """Facts of one slice; None or "" for what is not stated, or not believable."""

    acquisition_key: str = ""
    """Pseudonym shared by the images of one acquisition, whatever was reconstructed from it; MR
    numbers anew in every series, so there only together with ``acquisition_s``."""
    acquisition_s: float | None = None
    """When it was acquired, in seconds after the time of the study; of a volume, its first slice.
    """
    manufacturer: str = ""
    scanner_key: str = ""
    """Pseudonym of manufacturer, model and serial number."""
    kernel: str = ""
    kvp: float | None = None
    echo_time_ms: float | None = None
    repetition_time_ms: float | None = None
    inversion_time_ms: float | None = None
    flip_angle_deg: float | None = None
    field_strength_t: float | None = None
    b_value: float | None = None
    slice_thickness_mm: float | None = None
    """As stated: the width of the slice, not the distance to the next."""
    stated_step_mm: float | None = None
    """As stated: the distance to the next slice. Where slices lie, their positions say."""
    sex: str = ""
    age_band: str = ""
    """Ten years, such as "40-49"; "90+" for the oldest."""
    relative_day: int | None = None
    """Day of the study, moved by the patient's secret number of days: distances stay true."""


def acquisition_of(
    layers: Sequence[Dataset], dataset: Dataset, pseudonymizer: Pseudonymizer, patient_key: str
) -> Acquisition:
    """Return the facts of one slice.

    Args:
        layers: where to look values up, the slice's own groups first.
        dataset: the file's.
        pseudonymizer: makes the keys.
        patient_key: whose days are shifted.
    """
    numbers = {name: _between(layers, *bounds) for name, bounds in _RANGES.items()}
    tesla = numbers["field_strength_t"]
    if tesla is None and (gauss := _between(layers, "MagneticFieldStrength", _GAUSS_ABOVE, 3e5)):
        numbers["field_strength_t"] = gauss / _GAUSS_PER_TESLA
    day = _day(text_of(dataset, "StudyDate"))
    return Acquisition(
        acquisition_key=_acquisition_key(dataset, pseudonymizer),
        acquisition_s=seconds_after(
            text_of(dataset, "StudyTime"),
            text_of(dataset, "AcquisitionDateTime"),
            text_of(dataset, "AcquisitionTime"),
        ),
        manufacturer=manufacturer(text_of(dataset, "Manufacturer")),
        scanner_key=_scanner_key(dataset, pseudonymizer),
        kernel=kernel(text_of(innermost(layers, "ConvolutionKernel"), "ConvolutionKernel")),
        echo_time_ms=_between(layers, "EffectiveEchoTime", 0, 1e5)
        or _between(layers, "EchoTime", 0, 1e5),
        sex=sex if (sex := text_of(dataset, "PatientSex").upper()) in _SEXES else "",
        age_band=_age_band(dataset, day),
        relative_day=None if day is None else day + pseudonymizer.day_shift(patient_key),
        **numbers,
    )


def agreed(facts: Sequence[Acquisition]) -> Acquisition:
    """Return what all slices of a volume agree on; the rest is not stated."""
    neutral = Acquisition()
    values = {
        field.name: {getattr(fact, field.name) for fact in facts} for field in fields(Acquisition)
    }
    starts = [fact.acquisition_s for fact in facts if fact.acquisition_s is not None]
    shared = {
        name: found.pop() if len(found) == 1 else getattr(neutral, name)
        for name, found in values.items()
    }
    return Acquisition(**shared | {"acquisition_s": min(starts, default=None)})


def seconds_after(study: str, date_time: str, time: str) -> float | None:
    """Return when something was acquired after the time of the study, None where that is not said.

    Small numbers, from which no time of day follows.

    Args:
        study: time of the study, as DICOM spells times.
        date_time: date and time of the acquisition, or "".
        time: its time, for want of these.
    """
    acquired = _time_s(date_time[8:])
    if acquired is None:
        acquired = _time_s(time)
    begun = _time_s(study)
    if acquired is None or begun is None:
        return None
    half = _SECONDS_PER_DAY / 2
    return round((acquired - begun + half) % _SECONDS_PER_DAY - half, 3)  # also past midnight


def manufacturer(text: str) -> str:
    """Return the word of the vocabulary, "other" for a name it does not know, "" for none."""
    name = text.lower().strip()
    longest = sorted(_MANUFACTURERS, key=len, reverse=True)
    known = (_MANUFACTURERS[start] for start in longest if re.match(rf"{start}\b", name))
    return next(known, "other" if name else "")


def kernel(text: str) -> str:
    """Return the name of a reconstruction kernel, "" for what does not look like one."""
    name = text.strip("[]' ").split("\\")[0].split(",")[0].strip("' ")
    return name if _KERNEL_CODE.fullmatch(name) or name in _KNOWN_KERNELS else ""


def _between(layers: Sequence[Dataset], keyword: str, low: float, high: float) -> float | None:
    found = floats_of(layers, keyword, 1)
    return found[0] if found and low <= found[0] <= high else None


def _acquisition_key(dataset: Dataset, pseudonymizer: Pseudonymizer) -> str:
    unique = text_of(dataset, "AcquisitionUID")
    number = text_of(dataset, "AcquisitionNumber")
    study, frame = text_of(dataset, "StudyInstanceUID"), text_of(dataset, "FrameOfReferenceUID")
    if not (unique or number):
        return ""
    return pseudonymizer.acquisition_key(unique or f"{study}/{frame}/{number}")


def _time_s(text: str) -> float | None:
    """Return the seconds since midnight of a DICOM time, None where it is none."""
    found = _TIME.match(text.replace(":", ""))
    if not found:
        return None
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return 3600 * hours + 60 * minutes + seconds


def _scanner_key(dataset: Dataset, pseudonymizer: Pseudonymizer) -> str:
    names = ("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber")
    texts = [text_of(dataset, name) for name in names]
    return pseudonymizer.scanner_key(*texts) if any(texts) else ""


def _day(text: str) -> int | None:
    """Return the days from 1970 to a DICOM date, None where it is none."""
    try:
        return (date(int(text[:4]), int(text[4:6]), int(text[6:8])) - _EPOCH).days
    except ValueError:
        return None


def _age_band(dataset: Dataset, day: int | None) -> str:
    stated = _AGE.fullmatch(text_of(dataset, "PatientAge").upper())
    born = _day(text_of(dataset, "PatientBirthDate"))
    if stated:
        years = int(stated[1]) * _YEARS[stated[2]]
    elif day is not None and born is not None and day >= born:
        years = (day - born) / _DAYS_PER_YEAR
    else:
        return ""
    start = int(years) // 10 * 10
    return f"{_OLDEST_BAND}+" if start >= _OLDEST_BAND else f"{start}-{start + 9}"
