"""Batches that threads of the training process make, ahead of its steps."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from torch.utils.data import Dataset, IterableDataset

from medssl.data.views import Batch

_AHEAD = 2
"""Batches that wait per thread, as many as torch lets every worker process make."""


class ThreadedBatches(IterableDataset[Batch]):
    """The batches of a dataset in their order, whichever thread is done first.

    What they make need not be handed to another process, which takes as long as making it. The
    training runs on while they copy, but not while they decode: blosc2 (4.14) holds Python's lock
    as long as it reads a region, some four milliseconds for 192 x 192 x 64 voxels. An error comes
    where its batch would have come.
    """

    def __init__(
        self,
        samples: Dataset[Any],
        batches: Iterable[list[int]],
        collate: Callable[[Sequence[Any]], Batch],
        *,
        threads: int,
    ) -> None:
        """Describe the batches; nothing is read before they are asked for.

        Args:
            samples: Read by several threads at once.
            batches: The indices of the samples of every batch.
            collate: Makes a batch of its samples.
            threads: How many make batches.
        """
        self.samples, self.batches, self.collate = samples, batches, collate
        self.threads = threads

    def __iter__(self) -> Iterator[Batch]:
        with ThreadPoolExecutor(self.threads, thread_name_prefix="loader") as pool:
            waiting = deque[Future[Batch]]()
            try:
                for indices in self.batches:
                    waiting.append(pool.submit(self._batch, indices))
                    if len(waiting) > _AHEAD * self.threads:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:  # who stops asking does not wait for batches that nobody will see
                pool.shutdown(wait=False, cancel_futures=True)

    def _batch(self, indices: list[int]) -> Batch:
        return self.collate([self.samples[index] for index in indices])
