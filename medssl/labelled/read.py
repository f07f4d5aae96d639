"""A labelled set of any layout, checked whole: all that is wrong is named before any training."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from medssl.config.choice import available, find
from medssl.errors import ConfigError, InputError
from medssl.labelled.cases import LabelledSet
from medssl.labelled.checks import Checked, check
from medssl.labelled.layouts.base import Layout, Listing
from medssl.runs.digest import digest_json

_LAYOUTS = "medssl.labelled.layouts"
_SHOWN = 50
_SHOWN_WARNINGS = 10

_log = logging.getLogger(__name__)


def read_labelled(path: Path, layout: str = "auto") -> LabelledSet:
    """Return the labelled set at ``path``, after checking all of it.

    Args:
        path: a file or a folder; which, the layout says.
        layout: name of a file in ``medssl.labelled.layouts``, or ``auto`` for the one that fits.

    Raises:
        ConfigError: There is no layout of that name.
        InputError: No layout fits, or listing every problem of the data: missing and unreadable
            files, images that have no label, label maps on another grid than their image, label
            values that are not declared, patients and copies of images in several parts or on
            both sides of a fold.
    """
    path = Path(path)
    listing = choose_layout(path, layout).read(path)
    checked = check(listing)
    if checked.problems:
        raise InputError(
            f"{path}: {len(checked.problems)} problem(s) in the labelled data set:"
            f"{_listed(checked.problems, _SHOWN)}",
            hint="correct the files, or take the entries out of the set's list",
        )
    if checked.warnings:
        _log.warning("%s:%s", path, _listed(checked.warnings, _SHOWN_WARNINGS))
    return LabelledSet(
        name=listing.name,
        modality=checked.modality,
        licence=listing.licence,
        labels=checked.labels,
        regions=listing.regions,
        ignore_label=listing.ignore_label,
        cases=checked.cases,
        folds=checked.folds,
        warnings=tuple(checked.warnings),
        digest=_digest(listing, checked),
    )


def choose_layout(path: Path, layout: str = "auto") -> Layout:
    """Return the layout of that name, or the one that fits what lies at ``path``.

    Raises:
        ConfigError: There is no layout of that name.
        InputError: It does not fit, none does, or several do.
    """
    names = available(_LAYOUTS)
    if layout != "auto" and layout not in names and "." not in layout:
        raise ConfigError(
            f"there is no layout {layout!r} of labelled sets",
            hint=f"choose one of auto, {', '.join(names)}",
        )
    if not path.exists():
        raise InputError(
            f"{path}: there is no such file or folder",
            hint="give the path of a labelled set: a dataset.json, a table, or a folder",
        )
    names = names if layout == "auto" else [layout]
    layouts = {name: cast(Layout, find(_LAYOUTS, name)()) for name in names}
    mismatches = {name: found.mismatch(path) for name, found in layouts.items()}
    fitting = [name for name, mismatch in mismatches.items() if not mismatch]
    if len(fitting) > 1:
        raise InputError(
            f"{path}: this could be read as {' or as '.join(fitting)}", hint="set the layout"
        )
    if not fitting:
        tried = [f"{name}, {layouts[name].looks_for}: {mismatches[name]}" for name in names]
        raise InputError(
            f"{path}: this is no labelled set that can be read; tried were{_listed(tried, _SHOWN)}"
        )
    return layouts[fitting[0]]


def _listed(lines: Sequence[str], most: int) -> str:
    listed = "".join(f"\n  - {line}" for line in lines[:most])
    more = len(lines) - most
    return listed + (f"\n  - and {more} more" if more > 0 else "")


def _digest(listing: Listing, checked: Checked) -> str:
    """Return the set's digest; what a set does not declare leaves no trace in it."""
    patients = [case.patient_key for case in checked.cases]
    held = [list(checked.labels), checked.modality, checked.digests, patients]
    declared = {
        "regions": listing.regions,
        "ignore_label": listing.ignore_label,
        "parts": [case.part for case in checked.cases],
        "targets": [dict(case.targets) for case in checked.cases],
        "about": [dict(case.about) for case in checked.cases],
        "annotated": [list(case.annotated or ()) for case in checked.cases],
        "folds": [dict(fold) for fold in checked.folds],
    }
    said = declared["regions"] or declared["ignore_label"] is not None or declared["folds"]
    for name in ("parts", "targets", "about", "annotated"):
        said = said or any(declared[name])  # type: ignore[arg-type]
    return digest_json([*held, declared] if said else held)
