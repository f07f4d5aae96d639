"""Standardised uptake values: what a PET says of dose, decay, time and weight, and what follows.

Times are turned into seconds since the injection while the header is read, so that no date is
carried further. Rules: DICOM PS3.3 C.8.9.1; QIBA, "Profile: FDG-PET/CT as an Imaging Biomarker",
vendor-neutral pseudo-code for SUV.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pydicom import Dataset
from pydicom.valuerep import DA, DT, TM

from medssl.io.dicom.values import floats_of, text_of, words_of

_GRAMS_PER_KG = 1000
_MOST_HALF_LIVES = 10
_WEIGHT_KG = (0.2, 500.0)
_DAY = timedelta(days=1)
_MOST_HALF_LIFE_UNDATED_S = 6 * 3600
"""Four half-lives a day: nobody scans a day after the injection, so the time of day tells all."""

_PHILIPS_GROUP, _PHILIPS_CREATOR = 0x7053, "Philips PET Private Group"
_PHILIPS_SUV, _PHILIPS_ACTIVITY = 0x00, 0x09
"""Factors from stored counts to SUV, and to Bq/ml."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pet:
    """What one PET slice states; None where it does not, or not believably."""

    units: str
    decay: str
    """START: corrected to the start of the scan; ADMIN: to the injection; NONE."""
    corrected: bool
    """For decay and attenuation."""
    enhanced: bool
    dose_bq: float | None
    half_life_s: float | None
    weight_kg: float | None
    series_after_s: float | None
    """Start of the series, in seconds after the injection."""
    acquired_after_s: float | None
    """Start of this slice's acquisition, likewise."""
    philips_suv: float | None
    philips_activity: float | None
    suv_type: str = "BW"
    """Per gram of what, where the values are uptake already: BW is body weight."""
    injection_dated: bool = False
    """Whether the day of the injection is stated, not only the time of day."""


@dataclass(frozen=True, slots=True)
class Uptake:
    """What the rescaled values of a PET are multiplied by to be SUV, or why that is not known."""

    factor: float | None
    missing: str = ""
    """The reason, as a word of a flag."""


def pet_of(dataset: Dataset, *, enhanced: bool) -> Pet | None:
    """Return what ``dataset`` states, None for another modality."""
    if text_of(dataset, "Modality") != "PT":
        return None
    tracers = dataset.get("RadiopharmaceuticalInformationSequence") or [Dataset()]
    tracer = tracers[0]
    series = _moment(dataset, "SeriesDate", "SeriesTime")
    acquired = _moment(dataset, "AcquisitionDate", "AcquisitionTime")
    return Pet(
        units=text_of(dataset, "Units").upper(),
        decay=text_of(dataset, "DecayCorrection").upper(),
        corrected={"DECY", "ATTN"} <= set(words_of(dataset, "CorrectedImage")),
        enhanced=enhanced,
        dose_bq=_positive(tracer, "RadionuclideTotalDose"),
        half_life_s=_positive(tracer, "RadionuclideHalfLife"),
        weight_kg=_weight_kg(dataset),
        series_after_s=_after_injection(tracer, series),
        acquired_after_s=_after_injection(tracer, acquired),
        philips_suv=_philips(dataset, _PHILIPS_SUV),
        philips_activity=_philips(dataset, _PHILIPS_ACTIVITY),
        suv_type=text_of(dataset, "SUVType").upper() or "BW",
        injection_dated=_injected(tracer) is not None,
    )


def uptake(slices: Sequence[Pet]) -> Uptake:
    """Return the factor of a volume: ``SUVbw = factor * value``.

    For activity in Bq/ml, ``factor = weight in g / dose in Bq at the time the values are corrected
    to``. Values corrected to the start of the scan face a dose that has decayed by then:
    ``dose * 2^(-t / half-life)``, ``t`` from the injection to the start of the series, or to the
    first acquisition where the series claims to start after it (it was then processed later).
    """
    first = slices[0]
    if len({_whatever_time(pet) for pet in slices}) > 1:
        return Uptake(None, "slices_differ")
    if first.enhanced or first.units not in ("BQML", "CNTS", "GML"):
        return Uptake(None, "enhanced" if first.enhanced else "units")
    if first.units == "GML":
        return Uptake(1.0) if first.suv_type == "BW" else Uptake(None, "suv_type")
    if first.units == "CNTS" and first.philips_suv:
        return Uptake(first.philips_suv)
    activity = 1.0 if first.units == "BQML" else first.philips_activity
    return Uptake(None, "units") if activity is None else _of_activity(slices, activity)


