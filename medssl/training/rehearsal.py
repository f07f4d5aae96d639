"""One step of a method without its arithmetic: what does not fit is found before a run begins."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from medssl.data.views import (
    Batch,
    FloatArray,
    Labelled,
    LabelledPatches,
    Region,
    Sample,
    SequenceCrop,
    Texts,
    ViewSpec,
    joined,
)
from medssl.errors import ConfigError
from medssl.methods.base import Method, ReportMethod
from medssl.models.encoders.base import Encoder
from medssl.training.step_cost import without_computing

Arithmetic = Callable[[], AbstractContextManager[Any]]
"""Opens a context in which a step computes, or does not."""
T = TypeVar("T")
_MISFITS = (ValueError, RuntimeError, IndexError)
_GROUPS: tuple[tuple[str | None, ...], ...] = (("PD", "R1", "R2s"), ("T1", "T2"), (None, None))
"""What volumes of one group may be: maps, or sequences."""
_PROGRESS = (0.0, 1 - 1e-6)
"""At which shares of a training a step is tried: some methods change on the way."""
_ROWS = 4
"""Volumes of a batch that a step is tried with, at most: more would only take memory."""
_VOLUME_OVER_REGION = 16
"""Volumes are so many times as long as the region that views are cut from."""


def rehearse(method: Method.Config, encoder: Encoder.Config, rows: int) -> None:
    """Take the forward half of a first and a last step on noise, to see whether all fits.

    It takes seconds at most, whatever the network's size (see ``step_cost``).

    Args:
        method: What is learned.
        encoder: Of which network.
        rows: Volumes in a batch, of all processes together.

    Raises:
        ConfigError: They do not fit, or a batch holds nothing that the method could compare.
    """
    bounds = rehearsed(
        partial(_first_loss, method, encoder, min(rows, _ROWS)),
        f"method {method.name} cannot take a step with the encoder {encoder.name}",
        hint="views and encoder must both be of volumes or both of slices (`dims`), and crops a "
        "multiple of what one voxel of the encoder's coarsest map spans",
    )
    for part, bound in bounds.items():
        if bound == 0 or math.isnan(bound):
            raise ConfigError(
                f"method {method.name} finds nothing to compare in a batch of {rows}: the loss "
                f"part {part} would be the same whatever the encoder does",
                hint="raise loader.volumes_per_batch, or views per volume where the method has any",
            )


def rehearsed(step: Callable[[Arithmetic], T], problem: str, *, hint: str) -> T:
    """Return what a step returns, which is given what leaves its arithmetic out.

    What fails without fails once more with it before it counts: that is what a training would
    meet.

    Args:
        step: Called with a context in which it computes.
        problem: What is said of a failure, before its own words.
        hint: And behind them, unless they come from whoever checks a value.

    Raises:
        ConfigError: It fails with its arithmetic, too.
    """
    with torch.random.fork_rng(devices=[]):
        try:
            return step(partial(without_computing, []))
        except _MISFITS:
            pass
        try:
            return step(nullcontext)
        except _MISFITS as error:
            words = next(iter(str(error).splitlines()), type(error).__name__)
            advice = None if isinstance(error, ValueError) else hint
            raise ConfigError(f"{problem}: {words}", hint=advice) from error


def _first_loss(
    method: Method.Config, encoder: Encoder.Config, rows: int, arithmetic: Arithmetic
) -> dict[str, float]:
    """Return the bounds of the loss parts; the loss itself is only asked for."""
    with arithmetic():
        built: Method = method.build(encoder=encoder.build())
    batch = noise_batch(built, rows, method)
    with torch.no_grad(), arithmetic():
        for progress in _PROGRESS:
            built.before_step(progress=progress)
            built.loss(batch, progress=progress)
    return built.constant_loss(batch)


def noise_batch(method: Method, rows: int, config: Method.Config) -> Batch:
    """Return a batch of noise of the shapes that a training has."""
    labelled, texts = config.labelled_patches, None
    rng = np.random.default_rng(0)
    sample = joined([_part(method.views, part, rng) for part in range(method.views.parts)])
    batch = method.views.collate([sample] * rows)
    if isinstance(method, ReportMethod):
        texts = _texts(method, rows)
    return batch._replace(labelled=_labelled(labelled, rows, rng), texts=texts)


def _part(views: ViewSpec[Any], part: int, rng: np.random.Generator) -> Sample:
    size = views.region_voxels
    voxels_IJK: FloatArray = rng.random(size, dtype=np.float32)
    shape = (x, y, z) = tuple(_VOLUME_OVER_REGION * n for n in size)
    middles = [sum(band) / 2 for band in views.band(part)]
    i, j, k = (round(m * n - s / 2) for m, n, s in zip(middles, shape, size, strict=True))
    region = Region(voxels_IJK, (i, j, k), (x, y, z), _sequences(views, voxels_IJK, rng))
    return views.cut(region, views.draw(rng))


def _sequences(
    views: ViewSpec[Any], voxels_IJK: FloatArray, rng: np.random.Generator
) -> tuple[SequenceCrop, ...]:
    """Return, for a spec that needs several volumes of a group, those of a group that serves."""
    if views.sequences == 1:
        return ()
    for group in _GROUPS:
        chosen = views.choose(group, rng)
        if chosen:
            return tuple(SequenceCrop(voxels_IJK, group[n], (0.0, 1.0)) for n in chosen)
    return ()


def _labelled(
    wanted: LabelledPatches | None, rows: int, rng: np.random.Generator
) -> Labelled | None:
    if wanted is None:
        return None
    shape = (rows * wanted.per_sample, *(wanted.patch_voxels,) * 3)
    image_BIJK = torch.from_numpy(rng.random(shape, dtype=np.float32))
    return Labelled(image_BIJK[:, None], (image_BIJK * wanted.classes).long())


def _texts(method: ReportMethod, rows: int) -> Texts:
    """Return reports as long as they may be; of a frozen text encoder, what is kept of them."""
    reading = method.config.reading
    sentences = reading.max_sentences if reading.by_sentence else 1
    number_BS = torch.arange(rows * sentences).view(rows, sentences)
    tokens = 0 if method.text.frozen else min(reading.max_tokens, method.text.max_tokens)
    if method.text.frozen:
        method.keep_text_states(torch.zeros(number_BS.numel(), method.text.embed_dim))
    method.know_sentences([""] * number_BS.numel())
    alone_B = torch.arange(rows)
    return Texts(
        token_BSL=torch.ones(rows, sentences, tokens, dtype=torch.int64),
        token_mask_BSL=torch.ones(rows, sentences, tokens, dtype=torch.bool),
        sentence_BS=number_BS,
        study_B=alone_B,
        text_B=alone_B,
        normal_B=torch.zeros(rows, dtype=torch.int8),
        label_BF=torch.ones(rows, len(method.config.findings), dtype=torch.int8),
    )


def tensors_of(batch: Batch) -> list[Tensor]:
    """Return every tensor of a batch."""
    beside = [*(batch.labelled or ()), *(batch.texts or ())]
    return [*batch.views_BCIJK, *batch.geometry.values(), *beside]
