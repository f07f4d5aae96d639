"""One case read whole: what is wrong with it, and what it holds."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from medssl.errors import RejectedFileError
from medssl.io.volume import Volume
from medssl.labelled.cases import LabelledCase, read_image, read_label
from medssl.labelled.description import MOST_CLASSES
from medssl.labelled.volumes import read_label_file
from medssl.runs.digest import digest_file

_AFFINE_TOLERANCE_MM = 1e-2
"""Image and label may be rounded differently, by far less than a voxel."""


@dataclass(frozen=True, kw_only=True)
class Examination:
    """What reading a case showed; without problems all of it is there."""

    problems: tuple[str, ...]
    digest: str = ""
    """Changes with any byte of its files."""
    content: str = ""
    """Digest of the image's voxels alone: equal for copies that are packed in other ways."""
    modality: str = "unknown"
    values: frozenset[int] = field(default_factory=frozenset)
    """Numbers in its label map."""


def examine(case: LabelledCase, modality: str, allowed: int | None) -> Examination:
    """Read a case's files and return what is wrong and what is in them.

    Args:
        case: which.
        modality: of images that do not say it.
        allowed: label maps may hold 0 to ``allowed`` - 1; None for any class number.
    """
    missing = [
        f"the {role} is missing: {path}"
        for role, path in (("image", case.image), ("label", case.label))
        if path is not None and not is_there(path)
    ]
    problems = list(missing)
    image = label = None
    try:
        if case.files or is_there(case.image):
            image = read_image(case, modality)
    except RejectedFileError as error:
        problems.append(f"the image cannot be read: {error.problem}")
    try:
        if case.label is not None and is_there(case.label):
            label = _label(case, image)
    except RejectedFileError as error:
        problems.append(f"the label cannot be read: {error.problem}")
    if image is not None and label is not None:
        problems += _mismatches(image, label)
    values = [] if label is None else np.unique(label.array_IJK).tolist()
    problems += _wrong_values(values, allowed)
    if problems or image is None:
        return Examination(problems=tuple(problems))
    files = [*(case.files or _files_of(case)), *([case.label] if case.label else [])]
    return Examination(
        problems=(),
        digest="".join(map(digest_file, files)),
        content=_content(image),
        modality=image.modality,
        values=frozenset(map(int, values)),
    )


def is_there(path: Path) -> bool:
    """Return whether a path leads to something; what can be no path leads nowhere."""
    return os.path.exists(path)  # noqa: PTH110 - Path.exists fails if it is too long or forbidden


def _label(case: LabelledCase, image: Volume | None) -> Volume | None:
    """Return the label map, also where there is no image to lay it on, if that can be done."""
    if image is not None:
        return read_label(case, image)
    return read_label_file(case.label) if case.label is not None and not case.segments else None


def _files_of(case: LabelledCase) -> list[Path]:
    if case.image.is_dir():
        return sorted(path for path in case.image.rglob("*") if path.is_file())
    return [case.image]


def _content(image: Volume) -> str:
    digest = hashlib.sha256(repr(image.shape).encode())
    for plane_JK in image.array_IJK:  # one at a time: a second copy may not fit
        digest.update(np.ascontiguousarray(plane_JK, np.float32).tobytes())
    return digest.hexdigest()


def _mismatches(image: Volume, label: Volume) -> Iterator[str]:
    if image.shape != label.shape:
        yield f"the image has {_grid(image)}, its label map {_grid(label)}"
    elif not np.allclose(image.affine_ras, label.affine_ras, atol=_AFFINE_TOLERANCE_MM):
        corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)]).T
        corners[:3] *= np.array(image.shape)[:, None] - 1
        away_mm = np.abs((image.affine_ras - label.affine_ras) @ corners).max()
        yield f"the label map lies up to {away_mm:.1f} mm beside its image (their affines differ)"


def _grid(volume: Volume) -> str:
    spacing = " x ".join(f"{step_mm:.3g}" for step_mm in volume.spacing_mm)
    return f"{volume.shape} voxels of {spacing} mm"


def _wrong_values(values: Sequence[float], allowed: int | None) -> Iterator[str]:
    strange = [value for value in values if value not in range(allowed or MOST_CLASSES)]
    if strange:
        listed = ", ".join(f"{value:g}" for value in strange[:5])
        what = "undeclared values" if allowed else "values that are no class numbers"
        yield f"the label map holds {what}: {listed}{', ...' if strange[5:] else ''}"
