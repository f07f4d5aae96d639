"""Whether one image that shows nothing suits many texts better than real images do.

Such images are known of CLIP models (CLIPMasterPrints, Freiberger et al. 2023, arXiv:2307.03798).
A model that has them puts the same picture first whatever is looked for.
"""

from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from medssl.config.base import Config
from medssl.evaluation.paired.backdoor import Embed
from medssl.runs.progress import track

Json = dict[str, Any]
_EDGE = 0.02
"""How far from black and white the optimiser begins, where the logistic function is not flat."""


class FoolingOptions(Config):
    """How the image is looked for."""

    steps: Annotated[int, Field(gt=0)] = 200
    """Of the optimiser."""
    lr: Annotated[float, Field(gt=0)] = 0.05
    """Its step size (Adam)."""


class Fooling(NamedTuple):
    """An image and what it scores."""

    image_CIJK: Tensor
    report: Json


def fooling_image(
    embed: Embed, image_NCIJK: Tensor, text_TD: Tensor, options: FoolingOptions
) -> Fooling:
    """Return the image with the highest mean cosine with all texts, begun at the mean image.

    ``beaten`` is the share of texts whose most similar real image is less similar than this one.

    Args:
        embed: The model.
        image_NCIJK: Real images, in [0, 1].
        text_TD: Unit vectors of texts.
        options: How it is looked for.
    """
    with torch.no_grad():
        real_NT = embed(image_NCIJK) @ text_TD.T
    first = image_NCIJK.mean(0, keepdim=True).clamp(_EDGE, 1 - _EDGE)
    logits = first.logit().detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=options.lr)
    for _ in track(range(options.steps), "look for a fooling image"):
        loss = -(embed(logits.sigmoid()) @ text_TD.T).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        image = logits.sigmoid()
        cosine_T = (embed(image) @ text_TD.T)[0]
    return Fooling(
        image[0],
        {
            "texts": len(text_TD),
            "images": len(image_NCIJK),
            "cosine": float(cosine_T.mean()),
            "real_cosine": float(real_NT.mean()),
            "best_real_cosine": float(real_NT.amax(0).mean()),
            "beaten": float((cosine_T > real_NT.amax(0)).float().mean()),
        },
    )
