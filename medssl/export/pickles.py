"""Pickles inside archives: found by reading names and opcodes, and never opened."""

import json
import pickletools
import zipfile
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Final

_MAGIC = b"\x80"
_PROTOCOLS = range(2, 6)
_PICKLED = ("custom_obj", "opaque_obj")
_INDICES = ("_weights_config.json", "_constants_config.json")
_NAMING = {"GLOBAL", "INST"}
"""Opcodes that name what is to be called."""
_HIDING = {"STACK_GLOBAL", "EXT1", "EXT2", "EXT4"}
"""Opcodes that do so in another way, which TorchScript has no need of."""
_OWN_CLASSES = "__torch__"
_USUAL: Final = (
    ("collections", "OrderedDict"),
    ("torch", "*Storage"),
    ("torch._utils", "_rebuild_*"),
    ("torch.jit._pickle", "build_*"),
    ("torch.jit._pickle", "restore_type_tag"),
)
"""What the pickles of a TorchScript archive call: patterns of module and name."""


def program_pickles(path: Path) -> list[str]:
    """Return the members of an archive that ``torch.export.load`` would unpickle.

    Raises:
        OSError, zipfile.BadZipFile, ValueError: It is no archive, or not one of torch.export.
    """
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if archive.getinfo(name).file_size]
        indices = {
            name: json.loads(archive.read(name)) for name in names if name.endswith(_INDICES)
        }
    marked = [
        f"{name}: {entry}"
        for name, index in indices.items()
        for entry, payload in index.get("config", {}).items()
        if payload.get("use_pickle")
    ]
    return marked + [name for name in names if _unpickled(PurePosixPath(name))]


def strange_calls(path: Path) -> Iterator[tuple[str, str]]:
    """Yield members of a TorchScript archive, and what they would call if Python unpickled them.

    What torch itself writes there calls nothing but constructors of tensors and containers.

    Raises:
        OSError, zipfile.BadZipFile: It is no archive.
        ValueError: A pickle in it is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            content = archive.read(name) if name.endswith("pkl") else b""
            strange = next(_strange(content), None) if content else None
            if strange is not None:
                yield name, strange


def is_pickle(first: bytes) -> bool:
    """Return whether bytes begin as a pickle does."""
    return first[:1] == _MAGIC and len(first) > 1 and first[1] in _PROTOCOLS


def _strange(pickled: bytes) -> Iterator[str]:
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name in _HIDING:
            yield f"something by {opcode.name}"
        elif opcode.name in _NAMING and not _usual(*str(argument).split(" ", 1)):
            yield str(argument).replace(" ", ".")


def _usual(module: str, name: str) -> bool:
    if module.partition(".")[0] == _OWN_CLASSES:
        return True
    return any(module == own and fnmatchcase(name, pattern) for own, pattern in _USUAL)


def _unpickled(member: PurePosixPath) -> bool:
    return (
        member.suffix == ".pt"
        or "sample_inputs" in member.parts
        or "aotinductor" in member.parts
        or member.name.startswith(_PICKLED)
    )
