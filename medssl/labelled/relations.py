"""What is wrong between the cases of a set, and would spoil a split: copies, and torn patients."""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medssl.labelled.cases import LabelledCase, Part

Folds = tuple[Mapping[Part, tuple[str, ...]], ...]


def images_listed_twice(cases: Sequence[LabelledCase]) -> Iterator[str]:
    """Yield a problem for every case whose image an earlier case has."""
    seen = dict[tuple[Path, ...], str]()
    for case in cases:
        files = case.files or (case.image,)
        first = seen.setdefault(tuple(map(_resolved, files)), case.case_key)
        if first != case.case_key:
            yield f"{shown(case)}: the same image as {first}"


def patients_in_several_parts(cases: Sequence[LabelledCase]) -> Iterator[str]:
    """Yield a problem for every patient whose cases are declared for several parts."""
    declared = defaultdict[str, dict[str, str]](dict)
    for case in cases:
        if case.part:
            declared[case.patient_key].setdefault(case.part, case.case_key)
    for firsts in declared.values():
        if len(firsts) > 1:
            where = ", ".join(f"{key} in {part}" for part, key in firsts.items())
            yield f"cases of one patient are declared for several parts: {where}"


@dataclass(frozen=True, kw_only=True)
class Copies:
    """Images of equal voxels under several names."""

    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    cases: tuple[LabelledCase, ...]
    """All cases; those of equal images are of one patient, so that no split parts them."""


def find_copies(cases: Sequence[LabelledCase], content_of: Mapping[str, str]) -> Copies:
    """Compare the voxels of all images; copies in several declared parts are a problem.

    Args:
        cases: cases that could be read.
        content_of: case key -> digest of the image's voxels.
    """
    groups = defaultdict[str, list[LabelledCase]](list)
    for case in cases:
        groups[content_of[case.case_key]].append(case)
    problems, warnings = list[str](), list[str]()
    patients = {case.patient_key: case.patient_key for case in cases}
    for group in groups.values():
        files = {case.files or (_resolved(case.image),) for case in group}
        if len(files) == 1:  # listed twice, which is named as such
            continue
        parts = sorted({case.part for case in group if case.part})
        if len(parts) > 1:
            problems.append(
                f"the same image in {' and '.join(parts)}: {', '.join(map(shown, group))}"
            )
            continue
        kept = min(_root(patients, case.patient_key) for case in group)
        several = len({case.patient_key for case in group}) > 1
        joined = "; they are kept together as one patient's" if several else ""
        keys = ", ".join(case.case_key for case in group)  # no file names: warnings are logged
        warnings.append(f"the same image under several names: {keys}{joined}")
        for case in group:
            patients[_root(patients, case.patient_key)] = kept
    together = tuple(replace(case, patient_key=_root(patients, case.patient_key)) for case in cases)
    return Copies(problems=tuple(problems), warnings=tuple(warnings), cases=together)


def resolve_folds(
    folds: Sequence[Mapping[str, Sequence[str]]], key_of: Mapping[str, str], problems: list[str]
) -> Folds:
    """Return the folds in case keys; names that no case has are problems.

    Args:
        folds: ``train`` and ``val`` of each, as names of the set.
        key_of: name -> case key.
        problems: what is wrong is added.
    """
    resolved = []
    for number, fold in enumerate(folds):
        unknown = [name for names in fold.values() for name in names if name not in key_of]
        if unknown:
            first = ", ".join(unknown[:3]) + (", ..." if unknown[3:] else "")
            problems.append(f"fold {number} names {len(unknown)} unknown case(s): {first}")
        keys = {
            part: tuple(key_of[name] for name in fold[part] if name in key_of)
            for part in ("train", "val")
        }
        resolved.append(keys)
    return tuple(resolved)  # type: ignore[arg-type]


def torn_by_folds(folds: Folds, cases: Sequence[LabelledCase]) -> Iterator[str]:
    """Yield a problem for every fold that trains and validates on one patient."""
    patient_of = {case.case_key: case.patient_key for case in cases}
    for number, fold in enumerate(folds):
        train, val = (
            {patient_of[key]: key for key in fold[part] if key in patient_of}
            for part in ("train", "val")
        )
        for patient in sorted(train.keys() & val.keys()):
            yield (
                f"fold {number} trains and validates on one patient: {train[patient]} in train, "
                f"{val[patient]} in val"
            )


def shown(case: LabelledCase) -> str:
    """Return how a case is called: its key and, where it is a file of its own, that file's name."""
    if case.files and case.label:
        return f"{case.case_key} ({case.label.name})"
    is_folder = os.path.isdir(case.image)  # noqa: PTH112 - Path.is_dir fails where it is too long
    return case.case_key if is_folder else f"{case.case_key} ({case.image.name})"


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, ValueError):  # too long, or with a null character: it is missing anyway
        return path


def _root(patients: dict[str, str], patient: str) -> str:
    while patients[patient] != patient:
        patient = patients[patient]
    return patient
