"""nnU-Net v2's raw folder: ``imagesTr``, ``labelsTr`` and a ``dataset.json`` that names classes.

By nnU-Net's documentation (dataset_format.md, region_based_training.md, ignore_label.md):
images are ``<case>_<channel>.<ending>``, label maps ``<case>.<ending>``; a class may be a list of
numbers, which is a region; ``ignore`` has the highest number.
"""

import json
import re
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from medssl.errors import InputError
from medssl.io.pictures import PICTURES
from medssl.labelled.description import (
    class_names,
    description_path,
    modality_of,
    read_description,
    refuse_too_many,
)
from medssl.labelled.layouts.base import Entry, Layout, Listing
from medssl.labelled.volumes import NIFTI

_SPLITS = "splits_final.json"
_CHANNEL = re.compile(r"(.+)_(\d{4})")
Regions = tuple[tuple[str, tuple[int, ...]], ...]


class NnUNet(Layout):
    """A raw folder of one channel; ``splits_final.json`` in it declares folds."""

    looks_for = (
        "nnU-Net's raw folder (imagesTr, labelsTr) or its dataset.json, with `file_ending` and "
        "`channel_names`"
    )

    def mismatch(self, path: Path) -> str:
        """Return why there is no ``dataset.json`` of nnU-Net v2."""
        try:
            described = read_description(path)
        except InputError as error:
            return error.problem
        lacking = [key for key in ("file_ending", "labels") if key not in described]
        return f"dataset.json has no {' and no '.join(f'`{key}`' for key in lacking)}" * (
            len(lacking) > 0
        )

    def read(self, path: Path) -> Listing:
        """Return the cases of ``imagesTr``, and those of ``imagesTs`` that have labels, to test."""
        described, folder = read_description(path), description_path(path).parent
        problems: list[str] = []
        warnings: list[str] = []
        labels, regions, ignore_label = _classes(described["labels"], problems)
        channels = described.get("channel_names", described.get("modality", {}))
        modality = modality_of(channels, problems)
        entries = (
            _listed(described["dataset"], folder)
            if "dataset" in described
            else _entries(folder, str(described["file_ending"]), problems, warnings)
        )
        count = described.get("numTraining")
        listed = sum(entry.part != "test" for entry in entries)
        if isinstance(count, int) and count != listed:
            problems.append(f"`numTraining` is {count}, and the folder holds {listed} case(s)")
        return Listing(
            name=str(described.get("name", folder.name)),
            modality=modality,
            licence=str(described.get("licence", described.get("license", ""))),
            labels=labels,
            regions=regions,
            ignore_label=ignore_label,
            entries=tuple(entries),
            folds=_folds(folder / _SPLITS, problems),
            problems=tuple(problems),
            warnings=tuple(warnings),
        )


def _classes(declared: Any, problems: list[str]) -> tuple[tuple[str, ...], Regions, int | None]:
    """Return the names of the class numbers, the regions, and the number to ignore."""
    if not isinstance(declared, dict):
        return class_names(declared, problems), (), None
    named = dict(declared)
    ignore_label = named.pop("ignore", None)
    regions: Regions = ()
    if any(isinstance(value, list) for value in named.values()):
        named, regions = _numbered(named, problems)
    labels = class_names(named, problems)
    if ignore_label is not None and labels and ignore_label != len(labels):
        problems.append(f"`ignore` must be the highest label, {len(labels)}, found {ignore_label}")
    refuse_too_many(len(labels) + 1 if ignore_label is not None else 0, problems)
    return labels, regions, ignore_label if isinstance(ignore_label, int) else None


def _numbered(declared: Mapping[str, Any], problems: list[str]) -> tuple[dict[str, Any], Regions]:
    """Return a name for every number that a region holds, and the regions."""
    lists = {
        str(name): tuple(value) if isinstance(value, list) else (value,)
        for name, value in declared.items()
    }
    if not all(isinstance(n, int) and n >= 0 for numbers in lists.values() for n in numbers):
        problems.append(f"`labels` must be numbers or lists of numbers, found {declared}")
        return {}, ()
    most = max(chain.from_iterable(lists.values()), default=0)
    refuse_too_many(most + 1, problems)
    alone = {numbers[0]: name for name, numbers in lists.items() if len(numbers) == 1}
    held = set(chain.from_iterable(lists.values())) | {0}
    named = {alone.get(n, f"label {n}" if n else "background"): n for n in sorted(held)}
    regions = tuple((name, tuple(sorted(n))) for name, n in lists.items() if n != (0,))
    return named, regions


def _entries(folder: Path, ending: str, problems: list[str], warnings: list[str]) -> list[Entry]:
    if not ending.lower().endswith((*NIFTI, *PICTURES)):
        readable = ", ".join((*NIFTI, *PICTURES))
        problems.append(f"`file_ending` is {ending!r}, read are {readable}: convert the files")
        return []
    training = _names(folder / "imagesTr", ending, problems)
    training |= _plain_names(folder / "labelsTr", ending)
    if not training:
        problems.append(f"imagesTr and labelsTr hold no files that end in {ending}")
    tested = _names(folder / "imagesTs", ending, problems)
    labelled = tested & _plain_names(folder / "labelsTs", ending)
    if tested - labelled:
        warnings.append(f"imagesTs: {len(tested - labelled)} image(s) without labels are left out")
    train_part = "train" if labelled else ""
    return [
        *(_entry(folder, "Tr", name, ending, train_part) for name in sorted(training)),
        *(_entry(folder, "Ts", name, ending, "test") for name in sorted(labelled)),
    ]


def _listed(declared: Any, folder: Path) -> list[Entry]:
    """Return the cases of ``dataset``, which gives the files of every case instead of folders."""
    entries = []
    for name, item in declared.items() if isinstance(declared, dict) else [("", declared)]:
        images = item.get("images") if isinstance(item, dict) else None
        if not isinstance(images, list) or len(images) != 1 or "label" not in item:
            problem = "the entry of `dataset` must have one file in `images`, and `label`"
            entries.append(Entry(problems=(problem,)))
            continue
        image, label = folder / str(images[0]), folder / str(item["label"])
        entries.append(Entry(image=image, label=label, name=str(name)))
    return entries


def _entry(folder: Path, suffix: str, name: str, ending: str, part: str) -> Entry:
    return Entry(
        image=folder / f"images{suffix}" / f"{name}_0000{ending}",
        label=folder / f"labels{suffix}" / f"{name}{ending}",
        name=name,
        part=part,
    )


def _names(folder: Path, ending: str, problems: list[str]) -> set[str]:
    """Return the cases of a folder of images."""
    names, further = set(), 0
    for stem in _plain_names(folder, ending):
        match = _CHANNEL.fullmatch(stem)
        if match is None:
            problems.append(f"{folder.name}/{stem}{ending} does not end in _0000{ending}")
            continue
        names.add(match[1])
        further += match[2] != "0000"
    if further:
        problems.append(f"{folder.name} holds {further} file(s) of further channels (_0001, ...)")
    return names


def _plain_names(folder: Path, ending: str) -> set[str]:
    return {path.name.removesuffix(ending) for path in folder.glob(f"*{ending}") if path.is_file()}


def _folds(path: Path, problems: list[str]) -> tuple[Mapping[str, tuple[str, ...]], ...]:
    if not path.is_file():
        return ()
    try:
        declared = json.loads(path.read_text(encoding="utf-8-sig"))
        folds = tuple(
            {part: tuple(map(str, fold[part])) for part in ("train", "val")} for fold in declared
        )
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        problems.append(f"{path.name} must be a list of folds, each with lists `train` and `val`")
        return ()
    return folds
