"""How an encoder describes the same place twice: two crops of a volume, changed at random."""

from typing import Any

import numpy as np
import torch

from medssl.data.crop_views import CropViews
from medssl.data.dataset import draw_region_starts
from medssl.data.views import Region
from medssl.evaluation.frozen.embed import Floats, Size3, as_input, box_of, view_size
from medssl.losses.alignment_uniformity import dense_scores
from medssl.losses.matched import features_at, shared_places
from medssl.models.encoders.base import Encoder

PLACES = 64
_CANDIDATES = 4


def crop_views(encoder: Encoder, size: Size3, spread: float) -> CropViews:
    """Return the views: two crops of the size the encoder is fed, each changed on its own."""
    return CropViews(dims=2 if view_size(encoder, size)[2] == 1 else 3, crop_voxels=size,
                     spread=spread)  # fmt: skip


@torch.inference_mode()
def describe_views(
    encoder: Encoder,
    volume_IJK: Floats,
    views: CropViews,
    rng: np.random.Generator,
    device: torch.device,
) -> dict[str, Any]:
    """Return what two augmented crops of one volume are to an encoder.

    ``view_0`` and ``view_1`` are their embeddings. At places that both show, found through crops,
    turns and flips, ``dense_alignment_<level>`` is the mean squared distance of the features as
    unit vectors, ``dense_uniformity_<level>`` their uniformity within the volume (Wang and Isola
    2020, equations 2 and 3); level 0 is the finest map. NaN where the crops do not overlap.

    Args:
        encoder: In evaluation mode, on ``device``.
        volume_IJK: Resampled and scaled.
        views: See :func:`crop_views`.
        rng: The volume's own generator, so that all encoders see the same crops.
        device: Where the encoder is.
    """
    start, region_IJK = _region(volume_IJK, views.region_voxels, rng)
    region = Region(region_IJK, start, _shape(volume_IJK))
    batch = views.collate([views.cut(region, views.draw(rng))])
    size = views.crop_size
    crops = batch.views_BCIJK[0][:, 0].numpy()
    boxes = crops[..., None] if views.flat else crops
    features = encoder.features(as_input(boxes, encoder, device))
    embeddings_BD = encoder.pool(features).float().cpu().tolist()
    first_134, second_134 = batch.geometry["region_from_view_0_BN34"][0][:, None]
    places = shared_places(first_134, second_134, size, PLACES)
    found: dict[str, Any] = {"view_0": embeddings_BD[0], "view_1": embeddings_BD[1]}
    for number, level in enumerate(features):
        first, second = level.float().cpu()[:, None]
        scores = dense_scores(
            features_at(first, places.first_PN3, size), features_at(second, places.second_PN3, size)
        )
        shared = bool(places.shared_P[0])
        for name, value in scores.items():
            found[f"{name}_{number}"] = float(value) if shared else float("nan")
    return found


def _region(
    volume_IJK: Floats, size: Size3, rng: np.random.Generator
) -> tuple[tuple[int, int, int], Floats]:
    """Return, of a few regions, the one with the most voxels brighter than the volume's mean."""
    starts_N3 = draw_region_starts(rng, _CANDIDATES, volume_IJK.shape, size)
    boxes = [box_of(volume_IJK, start, size) for start in starts_N3.tolist()]
    mean = volume_IJK.mean()
    best = int(np.argmax([np.count_nonzero(box > mean) for box in boxes]))
    i, j, k = starts_N3[best].tolist()
    return (i, j, k), boxes[best]


def _shape(volume_IJK: Floats) -> Size3:
    i, j, k = volume_IJK.shape
    return i, j, k
