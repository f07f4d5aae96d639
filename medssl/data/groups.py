"""Which volumes of a store a spec can use, where it asks for several on one grid."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from medssl.data.store import CropStore
from medssl.data.views import ViewSpec
from medssl.errors import InputError


def usable_keys(store: CropStore, views: ViewSpec[Any], split: str | None) -> tuple[str, ...]:
    """Return the volumes that samples begin with: all, or the first of every group that serves.

    Raises:
        InputError: The split has volumes, but no group that serves a spec that needs one.
    """
    if views.sequences == 1:
        return store.keys(split)
    groups = store.groups(split)
    anyhow = np.random.default_rng(0)  # whether a group serves is not drawn, only how
    firsts = tuple(keys[0] for keys in groups if views.choose(contrasts_of(store, keys), anyhow))
    if not firsts and store.keys(split):
        found = f"{len(groups)} groups, none of which serves" if groups else "no group of volumes"
        raise InputError(
            f"the views need at least {views.sequences} volumes on one grid, and the crop store "
            f"has {found} in the split {split!r}: {store.path}",
            hint="prepare it with align_sequences=true, and say in contrast_table which volumes "
            "are quantitative maps",
        )
    return firsts


def contrasts_of(store: CropStore, keys: Sequence[str]) -> list[str | None]:
    """Return what each volume is, where that is known."""
    return [store.entry(key).contrast for key in keys]
