"""Which volume and which randomness belong to a sample: functions of (seed, sample index) alone.

Nothing here remembers anything, so training resumes by asking for the next sample, and the
number of loader processes changes nothing.
"""

from collections.abc import Iterator
from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """Independent sources of randomness under one seed."""

    ORDER = 0
    SAMPLE = 1
    VIEW = 2


def generator(seed: int, index: int, stream: Stream) -> np.random.Generator:
    """Return the generator of one index: a counter-based one, made in constant time.

    The key is (seed, index); the stream sets the top word of the 256-bit counter, which no
    amount of drawing reaches, so streams never overlap (Salmon et al. 2011, Philox-4x64).
    """
    key = np.array([seed, index], dtype=np.uint64)
    counter = np.array([0, 0, 0, int(stream)], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


class VolumeOrder:
    """A new permutation of the volumes every epoch, cut into batches without repeats.

    With V volumes and batches of B <= V, an epoch is the first ``V // B`` whole batches of a
    permutation: the few volumes that do not fill a batch are others each epoch, and no batch
    reaches over the end of an epoch, where it could meet a volume twice. With B > V a batch is
    made of whole permutations, so no volume comes more than once more often than another.
    """

    def __init__(self, volumes: int, batch_size: int, seed: int) -> None:
        if volumes < 1 or batch_size < 1:
            raise ValueError(f"need volumes and a batch size, got {volumes} and {batch_size}")
        self.volumes, self.batch_size, self.seed = volumes, batch_size, seed
        self.epoch_samples = max(volumes // batch_size, 1) * batch_size
        self._cached: tuple[int, list[int]] = (-1, [])

    def epoch_of(self, sample_index: int) -> int:
        """Return which epoch a sample belongs to, from 0."""
        return sample_index // self.epoch_samples

    def volume_of(self, sample_index: int) -> int:
        """Return the position, 0 to ``volumes - 1``, of the volume that a sample is cut from."""
        epoch, position = divmod(sample_index, self.epoch_samples)
        cached = self._cached  # read once: another thread may be in another epoch
        if cached[0] != epoch:
            rng = generator(self.seed, epoch, Stream.ORDER)
            rounds = -(-self.epoch_samples // self.volumes)
            order = np.concatenate([rng.permutation(self.volumes) for _ in range(rounds)])
            cached = self._cached = (epoch, order.tolist())
        return cached[1][position]


class BatchIndices:
    """Batch sampler: the sample indices of every batch from a starting point on, in order.

    Of several processes each gets its own part of every batch, equally many samples in a row:
    joined in the order of ``part`` they are the batch of a single process.

    It has no length on purpose. Trainers count batches from the beginning of the training, and
    would stop a resumed one too early if they were told how few are left.
    """

    def __init__(
        self,
        *,
        batch_size: int,
        total_batches: int,
        start_batch: int = 0,
        part: int = 0,
        parts: int = 1,
    ) -> None:
        if batch_size % parts:
            raise ValueError(f"{parts} processes cannot share batches of {batch_size} evenly")
        self.batch_size = batch_size
        self.total_batches, self.start_batch = total_batches, start_batch
        self._size = batch_size // parts
        self._offset = part * self._size

    def __iter__(self) -> Iterator[list[int]]:
        for batch in range(self.start_batch, self.total_batches):
            first = batch * self.batch_size + self._offset
            yield list(range(first, first + self._size))
