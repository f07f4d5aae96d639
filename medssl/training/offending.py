"""The batch at which a training broke, on disk: what it takes to see it break again.

    RUN/nonfinite/step-00000012/batch.safetensors  the views as the method was given them
    RUN/nonfinite/step-00000012/batch.json         ``Offence``; written last
    RUN/nonfinite/step-00000012-process-1/         the same, of the second process

Where processes share a loss, all of them see it break and each keeps its share of the batch.
Views and reports are of patients: they stay in the run folder, and nothing in them says whose.
"""

from pathlib import Path
from typing import Literal

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from medssl.config.base import Config
from medssl.data.views import Batch, Labelled, Texts
from medssl.errors import InputError
from medssl.runs.folder import atomic_path, read_json, write_json

FOLDER, TENSORS, DESCRIPTION = "nonfinite", "batch.safetensors", "batch.json"


class Offence(Config):
    """What ``batch.json`` holds."""

    what: Literal["loss", "gradient"]
    """What was first seen to be no number."""
    step: int
    """Optimiser steps done before it."""
    batch_index: int
    """Which batch of the training it is."""
    progress: float
    """Share of the training done before it, 0 to 1."""
    seed: int
    """The training's seed; with the batch's index it decides what the method draws."""
    process: int
    """Which of the processes that train together had it."""
    config_digest: str
    """Of the configuration that the training ran with."""


def save_offence(run: Path, offence: Offence, batch: Batch) -> Path:
    """Write a batch and what is known about it below the run folder; return the new folder."""
    tensors = {f"views.{kind}": view for kind, view in enumerate(batch.views_BCIJK)}
    tensors |= {f"geometry.{name}": value for name, value in batch.geometry.items()}
    for beside in ("labelled", "texts"):
        part = getattr(batch, beside)
        tensors |= {f"{beside}.{name}": v for name, v in part._asdict().items()} if part else {}
    rank = f"-process-{offence.process}" if offence.process else ""
    folder = run / FOLDER / f"step-{offence.step:08d}{rank}"
    with atomic_path(folder / TENSORS) as partial:
        partial.write_bytes(save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}))
    write_json(folder / DESCRIPTION, offence.model_dump())
    return folder


def load_offence(run: Path) -> tuple[Offence, Batch, Path]:
    """Return the first of :func:`shares`, and where it lies.

    Raises:
        InputError: There is nothing, or it is damaged.
    """
    folder = shares(run)[0]
    return *load_share(folder), folder


def shares(run: Path) -> list[Path]:
    """Return the folders of the step that was saved last, one per process.

    First come those whose images hold what is no number, then the others by their process: when
    each was written says nothing about whose share broke the loss.

    Raises:
        InputError: There is nothing, or it is damaged.
    """
    found = sorted((run / FOLDER).glob(f"*/{DESCRIPTION}"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise InputError(
            f"{run}: no batch is kept here, so no loss or gradient was ever not a number",
            hint="give the folder of a pretraining that ended with that error",
        )
    last, _ = load_share(found[-1].parent)
    ranked = list[tuple[bool, int, Path]]()
    for path in (run / FOLDER).glob(f"step-{last.step:08d}*/{DESCRIPTION}"):
        offence, batch = load_share(path.parent)
        if offence.config_digest == last.config_digest:  # not left by an earlier training
            ranked.append((odd_image(batch) is None, offence.process, path.parent))
    return [folder for _, _, folder in sorted(ranked)]


def load_share(folder: Path) -> tuple[Offence, Batch]:
    """Return what one process saved.

    Raises:
        InputError: It is damaged.
    """
    try:
        offence = Offence.model_validate(read_json(folder / DESCRIPTION))
        return offence, _batch(load_file(folder / TENSORS))
    except (ValueError, ValidationError, SafetensorError, OSError, KeyError) as error:
        raise InputError(
            f"{folder}: the batch kept there cannot be read ({type(error).__name__})",
            hint="run the training again: it breaks at the same batch and keeps it anew",
        ) from error


def odd_image(batch: Batch) -> str | None:
    """Return which view or labelled image holds what is no finite number; None for none."""
    images = [
        (f"view {row} of kind {kind}", view)
        for kind, views_BCIJK in enumerate(batch.views_BCIJK)
        for row, view in enumerate(views_BCIJK)
    ]
    if batch.labelled is not None:
        labelled = enumerate(batch.labelled.image_BCIJK)
        images += [(f"labelled image {row}", image) for row, image in labelled]
    return next((name for name, image in images if not image.isfinite().all()), None)


def _batch(tensors: dict[str, Tensor]) -> Batch:
    def below(prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    views, labelled, texts = (below(f"{part}.") for part in ("views", "labelled", "texts"))
    return Batch(
        [views[str(kind)] for kind in range(len(views))],
        below("geometry."),
        Labelled(**labelled) if labelled else None,
        Texts(**texts) if texts else None,
    )
