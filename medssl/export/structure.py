"""Whether the files of an artefact are what they seem; looked at, and never run."""

import json
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

import torch
import yaml
from safetensors import SafetensorError, safe_open

from medssl.export.expressions import problems as expression_problems
from medssl.export.pickles import is_pickle, program_pickles, strange_calls

_CONFIGS: Final = "configs"
_CODE = (".py", ".pyc", ".so", ".dll", ".sh", ".pkl", ".pickle", ".joblib", ".npy", ".npz", ".bat")
"""What an artefact of ours never holds, since opening it may run something."""
_TORCHSCRIPT = "constants.pkl"
_LARGEST_TEXT = 2**27
_FEWEST_PACKED = 2
_EXTERNAL: Final = 1
"""``data_location`` of a tensor that lies in a file beside the ONNX model."""

Json = Mapping[str, Any]


def look_into(folder: Path, names: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the name of every file that is not what it seems, and what is wrong with it.

    Args:
        folder: An artefact.
        names: Files in it, none of them a link.
    """
    for name in names:
        for problem in _problems(folder, name):
            yield name, problem


def _problems(folder: Path, name: str) -> Iterator[str]:
    path, suffix = folder / name, PurePosixPath(name).suffix.lower()
    if suffix in _CODE:
        yield "is of a kind that can hold code, which an artefact has no need of"
        return
    try:
        looked_at = _LOOKS.get(suffix)
        if looked_at is not None:
            yield from looked_at(path)
        elif _is_pickle(path):
            yield "is a pickle, which runs code when it is opened"
        if suffix in _TREES and PurePosixPath(name).parts[0] == _CONFIGS:
            yield from expression_problems(_TREES[suffix](path.read_text(encoding="utf-8")))
    except Exception as error:  # noqa: BLE001  a forged file makes a reader raise anything at all
        yield f"cannot be read ({type(error).__name__})"


def _safetensors(path: Path) -> Iterator[str]:
    if _is_pickle(path):
        yield "is a pickle named as safetensors; it runs code when it is opened"
        return
    size = path.stat().st_size
    with path.open("rb") as file:
        (header,) = struct.unpack("<Q", file.read(8).ljust(8, b"\xff"))
    if header > size - 8:
        yield f"announces a header of {header} bytes, the file has {size}"
        return
    try:
        with safe_open(path, framework="numpy") as opened:
            opened.keys()
    except (SafetensorError, OSError) as error:
        yield f"is no whole safetensors file ({error})"


def _checkpoint(path: Path) -> Iterator[str]:
    """Look into what ``torch.save`` wrote: names and sizes first, then tensors and nothing else."""
    if not zipfile.is_zipfile(path):
        yield (
            "is a pickle and no archive of tensors"
            if _is_pickle(path)
            else "is no whole archive of tensors"
        )
        return
    found = list(_archive(path))
    yield from found
    if found:
        return
    with zipfile.ZipFile(path) as archive:
        torchscript = any(PurePosixPath(n).name == _TORCHSCRIPT for n in archive.namelist())
    if torchscript:
        yield from _calls(path)
        return
    try:
        torch.load(path, map_location="meta", weights_only=True, mmap=True)
    except Exception as error:  # noqa: BLE001  a forged file makes the reader raise anything at all
        yield f"holds more than tensors, or is damaged ({type(error).__name__})"


def _torchscript(path: Path) -> Iterator[str]:
    """Look into a TorchScript archive; its program itself is not judged."""
    found = list(_archive(path))
    yield from found or _calls(path)


def _calls(path: Path) -> Iterator[str]:
    for member, call in strange_calls(path):
        yield f"holds a pickle that would call {call[:80]} ({member[:80]})"


def _program(path: Path) -> Iterator[str]:
    """Look into a program of torch.export: its loader unpickles what ours never holds."""
    found = list(_archive(path))
    yield from found or (
        f"holds a pickle, {member[:80]}, which runs code when it is opened"
        for member in program_pickles(path)
    )


def _archive(path: Path) -> Iterator[str]:
    """Look at the members of a zip archive: no way out of a folder, none larger than it is."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        yield "is no whole archive"
        return
    for member in members:
        parts = PurePosixPath(member.filename.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or ":" in member.filename:
            yield f"holds {member.filename[:80]!r}, which would be unpacked elsewhere"
    unpacked = sum(member.file_size for member in members)
    size = path.stat().st_size
    if unpacked > max(_FEWEST_PACKED * size, size + _LARGEST_TEXT):
        yield f"would be {unpacked} bytes unpacked, and has {size}"


def _onnx(path: Path) -> Iterator[str]:
    """Look at where an ONNX model has its tensors."""
    try:
        import onnx
    except ImportError:
        yield "cannot be looked into: pip install onnx"
        return
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # noqa: BLE001  protobuf raises its own kinds
        yield f"is no whole ONNX model ({type(error).__name__})"
        return
    for tensor in model.graph.initializer:
        if tensor.data_location != _EXTERNAL:
            continue
        told = {entry.key: entry.value for entry in tensor.external_data}
        where = PurePosixPath(told.get("location", ""))
        if where.is_absolute() or ".." in where.parts or not (path.parent / where).is_file():
            yield f"has tensors in {str(where)[:80]!r}, which is not beside it"
            return


def _tree(path: Path) -> Iterator[str]:
    if path.stat().st_size > _LARGEST_TEXT:
        yield "is too large to be a description"
        return
    _TREES[path.suffix.lower()](path.read_text(encoding="utf-8"))


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        return is_pickle(file.read(2))


_TREES: Final[Mapping[str, Callable[[str], Any]]] = {
    ".json": json.loads,
    ".yaml": yaml.safe_load,
    ".yml": yaml.safe_load,
}
_LOOKS: Final[Mapping[str, Callable[[Path], Iterator[str]]]] = {
    ".safetensors": _safetensors,
    ".pt": _checkpoint,
    ".pth": _checkpoint,
    ".ckpt": _checkpoint,
    ".ts": _torchscript,
    ".pt2": _program,
    ".zip": _archive,
    ".onnx": _onnx,
    **dict.fromkeys(_TREES, _tree),
}
