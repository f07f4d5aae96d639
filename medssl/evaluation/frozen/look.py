"""Every volume of a set shown to one encoder, once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from medssl.data.sampling import Stream, generator
from medssl.evaluation.frozen.embed import Rows, Size3, describe, read_rows, write_rows
from medssl.evaluation.frozen.source import Source
from medssl.evaluation.frozen.subjects import Subject
from medssl.evaluation.frozen.views import crop_views, describe_views
from medssl.labelled.cases import LabelledCase
from medssl.runs.progress import track


class Look(NamedTuple):
    """How volumes are shown."""

    folder: Path
    """Of the tables of embeddings."""
    patch_voxels: Size3
    most_patches: int
    spread: float | None
    """Of two augmented crops of each volume; None for none."""
    device: torch.device
    seed: int
    resumed: bool
    """Whether a table that is there is of the same volumes and the same encoder."""


def embedded(subject: Subject, source: Source, cases: Sequence[LabelledCase], look: Look) -> Rows:
    """Return one row per case, and leave them as ``<encoder>.parquet``.

    A row has ``volume_key``, ``patient_key``, ``embedding``, ``level_<l>`` (the mean of each map,
    finest first) and, with ``spread``, what ``views.describe_views`` returns.

    Raises:
        InputError: A volume cannot be prepared as the encoder needs it.
    """
    file = look.folder / f"{subject.name}.parquet"
    keys = [case.case_key for case in cases]
    earlier = read_rows(file, keys) if look.resumed else None
    if earlier is not None:
        return earlier
    subject.encoder.to(look.device).eval()
    rows = [
        _row(subject, source, case, number, look)
        for number, case in enumerate(track(cases, f"Embedding by {subject.name}"))
    ]
    subject.encoder.cpu()
    write_rows(file, rows)
    return rows


def _row(
    subject: Subject, source: Source, case: LabelledCase, number: int, look: Look
) -> dict[str, Any]:
    encoder, volume_IJK = subject.encoder, source.scaled(case, subject.grid)
    seen = describe(
        encoder, volume_IJK, look.patch_voxels, most=look.most_patches, device=look.device
    )
    row: dict[str, Any] = {
        "volume_key": case.case_key,
        "patient_key": case.patient_key,
        "embedding": seen.embedding_D.tolist(),
        **{f"level_{n}": level_C.tolist() for n, level_C in enumerate(seen.levels)},
    }
    if look.spread is not None:
        views = crop_views(encoder, look.patch_voxels, look.spread)
        rng = generator(look.seed, number, Stream.SAMPLE)
        row |= describe_views(encoder, volume_IJK, views, rng, look.device)
    return row
