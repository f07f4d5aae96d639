"""In which order studies are learned from: batches whose reports differ.

Two reports of equal words in one batch, or many that find nothing, are false negatives of a
contrast: each is told from the other although nothing tells them apart. What cannot be avoided is
left to the loss.
"""

from collections.abc import Sequence

from medssl.data.sampling import Stream, generator


class StudyOrder:
    """A new permutation of the studies every epoch, dealt to batches like cards.

    Studies whose reports are alike lie beside each other when they are dealt, so they come to
    different batches, and those that find nothing are spread evenly.
    """

    def __init__(
        self,
        texts: Sequence[int],
        normal: Sequence[bool],
        *,
        batch_size: int,
        most_normal: int,
        seed: int,
    ) -> None:
        """Open an order.

        Args:
            texts: Per study, a number that reports of equal words share.
            normal: Per study, whether its report finds nothing.
            batch_size: Studies of one batch; no more than there are.
            most_normal: Studies of one batch whose report finds nothing, at most: an epoch leaves
                out the others. Without effect where the rest does not fill a batch.
            seed: Decides the permutations.

        Raises:
            ValueError: There are fewer studies than a batch needs.
        """
        if not 1 <= batch_size <= len(texts):
            raise ValueError(f"a batch of {batch_size} of {len(texts)} studies")
        self.texts, self.normal = list(texts), list(normal)
        self.batch_size, self.seed = batch_size, seed
        normals = sum(self.normal)
        others = len(self.texts) - normals
        batches = len(self.texts) // batch_size
        if most_normal < batch_size:
            batches = min(batches, others // (batch_size - most_normal)) or batches
        self._normals = max(min(normals, most_normal * batches), batches * batch_size - others)
        self.epoch_samples = batches * batch_size
        self._cached: tuple[int, list[int]] = (-1, [])

    def study_of(self, sample_index: int) -> int:
        """Return the position, from 0, of the study that a sample shows."""
        epoch, position = divmod(sample_index, self.epoch_samples)
        cached = self._cached  # read once: another thread may be in another epoch
        if cached[0] != epoch:
            rng = generator(self.seed, epoch, Stream.ORDER)
            cached = (epoch, self._dealt(rng.permutation(len(self.texts)).tolist()))
            self._cached = cached
        return cached[1][position]

    def _dealt(self, order: list[int]) -> list[int]:
        normals = [study for study in order if self.normal[study]][: self._normals]
        others = [study for study in order if not self.normal[study]]
        others = others[: self.epoch_samples - len(normals)]
        cards = [*self._beside_alike(normals), *self._beside_alike(others)]
        batches = self.epoch_samples // self.batch_size
        return [study for batch in range(batches) for study in cards[batch::batches]]

    def _beside_alike(self, studies: list[int]) -> list[int]:
        groups: dict[int, list[int]] = {}
        for study in studies:
            groups.setdefault(self.texts[study], []).append(study)
        return [study for group in groups.values() for study in group]
