"""Which check finds a damaged export: a value, a name and the end of a file, format by format.

    python -m pipelines.benchmarks.export_damage RUN... --out runs/export_damage.json

Every run is exported to every format that it fits. Then, in a copy of each artefact and in each
file of weights in it, one number is changed, one tensor is renamed, or the last tenth of the file
is cut off, and three checks are asked:

- listed: `medssl verify`, with the list of digests as it was exported;
- looked into: `medssl verify`, with a list made anew, as one who damages on purpose would;
- reloaded: what the export itself does before it keeps an artefact, with the run beside it.

The first and the last must find all of it; what the second finds, it finds without the run.
"""

import argparse
import json
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import onnx
import torch
from onnx import numpy_helper
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file, save_file

from medssl.errors import MedSSLError
from medssl.export.check import check_artefact
from medssl.export.checksums import write_checksums
from medssl.export.export import ExportConfig, export
from medssl.export.formats.base import Format
from medssl.export.several import formats_named
from medssl.runs.environment import describe
from medssl.runs.folder import plain, write_json

WEIGHTS: Final = (".safetensors", ".pt", ".pth", ".onnx", ".data", ".pt2", ".ts")
CUT: Final = 0.1
NOT_SEEN: Final = ""
RENAMED: Final = "_renamed"
_FLOAT32: Final = 7
"""What torch.export calls it."""

Change = Callable[[MutableMapping[str, Any]], None]
"""What is done to a table of tensors."""


class Found(NamedTuple):
    """What three checks say of one damage; "" of a check that does not see it."""

    format: str
    file: str
    damage: str
    listed: str
    looked_into: str
    reloaded: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Damage, print a table, write JSON; 1 if something was not found."""
    options = _options(arguments)
    with tempfile.TemporaryDirectory() as place:
        rows = [row for run in options.runs for row in damaged_exports(run, Path(place), options)]
    missed = [row for row in rows if not (row.listed and row.reloaded)]
    report = {
        "runs": len(options.runs),
        "damages": len(rows),
        "missed": [row._asdict() for row in missed],
        "looked_into": sum(bool(row.looked_into) for row in rows),
        "rows": [row._asdict() for row in rows],
        "machine": describe(),
    }
    if options.out:
        write_json(options.out, report)
    show(rows)
    print(json.dumps(plain({key: report[key] for key in ("damages", "looked_into", "missed")})))
    return 0 if rows and not missed else 1


def damaged_exports(run: Path, place: Path, options: argparse.Namespace) -> Iterator[Found]:
    """Yield what is found in every format that ``run`` fits."""
    for name in formats_named(options.formats):
        out = place / f"{run.parent.name}-{run.name}" / name
        config = ExportConfig.model_validate(
            {"run": run, "format": {"name": name}, "out": out, "tracking": {"enabled": False}}
        )
        form: Format = config.format.build()
        try:
            form.digests(run)
        except MedSSLError as error:
            print(f"{run.name}, {name}: {error.problem}", file=sys.stderr)
            continue
        export(config)
        yield from damages_of(form, run, config.artefact, place / "copy")


def damages_of(form: Format, run: Path, artefact: Path, copy: Path) -> Iterator[Found]:
    """Yield what is found of each damage to each file of weights."""
    files = sorted(p for p in artefact.rglob("*") if p.suffix in WEIGHTS)
    for file in files:
        for damage, do in DAMAGES.items():
            shutil.copytree(artefact, copy / artefact.name)
            inside = copy / artefact.name
            if do(inside / file.relative_to(artefact)):
                name = str(file.relative_to(artefact))
                yield Found(form.config.name, name, damage, *asked(form, run, inside))
            shutil.rmtree(copy)


def asked(form: Format, run: Path, folder: Path) -> tuple[str, str, str]:
    """Return what the three checks say of ``folder``."""
    listed = said(folder)
    write_checksums(folder)
    looked_into = said(folder)
    try:
        form.verify(run, folder)
    except MedSSLError as error:
        return listed, looked_into, error.problem
    return listed, looked_into, NOT_SEEN


def said(folder: Path) -> str:
    """Return what `medssl verify` says is wrong with ``folder``."""
    found = check_artefact(folder)
    return NOT_SEEN if found.good else "; ".join(found.lines()[:-1])


def change_value(path: Path) -> bool:
    """Change the first number of the first kernel; of a file that is no table of them, a byte.

    A kernel: a bias may be without effect, in front of a norm.
    """

    def change(state: MutableMapping[str, Any]) -> None:
        tensors = [value for value in state.values() if value.is_floating_point()]
        tensor = next((value for value in tensors if value.ndim > 1), tensors[0])
        tensor.view(-1)[0] += 1

    return _edit(path, change) or _flip_middle(path)


def rename(path: Path) -> bool:
    """Give the first tensor another name, where tensors have names."""

    def change(state: MutableMapping[str, Any]) -> None:
        name = next(iter(state))
        state[f"{name}{RENAMED}"] = state.pop(name)

    return _edit(path, change)


def cut_off(path: Path) -> bool:
    """Cut off the last tenth of the file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * (1 - CUT))])
    return True


