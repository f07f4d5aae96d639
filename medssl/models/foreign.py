"""Weights that other programs wrote: read as tensors with names, and nothing else.

Whatever a file wraps around them is taken off: dictionaries in dictionaries become dotted names,
and what compilers and parallel wrappers put between two names is dropped. Code in a file is never
run; a file that would only open by running some is refused.
"""

import pickle  # only for the name of its error
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from medssl.errors import InputError
from medssl.models.weights import DECODER, WEIGHTS

INSIDE = (
    WEIGHTS,
    "models/model.pt",
    "model.safetensors",
    "checkpoint_final.pth",
    "pytorch_model.bin",
)
"""Where a folder keeps its weights: ours, a MONAI bundle, a finetuning, nnssl, others."""

WRAPPERS = frozenset(
    {"module", "_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
)
"""Names that only say how a network was run: in parallel, compiled, sharded, checkpointed."""

PASSED_OVER = (
    "torch.optim.",
    "numpy.",
    "argparse.Namespace",
    "collections.defaultdict",
    "pathlib.",
    "builtins.dict",
    "__builtin__.dict",
)
"""What training programs leave beside weights; it is neither imported nor called."""

_FAILURES = (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, TypeError,
             AttributeError, IndexError, AssertionError, OSError, SafetensorError,
             struct.error, zipfile.BadZipFile)  # fmt: skip


@dataclass(frozen=True)
class ForeignWeights:
    """The tensors of one file."""

    source: str
    """The name of the file."""
    tensors: dict[str, Tensor]
    """By dotted name, outermost dictionary first; tied tensors are one tensor."""


def read_weights(path: Path) -> ForeignWeights:
    """Return the tensors of a file, or of a folder that holds one of :data:`INSIDE`.

    Args:
        path: ``.safetensors``, or anything that ``torch.save`` wrote.

    Raises:
        InputError: There is no such file, it is damaged, it holds no tensors, or some without
            values, it would run code when opened, or two of its networks differ only in how
            they were wrapped.
    """
    file = weights_file(path)
    tensors = _tensors(file)
    decoder = file.with_name(DECODER)
    if file.name == WEIGHTS and decoder.is_file():
        tensors |= {f"decoder.{name}": value for name, value in _tensors(decoder).items()}
    if not tensors:
        raise InputError(
            f"{file}: holds no tensors",
            hint="give the file with the weights, not one with settings or metrics",
        )
    return ForeignWeights(file.name, tensors)


def weights_file(path: Path) -> Path:
    """Return ``path``, or the file of :data:`INSIDE` that the folder ``path`` holds.

    Raises:
        InputError: There is none.
    """
    if path.is_file():
        return path
    for name in INSIDE:
        if (path / name).is_file():
            return path / name
    raise InputError(
        f"{path}: no weights there",
        hint=f"give a file, or a folder with one of {', '.join(INSIDE)}",
    )


def _tensors(file: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings(action="ignore"):  # torch's advice on the file's format
            held = load_file(file) if file.suffix == ".safetensors" else _read_pickle(file)
            named = [(name, _plain(file, name, value)) for name, value in _flat(held)]
    except _FAILURES as error:
        raise InputError(
            f"{file}: cannot be read as weights ({type(error).__name__})",
            hint=_why_unreadable(file, error),
        ) from None
    tensors: dict[str, Tensor] = {}
    for name, value in named:
        short = _unwrapped(name)
        other = tensors.setdefault(short, value)
        if other is not value and (other.dtype != value.dtype or not torch.equal(other, value)):
            raise InputError(
                f"{file}: holds several copies of a network, with different weights: once its "
                f"wrappers are taken off, {name} is one more {short}",
                hint="save the state_dict() of the network that is meant alone",
            )
    return tensors


def _plain(file: Path, name: str, value: Tensor) -> Tensor:
    """Return a tensor that can be compared and resized, whatever way it was stored in."""
    if value.is_meta:
        raise InputError(
            f"{file}: {name} has a shape but no values, it was saved on the meta device",
            hint="save the state_dict() once the weights are in memory",
        )
    if value.layout is not torch.strided:
        value = value.to_dense()
    eight_bits = value.is_floating_point() and value.dtype.itemsize == 1
    return value.float() if eight_bits else value


def _why_unreadable(file: Path, error: Exception) -> str:
    why = "it is damaged, or no file of tensors"
    if isinstance(error, pickle.UnpicklingError) and not zipfile.is_zipfile(file):
        why += (
            ", or of torch's format from before 1.6 with other objects beside its tensors, such "
            "as an argparse.Namespace, which are passed over in today's format only"
        )
    return (
        f"{why}: TorchScript and whole pickled models are not read; save the model's "
        "state_dict() with torch.save or safetensors"
    )


def _read_pickle(file: Path) -> Any:
    """Return what ``torch.save`` wrote, with :data:`PASSED_OVER` left empty."""
    if not zipfile.is_zipfile(file):  # from before torch 1.6
        return torch.load(file, map_location="cpu", weights_only=True)
    named = get_unsafe_globals_in_checkpoint(file)
    refused = sorted(name for name in named if not name.startswith(PASSED_OVER))
    if refused:
        raise InputError(
            f"{file}: would run code when opened ({', '.join(refused[:3])}), so it was not opened",
            hint="where you trust it, open it elsewhere and save its state_dict() alone",
        )
    stand_ins: list[Any] = [(_stand_in(name), name) for name in named]
    with safe_globals(stand_ins):
        return torch.load(file, map_location="cpu", weights_only=True, mmap=True)


class _LeftOut:
    """Stands where a file names something that is not a tensor."""

    def __new__(cls, *_args: Any) -> "_LeftOut":
        return super().__new__(cls)

    def __setstate__(self, _state: Any) -> None:
        pass


def _empty(*_args: Any) -> dict[Any, Any]:
    return {}


def _stand_in(name: str) -> Any:
    return _empty if name == "collections.defaultdict" else _LeftOut


def _flat(held: Any, above: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(held, Tensor):
        yield above, held.detach()
    elif isinstance(held, Mapping):
        for key, value in held.items():
            yield from _flat(value, f"{above}.{key}" if above else str(key))


def _unwrapped(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)
