"""Run by ``slice_duplicates`` in a virtual environment of rivals; knows nothing of medssl.

    python hash_images.py FOLDER OUT.json

Writes, for each tool, the pairs of images it calls duplicates, and how long it took. imagededup
imports torch and torchvision for its neural networks, which its hashes do not use: they are
stubbed, as there is no torchvision for current CPU builds.
"""

import json
import sys
import time
import types
from collections.abc import Callable, Iterator
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from itertools import combinations
from pathlib import Path
from typing import Any

Pairs = list[tuple[str, str]]


class _Everything(type):
    """A class whose every attribute is a class like it."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Nothing


class _Nothing(metaclass=_Everything):
    """Can be made of anything, and does nothing."""

    def __init__(self, *given: Any, **named: Any) -> None:
        pass


class _Stub(types.ModuleType):
    """A package that has every attribute."""

    __path__: Any = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Nothing


class _Stubs(MetaPathFinder, Loader):
    """Finds torch and torchvision, and everything below them."""

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        return (
            ModuleSpec(name, self) if name.partition(".")[0] in ("torch", "torchvision") else None
        )

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        return _Stub(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def _imagededup(method: str, folder: Path, bits: int) -> Pairs:
    sys.meta_path.insert(0, _Stubs())
    import imagededup.methods  # type: ignore[import-not-found,unused-ignore]

    hasher = getattr(imagededup.methods, method)(verbose=False)
    found = hasher.find_duplicates(
        encoding_map=hasher.encode_images(str(folder)), max_distance_threshold=bits
    )
    return sorted({(min(a, b), max(a, b)) for a, others in found.items() for b in others})


def _imagehash(method: str, folder: Path, bits: int) -> Pairs:
    import imagehash  # type: ignore[import-untyped,unused-ignore]
    from PIL import Image

    hashes = {
        path.name: int(str(getattr(imagehash, method)(Image.open(path))), 16)
        for path in sorted(folder.glob("*.png"))
    }
    pairs = combinations(hashes, 2)
    return [(a, b) for a, b in pairs if (hashes[a] ^ hashes[b]).bit_count() <= bits]


def tools(folder: Path) -> Iterator[tuple[str, Callable[[], Pairs]]]:
    """Yield each tool's name and setting, and what runs it."""
    for method in ("DHash", "PHash", "AHash", "WHash"):
        yield f"imagededup {method} <= 10 (default)", partial(_imagededup, method, folder, 10)
    yield "imagehash dhash <= 6 (Hash-6)", partial(_imagehash, "dhash", folder, 6)
    for method in ("phash", "average_hash"):
        yield f"imagehash {method} <= 6", partial(_imagehash, method, folder, 6)


def main() -> None:
    """Run every tool."""
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    result = {}
    for name, run in tools(folder):
        begin = time.perf_counter()
        pairs = run()
        result[name] = {"pairs": pairs, "seconds": time.perf_counter() - begin}
    out.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
