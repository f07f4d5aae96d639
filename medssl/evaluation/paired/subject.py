"""A model of images and texts, and how studies are shown to it: as in its training, unchanged."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

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
    drawn: StudyViews
    """One view of a study, changed at random as in training."""
    looks: int
    """Views of a study whose vectors are averaged: the first is not changed, others are drawn."""
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

    def look(self, store: CropStore, pair: Pair) -> list[Sample]:
        """Return as many views of a study as are averaged, the same ones whenever it is asked.

        Raises:
            InputError: A stored volume is missing or damaged.
        """
        rng = np.random.default_rng(int(digest_json([pair.study_key, pair.volume_keys]), 16))
        drawn = (self.drawn.read(store, pair, self.intensity, rng) for _ in range(1, self.looks))
        return [self.read(store, pair), *drawn]

    def embed_looks(self, looks: Sequence[Sequence[Sample]]) -> Tensor:
        """Return unit vectors of studies, ``(B, D)``, each the mean of those of its views."""
        vectors = self.embed_samples([sample for of_study in looks for sample in of_study])
        if self.looks == 1:
            return vectors
        return F.normalize(vectors.view(len(looks), self.looks, -1).mean(1), dim=-1)

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
    looks: int = 1,
    trust_names: bool = False,
) -> Subject:
    """Return the model of a folder and how studies are shown to it.

    Args:
        folder: Of a finished pretraining with the method report_contrast.
        device: Where it is to run.
        images: Slices or series of a study that are shown; without, as many as in training.
        looks: Views of a study whose vectors are averaged.
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
    drawn = validate(StudyViews, {**shown, "views": 1}, where=where)
    if images is not None:
        drawn = drawn.model_copy(update={"images": images})
    views = drawn.unchanged()
    scale = validate(IntensityConfig, intensity, where=where)
    fed: list[object] = [views.model_dump(mode="json"), scale.model_dump(mode="json"), [i, j, k]]
    if looks > 1:
        fed += [drawn.model_dump(mode="json"), looks]
    return Subject(
        model=model.to(device).eval(),
        views=views,
        drawn=drawn,
        looks=looks,
        intensity=scale,
        spacing_mm=(i, j, k),
        digest=digest_json([digest_file(folder / INDEX), fed]),
        device=device,
    )
