"""MedPix as pairs: the images of a teaching case and what is written about them.

The folder holds ``images/``, ``descriptions.json`` (caption, modality, plane and place of every
image), ``cases.json`` (findings of every case, category of its disease) and ``splits.json`` (case
to train or dev). Cases of dev become the split `test`; some of train are kept aside as `val`.

Pairs are of images, or of cases with all their images. The text of an image has two sections:
`findings`, its caption, and `technique`, its modality and plane. That of a case has those of its
images, each once, and `findings` also those of the case. History, title, diagnosis and discussion
are left out: nobody reads them off the images. Labels are the region of the body, its organ
system, the category of the disease and the modalities of the images, fields of the archive.
"""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import pandas as pd

from medssl.data.pictures import COLUMNS, Stored, read_stored
from medssl.errors import InputError
from medssl.reports.pairs import Pair, Section, write_pairs
from medssl.runs.folder import read_json

PLACEHOLDER: Final = "Replace this - DESCRIPTION"
"""What stands where nobody wrote a caption."""
SPLITS: Final = {"train": "train", "dev": "test"}


class MedPix(NamedTuple):
    """The archive's tables."""

    folder: Path
    images: list[dict[str, Any]]
    case_of: dict[str, dict[str, Any]]
    split_of: dict[str, str]


def read_medpix(folder: Path, validation_share: float) -> MedPix:
    """Return the archive, images in its order.

    Args:
        folder: Where it lies.
        validation_share: Part of the training cases that is kept aside, by a hash of their name.

    Raises:
        InputError: It is not there.
    """
    names = ("descriptions", "cases", "splits")
    try:
        images, cases, splits = (read_json(folder / f"{name}.json") for name in names)
    except OSError:
        raise InputError(
            f"{folder} lacks one of {', '.join(f'{name}.json' for name in names)}",
            hint="give the folder of MedPix 2.0",
        ) from None
    split_of = {
        case: "val" if split == "train" and _share(case) < validation_share else SPLITS[split]
        for case, split in dict(splits).items()
    }
    return MedPix(folder, images, {case["U_id"]: case for case in cases}, split_of)


def medpix_table(medpix: MedPix) -> pd.DataFrame:
    """Return what ``medssl.data.pictures`` reads: a row per image, a case is a patient."""
    rows = [
        (
            (medpix.folder.resolve() / "images" / f"{image['image']}.png").as_posix(),
            image["U_id"],
            image["U_id"],
            medpix.split_of[image["U_id"]],
            image["Type"],
        )
        for image in medpix.images
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def write_medpix_pairs(medpix: MedPix, store: Path, *, images: Path, cases: Path) -> None:
    """Write a pair for every image in the store, and one for every case with such an image.

    Args:
        medpix: The archive.
        store: What ``medssl.data.pictures`` wrote of its table.
        images: Where the pairs of images go; the image is the study, the case the patient.
        cases: Where those of cases go.
    """
    shown = dict[str, list[tuple[Stored, dict[str, Any]]]]()
    for stored in read_stored(store):
        image = medpix.images[stored.row]
        shown.setdefault(image["U_id"], []).append((stored, image))
    of_images, of_cases = list[Pair](), list[Pair]()
    for name, listed in shown.items():
        case = medpix.case_of[name]
        first = listed[0][0]
        about: dict[str, Any] = {"patient_key": first.patient_key, "split": first.split}
        of_cases.append(
            Pair(
                study_key=first.study_key,
                volume_keys=tuple(stored.volume_key for stored, _ in listed),
                sections=_sections([image for _, image in listed], case["Case"].get("Findings")),
                labels=_labels(case, [image for _, image in listed]),
                **about,
            )
        )
        of_images += [
            Pair(
                study_key=stored.volume_key,
                volume_keys=(stored.volume_key,),
                sections=_sections([image]),
                labels=_labels(case, [image]),
                **about,
            )
            for stored, image in listed
        ]
    findings = sorted({name for pair in of_cases for name in pair.labels})
    write_pairs(images, of_images, findings)
    write_pairs(cases, of_cases, findings)


def region_label(region: str) -> str:
    """Return the label of a region of the body."""
    return f"region: {region}"


def _sections(images: Iterable[dict[str, Any]], findings: str | None = None) -> tuple[Section, ...]:
    described = [image["Description"] for image in images]
    captions = [about["Caption"] for about in described]
    technique = [f"{about['Modality'].strip()}, {about['Plane']}." for about in described]
    return (
        Section(name="findings", text=_joined([*captions, findings])),
        Section(name="technique", text=_joined(technique)),
    )


def _joined(texts: Iterable[str | None]) -> str:
    """Return the texts that say something, each once, with an empty line between them."""
    said = [(text or "").strip() for text in texts]
    kept = dict.fromkeys(
        text for text in said if len(text) > len("N/A") and not text.startswith(PLACEHOLDER)
    )
    return "\n\n".join(kept)


def _labels(case: dict[str, Any], images: Sequence[dict[str, Any]]) -> dict[str, Any]:
    names = [region_label(images[0]["Location Category"]), f"system: {images[0]['Location']}"]
    names += [f"modality: {image['Type']}" for image in images]
    category = case["Topic"].get("Category")
    return dict.fromkeys([*names, *([f"category: {category}"] if category else [])], 1)


def _share(case: str) -> float:
    """Return a number in [0, 1) that depends on nothing but the name of a case."""
    return int.from_bytes(hashlib.sha256(case.encode()).digest()[:4], "big") / 2**32
