"""Where in a volume a model sees what some words say: a map of cosines."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional as F

from medssl.data.covering import axis_starts
from medssl.data.preprocessing import PreprocessingConfig, as_metatensor, compose, in_memory
from medssl.data.preprocessing import with_label as labelled_too
from medssl.evaluation.frozen.embed import box_of
from medssl.evaluation.paired.subject import Subject
from medssl.io.volume import Volume

Floats = NDArray[np.float32]
AT_ONCE: Final = 8
_EVERYWHERE: Final = 10**6
"""Patches along an axis, at most: as many as it takes."""


def prepared(
    subject: Subject, volume: Volume, label_IJK: NDArray[np.uint8] | None = None
) -> tuple[Floats, NDArray[np.uint8] | None, NDArray[np.float64]]:
    """Return a volume as the model sees it, its label map on the same grid, and the grid's affine.

    Axes run towards right, anterior and superior; values are in [0, 1].

    Args:
        subject: The model.
        volume: On its own grid.
        label_IJK: On the same grid.
    """
    scale = subject.intensity.ct if volume.intensity == "hu" else subject.intensity.mr
    specs = in_memory(PreprocessingConfig(spacing_mm=subject.spacing_mm, intensity=scale).specs())
    images: dict[str, Any] = {"image": as_metatensor(volume.array_IJK, volume.affine_ras)}
    if label_IJK is not None:
        specs = labelled_too(specs)
        images["label"] = as_metatensor(label_IJK, volume.affine_ras)
    done = compose(specs)(images)
    image_IJK = np.asarray(done["image"][0].numpy(), np.float32)
    found = done["label"][0].numpy().astype(np.uint8) if "label" in done else None
    return image_IJK, found, np.asarray(done["image"].affine, np.float64)


@torch.inference_mode()
def heat_map(
    subject: Subject,
    image_IJK: Floats,
    words_D: NDArray[np.float64],
    *,
    sigma_mm: float = 0.0,
) -> Floats:
    """Return the cosine of every voxel's place with words, ``(I, J, K)``.

    Patches as large as a training image cover the volume, and overlap evenly; a model of slices
    sees every axial plane. Each patch's map of cosines is interpolated linearly to its voxels, and
    patches are averaged where they overlap.

    Args:
        subject: The model.
        image_IJK: As :func:`prepared` returns it.
        words_D: Unit vector of the words.
        sigma_mm: Of the Gaussian that smooths the map, 0 for none.
    """
    size, shape = subject.views.size, image_IJK.shape
    starts = [axis_starts(n, s, _EVERYWHERE) for n, s in zip(shape, size, strict=True)]
    boxes = [(i, j, k) for i in starts[0] for j in starts[1] for k in starts[2]]
    total_IJK, count_IJK = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for first in range(0, len(boxes), AT_ONCE):
        some = boxes[first : first + AT_ONCE]
        patches = np.stack([box_of(image_IJK, start, size) for start in some])
        for start, heat in zip(some, _cosines(subject, patches, words_D), strict=True):
            inside, of_patch = _overlap(start, size, shape)
            total_IJK[inside] += heat[of_patch]
            count_IJK[inside] += 1
    heat_IJK: Floats = total_IJK / count_IJK
    if sigma_mm > 0:
        sigma = [sigma_mm / spacing for spacing in subject.spacing_mm]
        heat_IJK = gaussian_filter(heat_IJK, sigma, mode="nearest")
    return heat_IJK


def _cosines(subject: Subject, patches_BIJK: Floats, words_D: NDArray[np.float64]) -> Floats:
    """Return the cosine of every voxel of patches with words."""
    x_B1IJK = torch.from_numpy(patches_BIJK)[:, None].to(subject.device)
    if subject.views.flat:
        x_B1IJK = x_B1IJK[..., 0]
    seen = subject.model.image_features(x_B1IJK, places=True)
    places_BPD: Tensor = seen.places_BPD  # type: ignore[assignment]  # asked for
    words = torch.from_numpy(words_D).float().to(subject.device)
    cosine_BP = F.normalize(places_BPD.float(), dim=-1) @ F.normalize(words, dim=0)
    coarse = cosine_BP.view(len(cosine_BP), 1, *seen.shape[1:])
    mode = "bilinear" if subject.views.flat else "trilinear"
    fine = F.interpolate(coarse, x_B1IJK.shape[2:], mode=mode, align_corners=False)[:, 0]
    heat: Floats = fine.reshape(patches_BIJK.shape).cpu().numpy()
    return heat


def _overlap(
    start: Sequence[int], size: Sequence[int], shape: Sequence[int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return where a patch lies in a volume, and which part of it does."""
    ends = [min(first + n, length) for first, n, length in zip(start, size, shape, strict=True)]
    firsts = [max(first, 0) for first in start]
    inside = tuple(slice(a, b) for a, b in zip(firsts, ends, strict=True))
    return inside, tuple(
        slice(a - first, b - first) for a, b, first in zip(firsts, ends, start, strict=True)
    )
