"""Digests of voxels and of entries."""

import numpy as np

from medssl.data.entry import content_digest, entries_digest
from medssl.data.store import CropStore


def test_the_digest_sees_values_shape_and_type_but_not_memory_order(noise):
    same = content_digest(np.asfortranarray(noise))
    assert content_digest(noise) == same
    changed_IJK = noise.copy()
    changed_IJK[0, 0, 0] += 1
    others = [changed_IJK, noise.reshape(37, 40, 21), noise.view(np.uint16)]
    assert same not in [content_digest(other) for other in others]


def test_the_store_digest_does_not_depend_on_the_order_of_entries(make_store, noise):
    store: CropStore = make_store({"b": noise, "a": noise[::-1]})
    entries = [store.entry(key) for key in ("b", "a")]
    assert entries_digest(reversed(entries)) == entries_digest(entries) == store.digest
