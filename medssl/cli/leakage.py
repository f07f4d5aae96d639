"""What ``medssl audit-leakage`` does: makes a library of whatever it is given, and compares."""

import json
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medssl.cli.console import say
from medssl.config.load import validate
from medssl.curation.edges import NearDuplicateConfig
from medssl.curation.leakage import Shared, Side, shared_between
from medssl.curation.selection import read_selection
from medssl.errors import InputError
from medssl.ingest.ingest import IngestConfig, ingest
from medssl.library.catalog import catalog_path, read_catalog_table
from medssl.library.outcomes import read_outcomes, read_paths
from medssl.runs.folder import write_json

_MOST_ROWS = 100
_MODALITIES = {"ct": "CT", "mr": "MR", "mri": "MR", "pt": "PT", "pet": "PT"}
_SECTIONS = ("training", "validation", "test")


@dataclass(frozen=True)
class LeakageRequest:
    """Two sets, and how files among them are read."""

    a: str
    b: str
    key_file: Path | None = None
    """Of the pseudonyms: with it, patients are compared too."""
    settings: Sequence[str] = field(default_factory=tuple)
    """Of ``medssl ingest``, as section.key=value."""
    workers: int | str = 0


def audit(request: LeakageRequest) -> tuple[list[Shared], dict[str, dict[str, int]]]:
    """Return what of B is also in A, and by side what could not be read: reason to files.

    Raises:
        InputError: a side cannot be understood, or holds no volume.
    """
    with tempfile.TemporaryDirectory(prefix="medssl-leakage-") as folder:
        work = Path(folder)
        unread: dict[str, dict[str, int]] = {}
        a, unread["A"] = _side(request.a, work / "A", request)
        b, unread["B"] = _side(request.b, work / "B", request)
        joint, config = work / "joint", NearDuplicateConfig()
        return shared_between(a, b, joint, config, request.workers), unread


def show(request: LeakageRequest, out: Path | None) -> int:
    """Compare, print what leaks, write all of it to ``out``; return the exit code."""
    found, unread = audit(request)
    leaks = [tie for tie in found if tie.leaks]
    alike = [tie for tie in found if not tie.leaks]
    if out is not None:
        tree = [{**asdict(tie), "leaks": tie.leaks, "meaning": tie.meaning} for tie in found]
        write_json(out, {"a": request.a, "b": request.b, "shared": tree, "unread": unread})
    for title, ties in (("leaks", leaks), ("only alike: look at them", alike)):
        if ties:
            say(f"{title}:", *(f"  {_told(tie)}" for tie in ties[:_MOST_ROWS]))
        if len(ties) > _MOST_ROWS:
            say(f"  and {len(ties) - _MOST_ROWS} more; --out FILE lists them all")
    for mark, reasons in unread.items():
        if reasons:
            words = ", ".join(f"{code} {count}" for code, count in reasons.items())
            say(f"not compared, of {mark}: {words}")
    several = len({tie.in_b for tie in leaks})
    say(f"{several} of B leak" if several else "nothing leaks")
    return 1 if leaks else 0


def _told(tie: Shared) -> str:
    compared = tie.score is not None and tie.score == tie.score and tie.score < 1
    score = f", correlation {tie.score:.3f}" if compared else ""
    return f"{tie.in_b} and {tie.in_a}: {tie.meaning} ({tie.kind}{score})"


def _side(text: str, work: Path, request: LeakageRequest) -> tuple[Side, dict[str, int]]:
    """Return what ``text`` names: a library, a selection or split of one, or files."""
    path, parts = _split(text)
    if catalog_path(path).is_file():
        return _of_library(path, parts), {}
    if path.suffix == ".json":
        return _of_files(work, request, **_described(path, parts))
    if parts:
        raise InputError(f"{path} is no library, so {':'.join(parts)!r} names nothing in it")
    return _of_files(work, request, files=[path], below=path if path.is_dir() else path.parent)


