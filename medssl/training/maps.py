"""Label maps and heat maps of a pretraining with reports: found, and put beside its volumes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from medssl.data.annotations import (
    HEAT,
    ORGANS,
    Annotations,
    annotation_digest,
    annotation_files,
    heat_map,
    organ_map,
    write_annotations,
)
from medssl.data.entry import StoreEntry
from medssl.data.store import CropStore
from medssl.io.volume import Volume
from medssl.reports.pairs import Pair
from medssl.runs.processes import decided_by_first


@dataclass(frozen=True, kw_only=True)
class MapFiles:
    """Maps of one kind, as they were given."""

    folder: str
    """Of the run: where they are put."""
    files: Mapping[str, Path]
    """Of each volume that has one."""
    digest: str
    place: Callable[[Volume, StoreEntry], NDArray[Any]]
    """What brings one onto the grid of a volume."""


def find_maps(
    organ_maps: Path | None,
    heat_maps: Path | None,
    organs: Sequence[Sequence[int]],
    pairs: Sequence[Pair],
) -> dict[str, MapFiles]:
    """Return the maps of each kind that there is a folder for.

    Args:
        organ_maps: Folder of label maps.
        heat_maps: Folder of heat maps.
        organs: Labels of each organ.
        pairs: Whose volumes are asked for.

    Raises:
        InputError: A folder has no map of any of the volumes.
    """
    found = dict[str, MapFiles]()
    kinds = ((ORGANS, organ_maps, partial(organ_map, organs=organs)), (HEAT, heat_maps, heat_map))
    for name, folder, place in kinds:
        if folder is not None:
            files = annotation_files(folder, pairs)
            kept = "organ_maps" if name == ORGANS else "heat_maps"
            digest = annotation_digest(files)
            found[name] = MapFiles(folder=kept, files=files, digest=digest, place=place)
    return found


def place_maps(maps: Mapping[str, MapFiles], store: CropStore, run: Path) -> Annotations:
    """Return the maps on the grids of the volumes, kept in the run's folder.

    Of several processes the first one puts them there.

    Raises:
        InputError: A map cannot be read.
    """
    placed = dict[str, CropStore]()
    for name, each in maps.items():
        out = run / each.folder
        decided_by_first(partial(write_annotations, out, store, each.files, each.place))
        placed[name] = CropStore(out)
    return placed
