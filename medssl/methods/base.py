"""What a self-supervised method is: a module that turns views into a loss."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from torch import Tensor, nn

from medssl.config.choice import Configurable
from medssl.data.report_text import ReportTextConfig
from medssl.data.views import Batch, LabelledPatches, ViewSpec
from medssl.models.decoders import Decoder
from medssl.models.encoders.base import Encoder
from medssl.models.text.base import TextEncoder
from medssl.models.tokenizer import Tokenizer
from medssl.models.weights import save_encoder


@dataclass(frozen=True, kw_only=True)
class LossOutput:
    """The number to minimise, its parts for the log, and embeddings to watch for collapse."""

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)
    """Scalars that add up to, or explain, the total."""
    scores: dict[str, Tensor] = field(default_factory=dict)
    """Scalars a person wants to follow: an accuracy; ``positive_cosine`` and ``negative_cosine``,
    the mean cosine of pairs that should be alike and of those that should not."""
    z_ND: Tensor | None = None
    """Projections whose spread is watched: a collapsed encoder maps everything to one point."""


class Method(Configurable, nn.Module):
    """No Lightning, no optimiser, no logging: those belong to ``medssl.training``."""

    class Config(Configurable.Config):
        """The options of one method."""

        @classmethod
        def tiny(cls) -> Self:
            """Return options for the smallest crops and heads that are of use, for a first try."""
            return cls()

        @property
        def labelled_patches(self) -> LabelledPatches | None:
            """Labelled patches that every batch must hold; None for a method without labels."""
            return None

        @property
        def to_hold_less(self) -> tuple[str, ...]:
            """Settings, as ``key=value``, that would take less memory and are not chosen yet."""
            return ()

    views: ViewSpec[Any]
    encoder: Encoder
    decoder: Decoder | None
    """A decoder that the method trains and that is worth keeping beside the encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = None  # not on the class: that would hide a module of this name

    def loss(self, batch: Batch, *, progress: float) -> LossOutput:
        """Return the loss of one batch; ``progress`` runs from 0 to 1 over training."""
        raise NotImplementedError

    def before_step(self, *, progress: float) -> None:
        """Update what gradients do not train, such as a teacher; once per optimiser step."""

    @property
    def kept_encoder(self) -> Encoder:
        """The encoder that a training leaves: the one that trains, or a slow copy of it."""
        return self.encoder

    def save(self, folder: Path, **about: Any) -> None:
        """Write what a training leaves, for those who only have this folder.

        Args:
            folder: Where; made if it is missing.
            about: JSON values a later user needs, such as the spacing and intensities it was
                trained with.
        """
        save_encoder(folder, self.kept_encoder, decoder=self.decoder, **about)

    def constant_loss(self, batch: Batch) -> dict[str, float]:
        """Return the loss parts that an encoder blind to its input could reach on ``batch``.

        Training has learned something only below them. Empty where a method knows no such bound.
        """
        return {}


class ReportMethod(Method):
    """A method whose batches bring reports beside the images of studies."""

    class Config(Method.Config):
        """The options of one such method."""

        findings: tuple[str, ...] = ()
        """Findings of the pairs' labels that the images are asked for as well; their labels come
        first in ``Texts.label_BF``."""

        @property
        def organ_labels(self) -> tuple[tuple[int, ...], ...]:
            """Labels of each organ that the method asks label maps for; none without organs."""
            return ()

        @property
        def wants_heat(self) -> bool:
            """Whether the method asks where experts looked."""
            return False

        @property
        def reading(self) -> ReportTextConfig:
            """What is read of a report."""
            raise NotImplementedError

        def tokenizer(self) -> Tokenizer:
            """Return what cuts reports into tokens."""
            raise NotImplementedError

    config: Config
    text: TextEncoder

    def know_sentences(self, sentences: Sequence[str]) -> None:
        """Take note of the set's sentences, by the numbers of ``Texts.sentence_BS``.

        For a method that asks what single sentences say; others have no use for them.
        """

    def keep_text_states(self, state_UD: Tensor | None) -> None:
        """Use these vectors of the set's sentences instead of reading their tokens.

        For a text encoder that does not train: each sentence is then read once, not every epoch.

        Args:
            state_UD: One per sentence number of ``Texts.sentence_BS``; None to read tokens again.
        """
        raise NotImplementedError