def _split(text: str) -> tuple[Path, list[str]]:
    """Return a path, and what stands behind it after colons."""
    words = text.split(":")
    for count in range(len(words), 0, -1):
        path = Path(":".join(words[:count]))
        if path.exists():
            return path, words[count:]
    raise InputError(
        f"there is no {text}",
        hint="wanted a library, LIBRARY:SELECTION, LIBRARY:SELECTION:SPLIT, a folder or file of "
        "scans, a dataset.json, or dataset.json:training and :test",
    )


def _of_library(library: Path, parts: Sequence[str]) -> Side:
    if not parts:
        return Side(library)
    name, *split = parts
    kept = read_selection(library, name).kept
    if split:
        kept = kept[kept["split"] == split[0]]
    if kept.empty:
        raise InputError(f"{':'.join(parts)} holds no volume")
    return Side(library, frozenset(kept["volume_key"]))


def _described(path: Path, parts: Sequence[str]) -> dict[str, Any]:
    """Return the files, names and modality that a Decathlon ``dataset.json`` lists."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        sections = {name: tree[name] for name in _SECTIONS if isinstance(tree.get(name), list)}
    except (ValueError, AttributeError, OSError):
        sections = {}
    wanted = parts or [name for name in sections if sections[name]]
    missing = [name for name in wanted if name not in sections]
    if not sections or missing:
        raise InputError(
            f"{path} lists no {' and no '.join(missing) or 'training or test images'}",
            hint="the expected layout is that of the Medical Segmentation Decathlon",
        )
    files = {}
    for name in wanted:
        for number, entry in enumerate(sections[name], start=1):
            image = entry.get("image") if isinstance(entry, dict) else entry
            files[path.parent / str(image)] = f"{name} case {number}"
    channels = tree.get("modality", tree.get("channel_names", {}))
    word = str(next(iter(channels.values()), "")) if isinstance(channels, dict) else ""
    modality = _MODALITIES.get(word.lower())
    return {"files": list(files), "names": files, "below": path.parent, "modality": modality}


def _of_files(
    work: Path,
    request: LeakageRequest,
    *,
    files: Sequence[Path],
    below: Path,
    names: dict[Path, str] | None = None,
    modality: str | None = None,
) -> tuple[Side, dict[str, int]]:
    """Make a library of files, to be thrown away, and say what each volume is called."""
    library = work / "library"
    tree: dict[str, Any] = {
        "sources": [str(path) for path in files],
        "library": library,
        "key_file": request.key_file or work.parent / "throwaway.key",  # one for both sides
        "create_key": request.key_file is None,
        "tracking": {"enabled": False},
    }
    if modality is not None:
        tree["modalities"] = {"*": modality}
    config = validate(IngestConfig, tree, where="audit-leakage", overrides=request.settings)
    ingest(config)
    outcomes, paths = read_outcomes(library), read_paths(library)
    if not len(read_catalog_table(library, ["volume_key"])):
        raise InputError(
            f"no scan could be read below {below.name}", hint="is it the right folder?"
        )
    called = {path.resolve(): name for path, name in (names or {}).items()}
    told: dict[str, str] = {}
    converted = outcomes[outcomes["outcome"] == "converted"].sort_values("file_key")
    for file_key, volume_key in zip(converted["file_key"], converted["volume_key"], strict=True):
        path = Path(paths.get(file_key, ""))
        told.setdefault(volume_key, called.get(path.resolve()) or _near(path, below))
    refused = Counter(outcomes[outcomes["outcome"] != "converted"]["reason_code"])
    return Side(library, names=told), dict(refused.most_common())


def _near(path: Path, below: Path) -> str:
    """Return a path as the person who asked knows it: relative to what they gave."""
    whole, start = path.absolute(), below.absolute()
    near = whole.relative_to(start) if whole.is_relative_to(start) else Path(whole.name)
    return re.sub(r"[\x00-\x1f]", "?", str(near))
