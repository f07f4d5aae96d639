"""Patients in an order that keeps the share of every class, so that its parts resemble the whole.

A stratum is the set of values that a patient's cases have: of a table's first column of targets,
or the classes that its label maps show. Where these are nearly as many as there are patients (a
measured number, or dozens of organs) there is nothing to even out, and no strata are made.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from medssl.labelled.cases import LabelledCase

Strata = Mapping[str, tuple[str, ...]]
"""Patient key -> its values, sorted; empty where there are no strata."""


def targets_of(cases: Sequence[LabelledCase]) -> Strata:
    """Return the values of the first column of targets, by patient."""
    column = next(iter(cases[0].targets), None) if cases else None
    return _few({case.case_key: [case.targets.get(column or "", "")] for case in cases}, cases)


def patterns_of(cases: Sequence[LabelledCase]) -> Strata:
    """Return which classes the label maps show, by patient."""
    return _few({case.case_key: list(map(str, case.classes)) for case in cases}, cases)


def evenly(patients: Sequence[str], strata: Strata) -> list[str]:
    """Return ``patients`` in an order of which every beginning has about the share of each stratum.

    The r-th of n patients of a stratum, counted from 0, goes to (r + 1/2) / n of the way; the only
    one of its stratum goes last, to training. Without strata the order stays.
    """
    sizes = Counter(strata.get(patient, ()) for patient in patients)
    ranks = Counter[tuple[str, ...]]()
    places = {}
    for patient in patients:
        stratum = strata.get(patient, ())
        size, rank = sizes[stratum], ranks[stratum]
        places[patient] = (rank + 0.5) / size if size > 1 else 1.0
        ranks[stratum] += 1
    return sorted(patients, key=places.__getitem__)


def dealt(patients: Sequence[str], strata: Strata, folds: int) -> dict[str, int]:
    """Return the fold of every patient: stratum after stratum, dealt like cards.

    The folds' sizes differ by one at most, and so does what they hold of any stratum.
    """
    groups = defaultdict[tuple[str, ...], list[str]](list)
    for patient in patients:
        groups[strata.get(patient, ())].append(patient)
    in_order = [patient for stratum in sorted(groups) for patient in groups[stratum]]
    return {patient: place % folds for place, patient in enumerate(in_order)}


def covering_first(patients: Sequence[str], strata: Strata) -> tuple[list[str], int]:
    """Return ``patients`` with those first that show a value none before them does, and how many.

    Any beginning at least so long has a patient of every value.
    """
    seen, first = set[str](), list[str]()
    for patient in patients:
        new = set(strata.get(patient, ())) - seen
        if new:
            first.append(patient)
            seen |= new
    taken = set(first)
    return [*first, *(patient for patient in patients if patient not in taken)], len(first)


def _few(values_of: Mapping[str, Sequence[str]], cases: Sequence[LabelledCase]) -> Strata:
    patients = defaultdict[str, set[str]](set)
    for case in cases:
        patients[case.patient_key] |= {value for value in values_of[case.case_key] if value}
    strata = {patient: tuple(sorted(values)) for patient, values in patients.items()}
    kinds = len(set(strata.values()))
    return strata if 1 < kinds <= max(2, len(strata) // 2) else {}
