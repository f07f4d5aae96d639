"""The Medical Segmentation Decathlon: ``dataset.json`` lists pairs of image and label map."""

from pathlib import Path
from typing import Any

from medssl.errors import InputError
from medssl.labelled.description import (
    class_names,
    description_path,
    modality_of,
    read_description,
)
from medssl.labelled.layouts.base import Entry, Layout, Listing


class Decathlon(Layout):
    """``training`` is a list of ``image`` and ``label``, and ``patient`` where it is known."""

    looks_for = "a dataset.json with a list `training` of images and labels"

    def mismatch(self, path: Path) -> str:
        """Return why there is no such ``dataset.json``."""
        try:
            described = read_description(path)
        except InputError as error:
            return error.problem
        if not isinstance(described.get("training"), list):
            return "there is no list `training` of images and labels in dataset.json"
        return "`file_ending` is nnU-Net's" if "file_ending" in described else ""

    def read(self, path: Path) -> Listing:
        """Return the listed pairs."""
        described, folder = read_description(path), description_path(path).parent
        problems: list[str] = []
        if not described["training"]:
            problems.append("`training` is empty")
        labels = class_names(described.get("labels"), problems)
        channels = described.get("modality", described.get("channel_names", {}))
        return Listing(
            name=str(described.get("name", folder.name)),
            modality=modality_of(channels, problems),
            licence=str(described.get("licence", described.get("license", ""))),
            labels=labels,
            entries=tuple(_entry(item, folder) for item in described["training"]),
            problems=tuple(problems),
        )


def _entry(item: Any, folder: Path) -> Entry:
    if not isinstance(item, dict) or not {"image", "label"} <= item.keys():
        found = sorted(map(str, item)) if isinstance(item, dict) else type(item).__name__
        return Entry(problems=(f"the entry must have `image` and `label`, found {found}",))
    return Entry(
        image=folder / str(item["image"]),
        label=folder / str(item["label"]),
        patient=str(item.get("patient", "")),
        annotated=_annotated(item.get("annotated")),
    )


def _annotated(names: Any) -> tuple[str, ...] | None:
    return None if names is None else tuple(map(str, names if isinstance(names, list) else [names]))
