"""The crops of the first batch as a picture: people find faults of the data by looking."""

from pathlib import Path
from typing import Annotated, Any, cast

import lightning
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from medssl.config.base import Config
from medssl.data.views import Batch, ViewSpec
from medssl.runs.environment import rank
from medssl.runs.folder import atomic_path
from medssl.runs.tracking import Tracker
from medssl.training.module import PretrainModule

FILE = "crops.png"
_WIDTH_INCHES, _CAPTION_INCHES, _TITLE_INCHES = 12.0, 0.3, 0.35
_LONGEST_CAPTION = 60
_COLUMNS, _COLUMNS_OF_WIDE = 8, 4


class MontageConfig(Config):
    """The picture of the first batch's crops."""

    most_crops: Annotated[int, Field(gt=0)] = 32
    """Of each kind of view so many are shown, the first ones of the batch."""
    track: bool = False
    """Also record the picture where the run is tracked; it shows patients, and leaves the run
    folder then."""


class Montage(lightning.Callback):
    """Leaves a picture of the crops that the first step learns from, as the method gets them."""

    def __init__(self, path: Path, config: MontageConfig, tracker: Tracker) -> None:
        self.path, self.config, self.tracker = path, config, tracker

    def on_train_batch_start(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Draw the first batch of a training; a resumed one has its picture already."""
        if batch_idx or trainer.global_step or rank() > 0:
            return
        views = cast(PretrainModule, pl_module).method.views
        draw_montage(self.path, batch, views, most_crops=self.config.most_crops)
        if self.config.track:
            self.tracker.log_file(self.path)


def draw_montage(path: Path, batch: Batch, views: ViewSpec[Any], *, most_crops: int) -> None:
    """Write a PNG with the crops of a batch, kind by kind, each over its caption.

    A crop of a volume is shown as its middle axial, coronal and sagittal plane, a slice as it is;
    the patient's right on the left, front and head up. Grey runs from 0 to 1, the range that
    every crop is scaled to: what leaves it is drawn black or white, and the title names it.

    Args:
        path: The PNG to write.
        batch: What a method is given.
        views: The spec that cut it, which knows the captions.
        most_crops: Of each kind so many are shown at most.
    """
    kinds = [view.detach().float().cpu() for view in batch.views_BCIJK]
    captions = views.captions(batch)
    if batch.labelled is not None:
        kinds.append(batch.labelled.image_BCIJK.detach().float().cpu())
        captions = [*captions, [f"labelled {row}" for row in range(len(kinds[-1]))]]
    tiles = [[tile(crop.numpy()) for crop in kind[:most_crops]] for kind in kinds]
    heights = [_height(pictures) for pictures in tiles]
    figure = Figure(figsize=(_WIDTH_INCHES, sum(heights)), layout="constrained")
    parts = np.ravel(figure.subfigures(len(tiles), 1, height_ratios=heights, squeeze=False))
    for part, kind, pictures, words in zip(parts, kinds, tiles, captions, strict=True):
        part.suptitle(_title(kind, len(pictures)), fontsize=9)
        grid = list(part.subplots(*_grid(pictures), squeeze=False).flat)
        for axes in grid[len(pictures) :]:
            axes.set_axis_off()
        for axes, picture, caption in zip(grid, pictures, words, strict=False):
            _draw(axes, picture, caption)
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=110, format="png")


Picture = NDArray[np.float32]


def _grid(pictures: list[Picture]) -> tuple[int, int]:
    """Return rows and columns: fewer columns where a picture is several planes wide."""
    height, width = pictures[0].shape
    columns = _COLUMNS_OF_WIDE if width > 2 * height else _COLUMNS
    return -(-len(pictures) // columns), columns


def _height(pictures: list[Picture]) -> float:
    """Return the inches that the pictures of one kind, their captions and their title take."""
    rows, columns = _grid(pictures)
    height, width = pictures[0].shape
    tile_inches = _WIDTH_INCHES / columns * float(height / width)
    return rows * (tile_inches + _CAPTION_INCHES) + _TITLE_INCHES


def _title(kind_BCIJK: Tensor, shown: int) -> str:
    size = " x ".join(map(str, kind_BCIJK.shape[2:]))
    some = "" if shown == len(kind_BCIJK) else f", the first {shown} shown"
    low, high = float(kind_BCIJK.min()), float(kind_BCIJK.max())
    return f"{len(kind_BCIJK)} crops of {size}{some}; values {low:.2f} to {high:.2f}"


def _draw(axes: Axes, picture: Picture, caption: str) -> None:
    axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.set_xlabel(caption[:_LONGEST_CAPTION], fontsize=6, labelpad=2)
    axes.spines[:].set_visible(False)


def tile(crop_CIJK: NDArray[Any]) -> Picture:
    """Return one crop as a picture: its planes side by side, its channels below each other.

    Args:
        crop_CIJK: ``(C, I, J, K)``, or ``(C, I, J)`` for a slice.
    """
    channels = []
    for crop in crop_CIJK:
        if crop.ndim == 2:  # noqa: PLR2004 - a slice
            channels.append(crop[::-1, ::-1].T)
            continue
        i, j, k = (n // 2 for n in crop.shape)
        planes = [crop[::-1, ::-1, k].T, crop[::-1, j, ::-1].T, crop[i, ::-1, ::-1].T]
        flat = crop.shape[2] == 1
        channels.append(_beside(planes[:1] if flat else planes))
    picture: Picture = np.concatenate(channels).astype(np.float32)
    return picture


def _beside(planes: list[NDArray[Any]]) -> NDArray[Any]:
    """Join planes from left to right, a white line behind each, in the middle of the height."""
    height = max(len(plane) for plane in planes)
    missing = [height - len(plane) for plane in planes]
    padded = [
        np.pad(plane, ((n // 2, n - n // 2), (0, 1)), constant_values=1)
        for plane, n in zip(planes, missing, strict=True)
    ]
    return np.concatenate(padded, axis=1)