DAMAGES: Final[Mapping[str, Callable[[Path], bool]]] = {
    "one value": change_value,
    "one name": rename,
    "cut off": cut_off,
}


def _edit(path: Path, change: Change) -> bool:
    """Change the table of tensors in a file; False where the file has none."""
    edit = EDITORS.get(path.suffix)
    return edit is not None and edit(path, change)


def _edit_safetensors(path: Path, change: Change) -> bool:
    state = dict(load_file(path))
    change(state)
    save_file(state, path)
    return True


def _edit_checkpoint(path: Path, change: Change) -> bool:
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # noqa: BLE001  TorchScript and others
        return False
    table = next(_tables(held), None)
    if table is None:
        return False
    change(table)
    torch.save(held, path)
    return True


def _edit_onnx(path: Path, change: Change) -> bool:
    """Change the initializers of a graph; what uses them keeps their names."""
    model = onnx.load(path)
    held = model.graph.initializer
    state = {each.name: torch.from_numpy(numpy_helper.to_array(each).copy()) for each in held}
    change(state)
    del held[:]
    held.extend(numpy_helper.from_array(value.numpy(), name) for name, value in state.items())
    onnx.save(model, path)
    return True


def _edit_program(path: Path, change: Change) -> bool:
    """Change the float32 weights of a program of torch.export; its graph keeps their names."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    listing = next(name for name in members if name.endswith("_weights_config.json"))
    config = json.loads(members[listing])
    folder = next(name for name in members if "/weights/" in name).rpartition("/")[0]
    entries = {
        name: entry
        for name, entry in config["config"].items()
        if entry["tensor_meta"]["dtype"] == _FLOAT32
    }
    state = {
        name: torch.frombuffer(
            bytearray(members[f"{folder}/{entry['path_name']}"]), dtype=torch.float32
        ).view([size["as_int"] for size in entry["tensor_meta"]["sizes"]])
        for name, entry in entries.items()
    }
    change(state)
    for name, value in state.items():
        entry = entries[name.removesuffix(RENAMED)]
        members[f"{folder}/{entry['path_name']}"] = value.numpy().tobytes()
        config["config"][name] = config["config"].pop(name.removesuffix(RENAMED))
    members[listing] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return True


EDITORS: Final[Mapping[str, Callable[[Path, Change], bool]]] = {
    ".safetensors": _edit_safetensors,
    ".pt": _edit_checkpoint,
    ".pth": _edit_checkpoint,
    ".onnx": _edit_onnx,
    ".pt2": _edit_program,
}


def _tables(held: Any) -> Iterator[MutableMapping[str, Any]]:
    """Yield the mappings in ``held`` whose values are tensors."""
    if not isinstance(held, MutableMapping):
        return
    if held and all(isinstance(value, torch.Tensor) for value in held.values()):
        yield held
        return
    for value in held.values():
        yield from _tables(value)


def _flip_middle(path: Path) -> bool:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.write_bytes(bytes(content))
    return True


def show(rows: Sequence[Found]) -> None:
    """Print the table."""
    table = Table(title="Damaged exports, and which check finds it")
    for column in ("format", "file", "damage", "listed", "looked into", "reloaded"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(cell or "-" for cell in row))
    Console(width=160).print(table)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--formats", default="all", help="names with commas between; all")
    parser.add_argument("--out", type=Path, help="report as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