def _whatever_time(pet: Pet) -> Pet:
    """Return what all slices of a scan have in common: everything but when each was acquired."""
    return replace(pet, series_after_s=None, acquired_after_s=None)


def _of_activity(slices: Sequence[Pet], activity: float) -> Uptake:
    """Return the factor of values that are Bq/ml once multiplied by ``activity``."""
    first = slices[0]
    start = first.decay == "START"
    start_s, half_life_s = _start_s(slices), first.half_life_s
    checks = {
        "weight": first.weight_kg is None,
        "dose": first.dose_bq is None,
        "not_corrected": not first.corrected,
        "decay_correction": first.decay not in ("START", "ADMIN"),
        "half_life": start and half_life_s is None,
        "time": start and start_s is None,
        "injection_date": start
        and not first.injection_dated
        and (half_life_s or 0) > _MOST_HALF_LIFE_UNDATED_S,
    }
    missing = next((word for word, true in checks.items() if true), "")
    if missing or first.weight_kg is None or first.dose_bq is None:
        return Uptake(None, missing)
    dose_bq = first.dose_bq
    if start and start_s is not None and half_life_s is not None:
        if not 0 <= start_s <= _MOST_HALF_LIVES * half_life_s:
            return Uptake(None, "implausible_time")
        dose_bq *= 2 ** (-start_s / half_life_s)
    return Uptake(activity * first.weight_kg * _GRAMS_PER_KG / dose_bq)


def _start_s(slices: Sequence[Pet]) -> float | None:
    acquired = [pet.acquired_after_s for pet in slices if pet.acquired_after_s is not None]
    series_s = slices[0].series_after_s
    earliest_s = min(acquired, default=None)
    if series_s is None or earliest_s is None:
        return earliest_s if series_s is None else series_s
    return min(series_s, earliest_s)


def _after_injection(tracer: Dataset, moment: datetime | None) -> float | None:
    """Return the seconds from the injection to ``moment``.

    Where only the time of day of the injection is stated, it was the last one before ``moment``:
    on the day before, if the scan began after midnight. Long-lived tracers need the date.
    """
    if moment is None:
        return None
    if (injected := _injected(tracer)) is not None:
        return (moment - injected).total_seconds()
    try:
        time = TM(text_of(tracer, "RadiopharmaceuticalStartTime"))
    except ValueError:
        time = None
    if time is None:
        return None
    start = datetime.combine(moment.date(), time)
    return (moment - (start if start <= moment else start - _DAY)).total_seconds()


def _injected(tracer: Dataset) -> datetime | None:
    try:
        stated = DT(text_of(tracer, "RadiopharmaceuticalStartDateTime"))
    except ValueError:
        return None
    return stated.replace(tzinfo=None) if stated else None


def _moment(dataset: Dataset, day: str, time: str) -> datetime | None:
    try:
        date, clock = DA(text_of(dataset, day)), TM(text_of(dataset, time))
    except ValueError:
        return None
    return datetime.combine(date, clock) if date and clock else None


def _positive(dataset: Dataset, keyword: str) -> float | None:
    found = floats_of([dataset], keyword, 1)
    return found[0] if found and found[0] > 0 else None


def _weight_kg(dataset: Dataset) -> float | None:
    weight = _positive(dataset, "PatientWeight")
    return weight if weight and _WEIGHT_KG[0] <= weight <= _WEIGHT_KG[1] else None


def _philips(dataset: Dataset, element: int) -> float | None:
    try:
        block = dataset.private_block(_PHILIPS_GROUP, _PHILIPS_CREATOR)
        value = float(block[element].value)
    except (KeyError, ValueError, TypeError):
        return None
    return value if value > 0 else None
