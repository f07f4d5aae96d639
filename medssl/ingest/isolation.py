"""Convert items in worker processes, so that one that kills its worker harms no other."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from medssl.errors import MedSSLError
from medssl.ingest.items import Item, ItemResult
from medssl.runs.workers import end_with_parent, map_unordered

Work = Callable[[Item], ItemResult]


def map_isolated(
    work: Work, crashed: Work, items: Sequence[Item], *, workers: int
) -> Iterator[ItemResult]:
    """Yield the result of every item, in the order in which they are ready.

    Where a worker dies, the items that are left go through one worker, one after the other, so
    that the culprit is known: it becomes ``crashed(item)``, the others are converted. With
    ``workers=1`` everything runs in this process, and nothing is isolated.
    """
    if len(items) == 1 and workers != 1:  # map_unordered would not start a process for one row
        yield from _one_by_one(work, crashed, list(items))
        return
    left = {item.key: item for item in items}
    try:
        for result in map_unordered(work, list(items), workers=workers):
            del left[result.key]
            yield result
    except MedSSLError as error:
        if not isinstance(error.__cause__, BrokenProcessPool):
            raise
        yield from _one_by_one(work, crashed, list(left.values()))


def _one_by_one(work: Work, crashed: Work, items: list[Item]) -> Iterator[ItemResult]:
    context = multiprocessing.get_context("spawn")
    while items:
        with ProcessPoolExecutor(1, context, initializer=end_with_parent) as pool:
            try:
                while items:
                    yield pool.submit(work, items[0]).result()
                    del items[0]
            except BrokenProcessPool:
                yield crashed(items.pop(0))
