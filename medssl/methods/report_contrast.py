"""Images of a study and its report are alike, those of other studies are not: CLIP for archives.

Radford et al. 2021 (arXiv:2103.00020), with what reports need: several positives, since they
repeat; sentence by sentence, since they are long; no mirrored images, since they name the side.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from medssl.data.annotations import ORGANS
from medssl.data.report_text import ReportTextConfig
from medssl.data.study_views import StudyViews
from medssl.data.views import Batch, Texts
from medssl.losses.alignment_uniformity import contrastive_gap, gap_scores
from medssl.losses.concept_alignment import gather_concepts
from medssl.losses.gather import gather_rows
from medssl.losses.image_text import ImageTextLoss, pair_logits
from medssl.losses.local_alignment import Parts, gather_parts, symmetric_local, word_region
from medssl.losses.ntxent import ntxent, two_views
from medssl.losses.pair_targets import (
    FalseNegativePolicy,
    PairTargets,
    false_negative_rate,
    negatives,
    pair_targets,
)
from medssl.losses.report_labels import report_label_loss
from medssl.methods._concepts import ConceptConfig, ConceptMatching
from medssl.methods._experts import ExpertConfig, ExpertContrast, step_of
from medssl.methods._organs import OrganConfig, OrganContrast
from medssl.methods.base import LossOutput, ReportMethod
from medssl.models.encoders.base import Encoder
from medssl.models.image_text import ImageFeatures, ImageTextConfig, TextFeatures
from medssl.models.image_text_folder import save_image_text
from medssl.models.text.base import TextEncoder
from medssl.models.tokenizer import Tokenizer

Weight = Annotated[float, Field(ge=0)]


class ReportContrast(ReportMethod):
    """Tell the report of each study from those of all others, and its images likewise."""

    class Config(ReportMethod.Config):
        views: StudyViews = StudyViews()
        """Which images of a study are shown."""
        model: ImageTextConfig = ImageTextConfig()
        """How reports are read, and how both meet in one space."""
        loss: ImageTextLoss = ImageTextLoss()
        """Which contrast."""
        false_negatives: FalseNegativePolicy = FalseNegativePolicy()
        """What pairs of different studies are whose reports say the same."""
        local: Literal["none", "mama", "gloria"] = "none"
        """Contrast of places with sentences (`mama`, arXiv:2409.18119) or with words (`gloria`,
        Huang et al. 2021) beside that of whole studies with whole reports."""
        local_weight: Weight = 1.0
        """Of that."""
        concepts: ConceptConfig | None = None
        """Contrast of places with the sentences that say a finding is there (ConceptCLIP,
        arXiv:2501.15579) beside all that; null for none."""
        organs: OrganConfig | None = None
        """Contrast of organs with the sentences about them (fVLM, arXiv:2501.14548), where
        `pairs.organ_maps` has label maps; null for none."""
        experts: ExpertConfig | None = None
        """Contrast of images mixed with what an expert looked at (eCLIP, arXiv:2403.10153), where
        `pairs.heat_maps` says so; null for none."""
        image_weight: Weight = 0.0
        """Of the contrast of two views of each study with those of others (SLIP,
        arXiv:2112.12750); needs `views.views` 2."""
        image_temperature: Annotated[float, Field(gt=0)] = 0.1
        """Of that contrast."""
        gap_weight: Weight = 0.0
        """Of alignment and uniformity across images and texts, which close the gap between them
        (arXiv:2405.18570)."""
        findings_weight: Weight = 1.0
        """Of the cross-entropy of `findings`."""
        images_at_once: Annotated[int, Field(gt=0)] | None = None
        """Images that go through the encoder at a time; the others' activations are computed again
        on the way back, so that a batch of any size fits (GradCache, arXiv:2101.06983)."""

        @classmethod
        def tiny(cls) -> Self:
            views = StudyViews(crop_voxels=16, images=2)
            return cls(views=views, model=ImageTextConfig(dim=16))

        @property
        def reading(self) -> ReportTextConfig:
            return self.model.reading

        @property
        def organ_labels(self) -> tuple[tuple[int, ...], ...]:
            return tuple(o.labels for o in self.organs.organs.values()) if self.organs else ()

        @property
        def wants_heat(self) -> bool:
            return self.experts is not None

        def tokenizer(self) -> Tokenizer:
            with torch.random.fork_rng(devices=[]):
                text: TextEncoder = self.model.text.build()
            return text.tokenizer

        @model_validator(mode="after")
        def _parts_fit(self) -> Self:
            if self.image_weight and self.views.views < 2:  # noqa: PLR2004 - a pair
                raise ValueError("image_weight contrasts two views: set views.views to 2")
            if self.local == "gloria" and self.model.text.train == "frozen":
                raise ValueError(
                    "gloria reads words, and of a frozen text encoder only sentences are kept: "
                    "choose mama, or train a part of the text encoder"
                )
            if self.organs and self.model.dim % self.organs.heads:
                raise ValueError(
                    f"model.dim {self.model.dim} is no multiple of organs.heads {self.organs.heads}"
                )
            if self.organs and self.views.mirror_probability:
                raise ValueError("organ maps tell left from right: set mirror_probability to 0")
            if self.experts and any(
                n % self.experts.patch_voxels for n in self.views.size[: self.views.dims]
            ):
                raise ValueError(
                    f"views.crop_voxels is no multiple of experts.patch_voxels "
                    f"{self.experts.patch_voxels}"
                )
            return self

    config: Config
    state_UD: Tensor | None

    def __init__(self, config: Config, encoder: Encoder) -> None:
        super().__init__()
        self.config, self.encoder, self.views = config, encoder, config.views
        self.model = config.model.build(encoder)
        self.text = self.model.text
        self.findings_head = nn.Linear(encoder.embed_dim, max(len(config.findings), 1))
        self.findings_head.requires_grad_(bool(config.findings))
        self.concepts = ConceptMatching(config.concepts) if config.concepts else None
        self.organs = OrganContrast(config.organs, config.model.dim) if config.organs else None
        self.experts = ExpertContrast(config.experts, config.views.dims) if config.experts else None
        self.register_buffer("state_UD", None, persistent=False)

    def know_sentences(self, sentences: Sequence[str]) -> None:
        for part in (self.concepts, self.organs):
            if part is not None:
                part.know_sentences(sentences)

    def keep_text_states(self, state_UD: Tensor | None) -> None:
        self.state_UD = state_UD

    def before_step(self, *, progress: float) -> None:
        self.model.limit_scale()

    def save(self, folder: Path, **about: Any) -> None:
        save_image_text(folder, self.model, **about)

    def loss(self, batch: Batch, *, progress: float) -> LossOutput:
        texts = _texts(batch)
        seen = self._see(batch, texts)
        parts = self._parts(seen, texts) | self._of_annotations(batch, seen, texts, progress)
        image_BD, negative_BB = seen.image_BVD[:, 0], negatives(seen.targets)
        return LossOutput(
            total=sum(parts.values(), image_BD.new_zeros(())),
            parts=parts,
            scores={
                **retrieval_scores(image_BD, seen.text_BD, seen.targets),
                **gap_scores(image_BD, seen.text_BD, negative_BB),
                "false_negative_rate": false_negative_rate(seen.targets),
                "scale": self.model.scale.detach(),
            },
            z_ND=image_BD,
        )

    def constant_loss(self, batch: Batch) -> dict[str, float]:
        targets = self._targets(_texts(batch))
        return {self.config.loss.name: self.config.loss.collapsed(targets)}

    @property
    def _needs_places(self) -> bool:
        return self.config.local != "none" or bool(self.config.concepts or self.config.organs)

    def _image_features(self, batch: Batch) -> ImageFeatures:
        """Return the features of every view of every study, sample by sample."""
        present_BVS = batch.geometry["present_BVS"]
        position_mm_BVS = batch.geometry["position_mm_BVS"]
        return self.model.image_features(
            batch.views_BCIJK[0],
            present_BVS.flatten(0, 1),
            position_mm_BVS.flatten(0, 1),
            places=self._needs_places,
            at_once=self.config.images_at_once,
        )

    def _text_features(self, texts: Texts) -> TextFeatures:
        if self.state_UD is None:
            return self.model.text_features(texts.token_BSL, texts.token_mask_BSL)
        present_BS = texts.sentence_BS >= 0
        sentences_BSE = self.state_UD[texts.sentence_BS.clamp_min(0)] * present_BS[..., None]
        return TextFeatures(
            sentences_BSE, present_BS, sentences_BSE.new_zeros(*present_BS.shape, 0, 0)
        )

    def _see(self, batch: Batch, texts: Texts) -> "_Seen":
        images, reports = self._image_features(batch), self._text_features(texts)
        views = self.model.project_images(images.global_BE)
        report_BD = self.model.project_texts(reports.sentences_BSE, reports.present_BS)
        return _Seen(
            images=images,
            reports=reports,
            image_BVD=gather_rows(views.view(len(report_BD), -1, views.shape[1])),
            text_BD=gather_rows(report_BD),
            targets=self._targets(texts),
        )

    def _targets(self, texts: Texts) -> PairTargets:
        study_B, text_B, normal_B, label_BF = (
            gather_rows(x) for x in (texts.study_B, texts.text_B, texts.normal_B, texts.label_BF)
        )
        return pair_targets(self.config.false_negatives, study_B, text_B, normal_B == 1, label_BF)

    def _parts(self, seen: "_Seen", texts: Texts) -> dict[str, Tensor]:
        """Return the contrast of studies with reports, and what the configuration adds to it."""
        config = self.config
        parts: dict[str, Tensor] = {config.loss.name: self._contrast(seen)}
        needed = config.local != "none" or self.concepts is not None
        if needed and seen.images.places_BPD is not None:
            places = self._first_places(seen.images.places_BPD, seen.images.present_BP, texts)
            if config.local != "none":
                parts[config.local] = config.local_weight * self._local(places, seen, texts)
            if self.concepts is not None and config.concepts is not None:
                z_BSD = self.model.text_head(seen.reports.sentences_BSE)
                named = gather_concepts(self.concepts.concepts(texts.sentence_BS, z_BSD))
                found = self.concepts(places, named, seen.targets)
                parts["concepts"] = config.concepts.weight * found
        if config.image_weight:
            views = seen.image_BVD[:, :2].transpose(0, 1).flatten(0, 1)
            contrast = ntxent(views, config.image_temperature, sample_N=two_views(len(views)))
            parts["images"] = config.image_weight * contrast
        if config.gap_weight:
            terms = contrastive_gap(
                seen.image_BVD[:, 0], seen.text_BD, negatives(seen.targets)
            ).values()
            parts["gap_terms"] = config.gap_weight * torch.stack([*terms]).sum()
        if config.findings:
            logits = self.findings_head(seen.images.global_BE)
            logits_BF = logits.view(len(texts.study_B), -1, len(config.findings)).mean(1)
            label_BF = gather_rows(texts.label_BF[:, : len(config.findings)])
            asked = report_label_loss(gather_rows(logits_BF), label_BF)
            parts["findings"] = config.findings_weight * asked
        return parts

    def _of_annotations(
        self, batch: Batch, seen: "_Seen", texts: Texts, progress: float
    ) -> dict[str, Tensor]:
        """Return what label maps and heat maps add."""
        parts, present_BVS = dict[str, Tensor](), batch.geometry["present_BVS"]
        if self.organs is not None:
            organ_NIJK = batch.geometry.get(ORGANS)
            alike = self.organs(
                organ_NIJK, present_BVS, seen.images, seen.reports, texts, self.model
            )
            parts["organs"] = self.organs.config.weight * alike
        if self.experts is not None and self.training:
            parts["experts"] = self._experts(self.experts, batch, seen, progress)
        return parts

    def _experts(
        self, experts: ExpertContrast, batch: Batch, seen: "_Seen", progress: float
    ) -> Tensor:
        nothing = seen.text_BD.new_zeros(())
        step = step_of(progress, nothing.device)
        if step == "reconstruction":
            return experts.reconstruction(batch)
        if step == "nothing":
            return nothing
        mixed_BD = experts.mixtures(batch, seen.image_BVD[:, 0], self._embed)
        if mixed_BD is None:
            return nothing
        return experts.config.weight * self._contrast_of(mixed_BD, seen)

    def _embed(self, x_NCIJK: Tensor, present_BS: Tensor, position_mm_BS: Tensor) -> Tensor:
        """Return unit vectors of studies, a few images at a time as ever."""
        features = self.model.image_features(
            x_NCIJK, present_BS, position_mm_BS, at_once=self.config.images_at_once
        )
        return self.model.project_images(features.global_BE)

    def _contrast(self, seen: "_Seen") -> Tensor:
        """Return the contrast of each view with the reports, averaged over views."""
        views = [self._contrast_of(image_BD, seen) for image_BD in seen.image_BVD.unbind(1)]
        return torch.stack(views).mean()

    def _contrast_of(self, image_BD: Tensor, seen: "_Seen") -> Tensor:
        scale, bias = self.model.scale, self.model.bias
        return self.config.loss.of(image_BD, seen.text_BD, seen.targets, scale, bias)

    def _first_places(self, places_BPD: Tensor, present_BP: Tensor, texts: Texts) -> Parts:
        """Return the places of the first view of every study, of all processes."""
        views = len(present_BP) // len(texts.study_B)
        return gather_parts(Parts(places_BPD[::views], present_BP[::views]))

    def _local(self, places: Parts, seen: "_Seen", texts: Texts) -> Tensor:
        """Return the contrast of places with sentences, or with words."""
        reports, targets = seen.reports, seen.targets
        if self.config.local == "gloria":
            z_BND = self.model.text_head(reports.tokens_BSLE).flatten(1, 2)
            words = gather_parts(Parts(z_BND, texts.token_mask_BSL.flatten(1, 2)))
            return word_region(places, words, targets)
        z_BSD = self.model.text_head(reports.sentences_BSE)
        sentences = gather_parts(Parts(z_BSD, reports.present_BS))
        return symmetric_local(places, sentences, targets, self.model.scale, self.config.loss)


class _Seen(NamedTuple):
    """What a batch becomes: features of this process, and what is compared, of all processes."""

    images: ImageFeatures
    reports: TextFeatures
    image_BVD: Tensor
    text_BD: Tensor
    targets: PairTargets


@torch.no_grad()
def retrieval_scores(image_BD: Tensor, text_BD: Tensor, targets: PairTargets) -> dict[str, Tensor]:
    """Return how often, in a batch, what is nearest belongs to it, and the cosines of pairs."""
    cosine_BB = pair_logits(image_BD, text_BD, 1.0)
    positive_BB, rows = targets.weight_BB > 0, torch.arange(len(cosine_BB), device=text_BD.device)
    negative_BB = negatives(targets)
    found = {
        "image_to_text": positive_BB[rows, cosine_BB.argmax(1)].float().mean(),
        "text_to_image": positive_BB[cosine_BB.argmax(0), rows].float().mean(),
        "positive_cosine": cosine_BB[positive_BB].mean(),
    }
    if negative_BB.any():
        found["negative_cosine"] = cosine_BB[negative_BB].mean()
    return found


def _texts(batch: Batch) -> Texts:
    if batch.texts is None:
        raise ValueError("report_contrast needs the reports beside the images")
    return batch.texts
