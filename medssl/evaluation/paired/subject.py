"""A model of images and texts, and how studies are shown to it: as in its training, unchanged."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medssl.config.load import validate
from medssl.data.normalize import IntensityConfig
from medssl.data.store import CropStore
from medssl.data.study_views import StudyViews
from medssl.data.views import Sample
from medssl.errors import InputError
from medssl.models.image_text import ImageTextModel
from medssl.models.image_text_folder import INDEX, load_image_text
from medssl.reports.pairs import Pair
from medssl.runs.digest import digest_file, digest_json

Floats = NDArray[np.float64]
SpacingMM = tuple[float, float, float]


def first_affine(store: CropStore, pair: Pair) -> NDArray[np.float64]:
    """Return how the first volume of a study lies, ``affine_ras``."""
    return np.array(store.entry(pair.volume_keys[0]).affine_ras, np.float64)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is judged."""

    model: ImageTextModel
    """In evaluation mode, on ``device``."""
    views: StudyViews
    """One view of a study, nothing changed at random."""
    intensity: IntensityConfig
    spacing_mm: SpacingMM
    digest: str
    """Of all its files, and of how studies are shown to it."""
    device: torch.device

    @property
    def scale(self) -> float:
        """What the model multiplies cosines by."""
        return float(self.model.scale.detach())

    @property
    def bias(self) -> float | None:
        """What a model of the sigmoid loss then adds; None for others."""
        return None if self.model.bias is None else float(self.model.bias.detach())

    def read(self, store: CropStore, pair: Pair) -> Sample:
        """Return the images of a study as the model sees them.

        Raises:
            InputError: A stored volume is missing or damaged.
        """
        return self.views.read(store, pair, self.intensity)

    def embed_samples(self, samples: Sequence[Sample]) -> Tensor:
        """Return unit vectors of studies, ``(B, D)``."""
        batch = self.views.collate(samples)
        return self.model.embed_images(
            batch.views_BCIJK[0].to(self.device),
            batch.geometry["present_BVS"].flatten(0, 1).to(self.device),
            batch.geometry["position_mm_BVS"].flatten(0, 1).to(self.device),
        )

    def embed_words(self, texts: Sequence[str]) -> Floats:
        """Return unit vectors of texts, ``(N, D)``."""
        vectors_ND: Floats = self.model.embed_texts(texts).double().cpu().numpy()
        return vectors_ND

    def check_store(self, store: CropStore) -> None:
        """Raise InputError unless the store has the spacing that the model was trained at."""
        if not np.allclose(store.spacing_mm, self.spacing_mm, rtol=1e-3):
            raise InputError(
                f"the store has a spacing of {store.spacing_mm} mm, the model was trained at "
                f"{self.spacing_mm}",
                hint="prepare a store at that spacing",
            )


def load_subject(
    folder: Path,
    device: torch.device,
    *,
    images: int | None = None,
    trust_names: bool = False,
) -> Subject:
    """Return the model of a folder and how studies are shown to it.

    Args:
        folder: Of a finished pretraining with the method report_contrast.
        device: Where it is to run.
        images: Slices or series of a study that are shown; without, as many as in training.
        trust_names: Allow a third party's components; see ``medssl.config.stored``.

    Raises:
        InputError: It is no such folder, it is damaged, or it does not say how to feed the model.
    """
    model, about = load_image_text(folder, trust_names=trust_names)
    try:
        shown, intensity = about["method"]["views"], about["intensity"]
        i, j, k = (float(length) for length in about["spacing_mm"])
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"{folder}: the model does not say with which views, intensity and spacing_mm it was "
            "trained",
            hint="give the folder that `medssl pretrain` left",
        ) from None
    where = f"the model in {folder}"
    views = validate(StudyViews, {**shown, "views": 1}, where=where).unchanged()
    if images is not None:
        views = views.model_copy(update={"images": images})
    scale = validate(IntensityConfig, intensity, where=where)
    fed = [views.model_dump(mode="json"), scale.model_dump(mode="json"), [i, j, k]]
    return Subject(
        model=model.to(device).eval(),
        views=views,
        intensity=scale,
        spacing_mm=(i, j, k),
        digest=digest_json([digest_file(folder / INDEX), fed]),
        device=device,
    )
