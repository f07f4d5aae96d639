"""Files of tensors as ``torch.save`` writes them: nothing to run in them, and read back to compare.

Every reading here is with ``weights_only=True``, as a careful receiver's is.
"""

import pickle  # only for the name of its error
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medssl.export.verify import REPORT, VerificationError
from medssl.runs.folder import atomic_path

_FAILURES = (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, TypeError,
             AttributeError, OSError)  # fmt: skip
_NAMED = 3


def plain(state: Mapping[str, Tensor]) -> OrderedDict[str, Tensor]:
    """Return tensors of their own: on the CPU, contiguous, no views of anything larger."""
    return OrderedDict(
        (name, torch.empty(value.shape, dtype=value.dtype).copy_(value.detach()))
        for name, value in state.items()
    )


def write_checkpoint(path: Path, held: Any) -> None:
    """Write what ``torch.load(weights_only=True)`` opens, whole or not at all.

    The same content gives the same bytes, wherever it is written.
    """
    with atomic_path(path) as partial, partial.open("wb") as file:
        torch.save(held, file)


def read_checkpoint(path: Path) -> Any:
    """Return what a written file holds.

    Raises:
        VerificationError: It is not there, damaged, or would run code.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except _FAILURES as error:
        raise VerificationError(
            f"{path.name} cannot be read back as tensors ({type(error).__name__})", hint=REPORT
        ) from error


def check_equal(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, where: str) -> None:
    """Compare tensors by name, type, shape, and to the bit.

    Args:
        found: What was read.
        expected: What was exported.
        where: The file or the reader, for the message.

    Raises:
        VerificationError: A name is missing or unknown, or a tensor differs.
    """
    missing = [name for name in expected if name not in found]
    unknown = [name for name in found if name not in expected]
    if missing or unknown:
        said = [
            f"{verb} {len(names)} tensors ({_few(names)})"
            for verb, names in (("lacks", missing), ("has unknown", unknown))
            if names
        ]
        raise VerificationError(f"{where} {' and '.join(said)}", hint=REPORT)
    for name, mine in expected.items():
        problem = _difference(found[name], mine)
        if problem:
            raise VerificationError(f"{where}: {name} {problem}", hint=REPORT)


def _difference(found: Tensor, mine: Tensor) -> str:
    if (found.shape, found.dtype) != (mine.shape, mine.dtype):
        return (
            f"is {tuple(found.shape)} {found.dtype}, exported were {tuple(mine.shape)} {mine.dtype}"
        )
    different = int((found.cpu() != mine.cpu()).sum())
    return f"differs in {different} of {mine.numel()} numbers" if different else ""


def largest_difference(pairs: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Return the largest difference between two networks' outputs, relative to the first's size.

    Raises:
        VerificationError: Their shapes differ.
    """
    largest = 0.0
    for mine, theirs in pairs:
        if mine.shape != theirs.shape:
            raise VerificationError(
                f"the reloaded network gives maps of {tuple(theirs.shape)}, the exported one of "
                f"{tuple(mine.shape)}",
                hint=REPORT,
            )
        size = float(mine.abs().max()) or 1.0
        largest = max(largest, float((mine - theirs).abs().max()) / size)
    return largest


def _few(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
