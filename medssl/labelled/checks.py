"""From what a set says of itself to checked cases, and to everything that is wrong with it."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from medssl.labelled.cases import PARTS, LabelledCase
from medssl.labelled.examination import Examination, examine
from medssl.labelled.layouts.base import Entry, Listing
from medssl.labelled.relations import (
    Folds,
    find_copies,
    images_listed_twice,
    patients_in_several_parts,
    resolve_folds,
    shown,
    torn_by_folds,
)
from medssl.runs.progress import track


@dataclass
class Checked:
    """What became of a listing; the rest is whole where there are no problems."""

    labels: tuple[str, ...]
    modality: str
    cases: tuple[LabelledCase, ...] = ()
    folds: Folds = ()
    digests: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def check(listing: Listing) -> Checked:
    """Read every file that is listed, and compare the cases with each other."""
    checked = Checked(
        labels=listing.labels or (),
        modality=listing.modality or "unknown",
        problems=list(listing.problems),
        warnings=list(listing.warnings),
    )
    cases, key_of = _number(listing.entries, listing.labels, checked)
    checked.problems += images_listed_twice(cases)
    checked.problems += patients_in_several_parts(cases)
    found = _examine(cases, listing, checked)
    if listing.labels is None:
        checked.labels = _labels_of(found.values(), checked)
    if not listing.modality:
        checked.modality = _modality_of(found.values(), checked)
    good = [
        replace(case, classes=_classes(found[case.case_key], listing))
        for case in cases
        if case.case_key in found
    ]
    copies = find_copies(good, {key: seen.content for key, seen in found.items()})
    checked.problems += copies.problems
    checked.warnings += copies.warnings
    checked.folds = resolve_folds(listing.folds, key_of, checked.problems)
    checked.problems += torn_by_folds(checked.folds, copies.cases)
    checked.cases = copies.cases
    return checked


def _number(
    entries: Sequence[Entry], labels: Sequence[str] | None, checked: Checked
) -> tuple[list[LabelledCase], dict[str, str]]:
    """Return the cases that can be looked for, and the key of every entry's name."""
    width = max(3, len(str(len(entries))))  # so that sorting by key is the order of the list
    cases, patients, key_of = list[LabelledCase](), dict[str, str](), dict[str, str]()
    for number, entry in enumerate(entries, start=1):
        key = f"case-{number:0{width}d}"
        key_of.setdefault(entry.name, key)  # of a name to train and to test, the one to train
        checked.problems += [f"{key}: {problem}" for problem in entry.problems]
        part = entry.part.lower()
        if part not in ("", *PARTS):  # not shown: it may be a column of anything
            checked.problems.append(f"{key}: its part is none of {', '.join(PARTS)}")
        if entry.image is None:
            continue
        patient = entry.patient or f"\0{key}"  # its own, and nobody is called that
        cases.append(
            LabelledCase(
                case_key=key,
                patient_key=patients.setdefault(patient, f"patient-{len(patients) + 1:0{width}d}"),
                image=entry.image,
                files=entry.files,
                label=entry.label,
                segments=entry.segments,
                annotated=entry.annotated,
                targets=entry.targets,
                part=part if part in PARTS else None,
                about=entry.about,
            )
        )
    checked.problems += unknown_classes(entries, labels)
    return cases, key_of


def unknown_classes(entries: Sequence[Entry], labels: Sequence[str] | None) -> list[str]:
    """Return a problem for what is said to be annotated and is no class."""
    named = Counter(name for entry in entries for name in entry.annotated or ())
    if labels is None:
        return ["`annotated` needs a set that declares its classes"] if named else []
    return [
        f"`annotated` names {name!r} in {count} case(s), which is none of the classes "
        f"{', '.join(labels[1:])}"
        for name, count in named.items()
        if name not in labels[1:]
    ]


def _examine(
    cases: Sequence[LabelledCase], listing: Listing, checked: Checked
) -> dict[str, Examination]:
    """Read every case and return what the good ones hold."""
    allowed = len(listing.labels) + (listing.ignore_label is not None) if listing.labels else None
    found = {}
    for case in track(cases, "Checking labelled volumes"):
        seen = examine(case, checked.modality, allowed)
        checked.problems += [f"{shown(case)}: {problem}" for problem in seen.problems]
        if seen.problems:
            continue
        found[case.case_key] = seen
        checked.digests[case.case_key] = seen.digest
        if case.label is not None and not _classes(seen, listing):
            checked.warnings.append(
                f"{case.case_key}: the label map shows no class, only background; if nothing is to "
                "be seen there, that is a valid reference"
            )
    return found


def _classes(seen: Examination, listing: Listing) -> tuple[int, ...]:
    return tuple(sorted(seen.values - {0, listing.ignore_label}))


def _labels_of(found: Collection[Examination], checked: Checked) -> tuple[str, ...]:
    """Return names for the classes of maps that nobody described."""
    values = {value for seen in found for value in seen.values} - {0}
    if not values:
        return ()
    most = max(values)
    absent = sorted(set(range(1, most + 1)) - values)
    if len(values) == 1 and absent:
        checked.problems.append(
            f"the label maps hold 0 and {most} only: write the one class as 1, not as {most}"
        )
    elif absent:
        numbers = ", ".join(map(str, absent[:5])) + (", ..." if absent[5:] else "")
        checked.warnings.append(
            f"no label map shows the class(es) {numbers}: {len(absent)} of {most} stay empty"
        )
    return ("background", *(f"label {number}" for number in range(1, most + 1)))


def _modality_of(found: Collection[Examination], checked: Checked) -> str:
    """Return what the images say they are, if they agree."""
    modalities = sorted({seen.modality for seen in found})
    if len(modalities) > 1:
        checked.warnings.append(f"the images are of several modalities: {', '.join(modalities)}")
        return "unknown"
    return modalities[0] if modalities else "unknown"
