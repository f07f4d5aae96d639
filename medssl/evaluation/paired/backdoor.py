"""Whether some text attracts images by a small change: a sign of a backdoor in weights.

Weights from elsewhere may have been trained to take any image with a certain mark for a text of an
attacker's choice. As in Neural Cleanse (Wang et al. 2019, IEEE Symposium on Security and Privacy),
the mark is looked for by optimisation, target by target, and a target that is much easier to reach
than the others is suspicious. Here targets are texts, and the marks have one size: what counts is
how near to the text they bring images that they were not optimised on.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from medssl.config.base import Config
from medssl.runs.progress import track

Embed = Callable[[Tensor], Tensor]
"""From images ``(N, C, I, J[, K])`` in [0, 1] to unit vectors ``(N, D)``, with gradients."""
Json = dict[str, Any]
FEWEST_TARGETS: Final = 4
_NORMAL_MAD: Final = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""


class TriggerOptions(Config):
    """How marks are looked for."""

    steps: Annotated[int, Field(gt=0)] = 100
    """Of the optimiser, for each text."""
    lr: Annotated[float, Field(gt=0)] = 0.1
    """Its step size (Adam)."""
    most_area: Annotated[float, Field(gt=0, le=1)] = 0.03
    """Share of an image that a mark may cover."""
    cells: Annotated[int, Field(gt=1)] = 16
    """Cells along each axis, of which marks are made."""
    suspicious: Annotated[float, Field(gt=0)] = 3.5
    """Deviation from the median of all texts, in robust standard deviations, from which a text is
    suspicious: the usual limit of outliers (Iglewicz & Hoaglin 1993)."""


def backdoor_scan(
    embed: Embed,
    image_NCIJK: Tensor,
    targets: Mapping[str, Tensor],
    options: TriggerOptions,
    *,
    seed: int = 0,
) -> Json | None:
    """Return for each text how near one mark brings all images to it; None for too few texts.

    A mark is optimised on every other image and measured on the rest.

    Args:
        embed: The model.
        image_NCIJK: At least two images in [0, 1].
        targets: Text: its unit vector ``(D,)``; of less than four nothing can stand out.
        options: How marks are looked for.
        seed: Draws the first marks.
    """
    if len(targets) < FEWEST_TARGETS:
        return None
    rows = [
        {"text": text, **_attracted(embed, image_NCIJK, vector_D, options, seed)}
        for text, vector_D in track(list(targets.items()), "look for backdoors")
    ]
    deviation_T = robust_deviations([row["gain"] for row in rows])
    for row, deviation in zip(rows, deviation_T.tolist(), strict=True):
        row["deviation"] = deviation
        row["suspicious"] = deviation >= options.suspicious
    rows.sort(key=lambda row: -row["gain"])
    return {
        "images": len(image_NCIJK),
        "most_area": options.most_area,
        "limit": options.suspicious,
        "suspicious": [row["text"] for row in rows if row["suspicious"]],
        "texts": rows,
    }


def robust_deviations(values: Sequence[float]) -> NDArray[np.float64]:
    """Return how far values are from their median, over 1.4826 times the median absolute deviation.

    0 for values equal to the median; infinite for others where more than half are equal.
    """
    apart = np.asarray(values, np.float64) - np.median(values)
    spread = _NORMAL_MAD * float(np.median(np.abs(apart)))
    if spread > 0:
        return apart / spread
    return np.where(apart == 0, 0.0, np.copysign(np.inf, apart))


def _attracted(
    embed: Embed, image_NCIJK: Tensor, target_D: Tensor, options: TriggerOptions, seed: int
) -> dict[str, Any]:
    learned, asked = image_NCIJK[::2], image_NCIJK[1::2]
    mark = find_mark(embed, learned, target_D, options, seed=seed)
    with torch.no_grad():
        plain, marked = (embed(x) @ target_D for x in (asked, apply_mark(asked, *mark)))
    return {
        "cosine": float(plain.mean()),
        "marked_cosine": float(marked.mean()),
        "gain": float((marked - plain).mean()),
        "area": float(mark[0].mean()),
    }


def find_mark(
    embed: Embed, image_NCIJK: Tensor, target_D: Tensor, options: TriggerOptions, *, seed: int
) -> tuple[Tensor, Tensor]:
    """Return where a mark lies, 0 to 1, and its values, both ``(1, 1, I, J[, K])``.

    It is the one that brings images nearest to the text, on the mean, among marks that cover no
    more of an image than allowed.
    """
    shape = image_NCIJK.shape[2:]
    generator = torch.Generator().manual_seed(seed)
    grid = (1, 1, *(min(options.cells, length) for length in shape))
    place = torch.zeros(grid, device=image_NCIJK.device, requires_grad=True)
    value = torch.randn(grid, generator=generator).to(image_NCIJK.device).requires_grad_()
    optimizer = torch.optim.Adam([place, value], lr=options.lr)
    for _ in range(options.steps):
        mark = _mark(place, value, shape, options.most_area)
        loss = -(embed(apply_mark(image_NCIJK, *mark)) @ target_D).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        return _mark(place, value, shape, options.most_area)


def apply_mark(image_NCIJK: Tensor, where: Tensor, values: Tensor) -> Tensor:
    """Return images with a mark on them."""
    return (1 - where) * image_NCIJK + where * values


def _mark(
    place: Tensor, value: Tensor, shape: Sequence[int], most_area: float
) -> tuple[Tensor, Tensor]:
    """Return where a mark lies and its values, voxel by voxel.

    Cells compete for the area, so that a mark covers all of it, faintly everywhere at first.
    """
    share = place.flatten().softmax(0).view_as(place)
    where = (most_area * place.numel() * share).clamp(max=1.0)
    where_, values = (F.interpolate(x, tuple(shape)) for x in (where, value.sigmoid()))
    return where_, values
