"""Convert items in workers, the largest first; one that kills its worker harms no other."""

from collections.abc import Callable, Generator, Sequence
from pathlib import Path

from medssl.ingest.items import Item, ItemResult
from medssl.runs.workers import map_unordered

Work = Callable[[Item], ItemResult]


def map_isolated(
    work: Work,
    crashed: Work,
    items: Sequence[Item],
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


def _bytes(item: Item) -> int:
    return sum(ref.bytes for ref in item.files)
