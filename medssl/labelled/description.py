"""``dataset.json``, as the Medical Segmentation Decathlon and nnU-Net write it."""

import json
from pathlib import Path
from typing import Any

from medssl.errors import InputError

FILE = "dataset.json"
MOST_CLASSES = 256
"""Of a mask of 8 bits."""
_MODALITIES = {
    "CT": "CT",
    **dict.fromkeys(("MR", "MRI", "T1", "T2", "T1W", "T2W", "T1CE", "T1GD"), "MR"),
    **dict.fromkeys(("FLAIR", "PD", "DWI", "ADC"), "MR"),
}


def description_path(path: Path) -> Path:
    """Return the description of a set that is given as its folder, or as that file."""
    return path / FILE if path.is_dir() else path


def read_description(path: Path) -> dict[str, Any]:
    """Return what a ``dataset.json``, or the one in a folder, holds.

    Raises:
        InputError: It is not there, or holds no JSON object.
    """
    file = description_path(path)
    if not file.is_file():
        raise InputError(f"there is no {FILE}" if path.is_dir() else "it is not there")
    if file.suffix.lower() != ".json":
        raise InputError("it is not a .json file")
    try:
        described = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError:
        raise InputError(f"{FILE} cannot be read") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{FILE} is not JSON: {error}") from None
    if not isinstance(described, dict):
        raise InputError(f"{FILE} holds no description: a JSON object is expected")
    return described


def class_names(declared: Any, problems: list[str]) -> tuple[str, ...]:
    """Return the names in ``labels``; position is the number.

    Decathlon gives a name to every number, nnU-Net a number to every name.
    """
    if not isinstance(declared, dict) or len(declared) < 2:  # noqa: PLR2004 - one beside 0
        problems.append('`labels` must name the background and at least one class: {"0": ...}')
        return ()
    pairs = [(k, v) if str(k).isdecimal() else (v, k) for k, v in declared.items()]
    named = {int(number): str(name) for number, name in pairs if str(number).isdecimal()}
    if sorted(named) != list(range(len(declared))):
        problems.append(f"`labels` must be numbered 0, 1, 2, ... without gaps, found {declared}")
        return ()
    refuse_too_many(len(named), problems)
    return tuple(named[number] for number in sorted(named))


def refuse_too_many(classes: int, problems: list[str]) -> None:
    """Note that a mask of 8 bits cannot hold so many classes."""
    if classes > MOST_CLASSES:
        problems.append(f"at most {MOST_CLASSES} classes fit a mask, found {classes}")


def modality_of(channels: Any, problems: list[str]) -> str:
    """Return CT, MR or unknown, of the one channel in ``modality`` or ``channel_names``."""
    if not isinstance(channels, dict) or len(channels) > 1:
        problems.append(
            f"images must have one channel, since encoders read one; declared are {channels}: keep "
            "one of them, in a set of its own"
        )
        return "unknown"
    return _MODALITIES.get(str(next(iter(channels.values()), "")).upper(), "unknown")
