"""Convert items in workers, the largest first; one that kills its worker harms no other."""

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TypeVar

from medssl.ingest.items import Item, ItemResult
from medssl.runs.workers import map_unordered

Work = TypeVar("Work", Item, ItemResult)
"""Something with files: to be converted, or converted before and to be completed."""


def map_isolated(
    work: Callable[[Work], ItemResult],
    crashed: Callable[[Work], ItemResult],
    items: Sequence[Work],
    *,
    workers: int | str,
    shared: Sequence[Path] = (),
) -> Generator[ItemResult]:
    """Yield the result of every item, in the order in which they are ready.

    The largest are begun first: a large one begun last would keep one worker busy while the
    others have nothing left. An item that kills its worker becomes ``crashed(item)``. Only with
    ``workers="inline"`` everything runs in this process, and nothing is isolated.
    """
    ordered = sorted(items, key=_bytes, reverse=True)
    yield from map_unordered(work, ordered, workers=workers, crashed=crashed, shared=shared)


def _bytes(item: Item | ItemResult) -> int:
    return sum(file.bytes for file in item.files)
