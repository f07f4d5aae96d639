"""A labelled data set as the Medical Segmentation Decathlon lays it out: ``dataset.json``.

Everything that is wrong with it is found before any training, and named at once.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medssl.errors import InputError, RejectedFileError
from medssl.io.nifti import read_nifti
from medssl.io.volume import Volume
from medssl.labelled.cases import LabelledCase, LabelledSet
from medssl.runs.digest import digest_file, digest_json
from medssl.runs.progress import track

_AFFINE_TOLERANCE_MM = 1e-2
"""Image and label may be rounded differently, by far less than a voxel."""
_SHOWN = 50
_MOST_CLASSES = 256
_MODALITIES = {"ct": "CT", "mr": "MR", "mri": "MR"}


def read_labelled(dataset_json: Path) -> LabelledSet:
    """Return the data set that a Decathlon ``dataset.json`` describes, after checking all of it.

    Raises:
        InputError: The file is not a description, or listing every problem of the data: missing
            and unreadable files, images that have no label, label maps on another grid than
            their image, label values that are not declared.
    """
    described = _read_description(dataset_json)
    problems: list[str] = []
    labels = _labels(described, problems)
    modality = _modality(described, problems)
    cases = _cases(described, dataset_json.parent, problems)
    digests: dict[str, str] = {}
    for case in track(cases, "Checking labelled volumes"):
        found = list(_problems_of(case, modality, len(labels)))
        problems += [f"{case.case_key} ({case.image.name}): {problem}" for problem in found]
        if not found:
            files = [path for path in (case.image, case.label) if path is not None]
            digests[case.case_key] = "".join(map(digest_file, files))
    if problems:
        listed = "".join(f"\n  - {problem}" for problem in problems[:_SHOWN])
        more = len(problems) - _SHOWN
        raise InputError(
            f"{dataset_json}: {len(problems)} problem(s) in the labelled data set:{listed}"
            + (f"\n  - and {more} more" if more > 0 else ""),
            hint="correct the files, or take the entries out of dataset.json",
        )
    patients = [case.patient_key for case in cases]
    return LabelledSet(
        name=str(described.get("name", dataset_json.parent.name)),
        modality=modality,
        licence=str(described.get("licence", described.get("license", ""))),
        labels=labels,
        cases=tuple(cases),
        digest=digest_json([labels, modality, digests, patients]),
    )


def _read_description(dataset_json: Path) -> dict[str, Any]:
    if not dataset_json.is_file():
        raise InputError(
            f"{dataset_json}: there is no such file",
            hint="give the path of the data set's dataset.json",
        )
    try:
        described = json.loads(dataset_json.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{dataset_json}: this is not JSON: {error}") from None
    if not isinstance(described, dict) or not isinstance(described.get("training"), list):
        raise InputError(
            f"{dataset_json}: there is no list `training` of images and labels in it",
            hint="the expected layout is that of the Medical Segmentation Decathlon",
        )
    return described


def _labels(described: dict[str, Any], problems: list[str]) -> tuple[str, ...]:
    declared = described.get("labels")
    if not isinstance(declared, dict) or len(declared) < 2:  # noqa: PLR2004 - one beside 0
        problems.append('`labels` must name the background and at least one class: {"0": ...}')
        return ()
    # Decathlon counts names by number, nnU-Net numbers by name.
    pairs = [(k, v) if str(k).isdigit() else (v, k) for k, v in declared.items()]
    named = {int(number): str(name) for number, name in pairs if str(number).isdigit()}
    if sorted(named) != list(range(len(declared))):
        problems.append(f"`labels` must be numbered 0, 1, 2, ... without gaps, found {declared}")
        return ()
    if len(named) > _MOST_CLASSES:
        problems.append(f"at most {_MOST_CLASSES} classes fit a mask, found {len(named)}")
    return tuple(named[number] for number in sorted(named))


def _modality(described: dict[str, Any], problems: list[str]) -> str:
    channels = described.get("modality", described.get("channel_names", {}))
    if not isinstance(channels, dict) or len(channels) > 1:
        problems.append(f"images must have one channel, `modality` declares {channels}")
        return "unknown"
    return _MODALITIES.get(str(next(iter(channels.values()), "")).lower(), "unknown")


def _cases(described: dict[str, Any], folder: Path, problems: list[str]) -> list[LabelledCase]:
    entries = described["training"]
    if not entries:
        problems.append("`training` is empty")
    cases, patients = [], dict[str, str]()
    width = max(3, len(str(len(entries))))  # so that sorting by key is the order of the list
    for number, entry in enumerate(entries, start=1):
        key = f"case-{number:0{width}d}"
        if not isinstance(entry, dict) or not {"image", "label"} <= entry.keys():
            problems.append(f"{key}: the entry must have `image` and `label`, found {entry!r}")
            continue
        patient = str(entry.get("patient", key))
        patient_key = patients.setdefault(patient, f"patient-{len(patients) + 1:0{width}d}")
        image, label = folder / str(entry["image"]), folder / str(entry["label"])
        cases.append(LabelledCase(case_key=key, patient_key=patient_key, image=image, label=label))
    seen = dict[Path, str]()
    for case in cases:
        first = seen.setdefault(case.image.resolve(), case.case_key)
        if first != case.case_key:
            problems.append(f"{case.case_key} ({case.image.name}): the same image as {first}")
    return cases


def _problems_of(case: LabelledCase, modality: str, classes: int) -> Iterator[str]:
    volumes = []
    for role, path in (("image", case.image), ("label", case.label)):
        if path is None:
            continue
        if not path.is_file():
            yield f"the {role} is missing: {path}"
            continue
        try:
            volumes.append(read_nifti(path, modality=modality if role == "image" else "unknown"))
        except RejectedFileError as error:
            yield f"the {role} cannot be read: {error.problem}"
    if len(volumes) == 2:  # noqa: PLR2004 - both could be read
        yield from _mismatches(*volumes)
        yield from _wrong_values(volumes[1].array_IJK, classes)


def _mismatches(image: Volume, label: Volume) -> Iterator[str]:
    if image.shape != label.shape:
        yield f"the image has {image.shape} voxels, its label map {label.shape}"
    elif not np.allclose(image.affine_ras, label.affine_ras, atol=_AFFINE_TOLERANCE_MM):
        corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)]).T
        corners[:3] *= np.array(image.shape)[:, None] - 1
        away_mm = np.abs((image.affine_ras - label.affine_ras) @ corners).max()
        yield f"the label map lies up to {away_mm:.1f} mm beside its image (their affines differ)"


def _wrong_values(label_IJK: NDArray[Any], classes: int) -> Iterator[str]:
    values = np.unique(label_IJK)
    strange = [value for value in values.tolist() if value not in range(classes)]
    if classes and strange:
        listed = ", ".join(f"{value:g}" for value in strange[:5])
        yield f"the label map holds undeclared values: {listed}{', ...' if strange[5:] else ''}"
