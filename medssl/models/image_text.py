"""Images of a study and its report in one space (CLIP, Radford et al. 2021, arXiv:2103.00020).

Suffixes: B studies, S images of a study or sentences of its report, P places, L tokens, E features
of an encoder, D of the common space.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple, cast

import torch
from pydantic import Field, SerializeAsAny
from torch import Tensor, nn
from torch.nn import functional as F

from medssl.config.base import Config
from medssl.config.choice import choice
from medssl.data.report_text import ReportTextConfig
from medssl.models.chunked import in_chunks
from medssl.models.encoders.base import Encoder
from medssl.models.heads import PlainMLP
from medssl.models.slice_pooling.base import SlicePooling
from medssl.models.slice_pooling.mean import Mean
from medssl.models.text.base import TextEncoder
from medssl.models.text.minilm import MiniLM
from medssl.reports.sentences import split_sentences

Positive = Annotated[int, Field(gt=0)]
PoolingChoice = Annotated[
    SerializeAsAny[SlicePooling.Config], choice("medssl.models.slice_pooling")
]


class ImageTextConfig(Config):
    """What stands beside the image encoder, and how both meet."""

    text: Annotated[SerializeAsAny[TextEncoder.Config], choice("medssl.models.text")] = (
        MiniLM.Config()
    )
    """Which network reads the texts, by the name of its file in medssl/models/text."""
    reading: ReportTextConfig = ReportTextConfig()
    """How a text is divided before it is read."""
    image_pooling: PoolingChoice = Mean.Config()
    """From the images of a study, slices or series, to one vector, by the name of a file in
    medssl/models/slice_pooling."""
    sentence_pooling: PoolingChoice = Mean.Config()
    """The same for the sentences of a report."""
    dim: Positive = 512
    """Length of the vectors that are compared."""
    projection: Literal["linear", "mlp"] = "linear"
    """How encoders' features become such vectors: one layer, or two with ReLU between."""
    first_scale: Annotated[float, Field(gt=0)] = 1 / 0.07
    """What cosines are multiplied by in the beginning, one over the temperature; it is learned.
    10 for the sigmoid loss (Zhai et al. 2023, arXiv:2303.15343)."""
    most_scale: Annotated[float, Field(gt=0)] = 100.0
    """It never grows above this."""
    first_bias: float | None = None
    """What is added to scaled cosines in the beginning; it is learned. -10 for the sigmoid loss;
    null for none."""
    places_stride: Positive = 16
    """Places of an image are those of the finest map whose stride is at least this, or else those
    of the coarsest."""

    def build(self, encoder: Encoder, text: TextEncoder | None = None) -> "ImageTextModel":
        """Return the model around an image encoder; ``text`` is made where it is not given."""
        return ImageTextModel(self, encoder, text or cast(TextEncoder, self.text.build()))


class ImageFeatures(NamedTuple):
    """What an image encoder says of studies."""

    global_BE: Tensor
    """Of all images together, before the projection."""
    places_BPD: Tensor | None
    """Of each place of each image, projected, not of unit length; None if not asked for."""
    present_BP: Tensor
    """Whether there is such a place: false for all places of an image that is padding."""
    shape: tuple[int, ...]
    """What P unfolds to: images, then places along I, J and perhaps K."""


class TextFeatures(NamedTuple):
    """What a text encoder says of texts, before the projection."""

    sentences_BSE: Tensor
    """0 where there is no sentence."""
    present_BS: Tensor
    """Whether there is a sentence."""
    tokens_BSLE: Tensor
    """The states of tokens; 0 where there is no sentence."""


class ImageTextModel(nn.Module):
    """An image encoder and a text encoder, each with a pooling and a projection.

    The scale of cosines and their bias are learned.
    """

    def __init__(self, config: ImageTextConfig, encoder: Encoder, text: TextEncoder) -> None:
        super().__init__()
        self.config, self.encoder, self.text = config, encoder, text
        self.pooling: SlicePooling = config.image_pooling.build(width=encoder.embed_dim)
        self.sentence_pooling: SlicePooling = config.sentence_pooling.build(width=text.embed_dim)
        self.image_head = _head(config, encoder.embed_dim)
        self.text_head = _head(config, text.embed_dim)
        self.log_scale = nn.Parameter(torch.tensor(math.log(config.first_scale)))
        self.bias = (
            None if config.first_bias is None else nn.Parameter(torch.tensor(config.first_bias))
        )

    @property
    def scale(self) -> Tensor:
        """What cosines are multiplied by."""
        return self.log_scale.exp()

    @torch.no_grad()
    def limit_scale(self) -> None:
        """Bring the scale back below its limit; to be called after every step."""
        self.log_scale.clamp_(max=math.log(self.config.most_scale))

    def image_features(
        self,
        x_NCIJK: Tensor,
        mask_BS: Tensor | None = None,
        position_mm_BS: Tensor | None = None,
        *,
        places: bool = False,
        at_once: int | None = None,
    ) -> ImageFeatures:
        """Return the features of studies.

        A place has the embedding that the encoder makes of the voxels that its maps have there. So
        where an encoder embeds with means over space, as ours do, and the projection is linear,
        the mean over the places of an image is its own projection, and a map of cosines explains
        the score, as in BioViL (Boecking et al. 2022, arXiv:2204.09817).

        Args:
            x_NCIJK: Images, study by study: those that there are, or with padding all B x S.
                Without the K axis for a 2D encoder.
            mask_BS: Which images there are, one or more a study; without, one a study.
            position_mm_BS: Where they lie, for a pooling that asks; without, nowhere.
            places: Whether to return the places as well.
            at_once: Images that go through the encoder at a time, as in
                :func:`medssl.models.chunked.in_chunks`; without, all.

        Raises:
            ValueError: There are not as many images as the mask says.
        """
        if mask_BS is None:
            mask_BS = torch.ones(len(x_NCIJK), 1, dtype=torch.bool, device=x_NCIJK.device)
        if len(x_NCIJK) == mask_BS.numel():
            x_NCIJK = x_NCIJK[mask_BS.flatten()]
        if len(x_NCIJK) != int(mask_BS.sum()):
            raise ValueError(
                f"{len(x_NCIJK)} images, but the mask tells of {int(mask_BS.sum())} among "
                f"{mask_BS.numel()}"
            )
        e_NPE = in_chunks(
            lambda x: self._embeddings(x, places=places),
            x_NCIJK,
            chunk_rows=at_once or len(x_NCIJK),
        )
        global_BE = self.pooling(_spread(e_NPE[:, 0], mask_BS), mask_BS, position_mm_BS)
        places_BPD = None
        if places:
            places_BPD = _spread(self.image_head(e_NPE[:, 1:]), mask_BS).flatten(1, 2)
        stride = self.encoder.strides[self._places_level()]
        grid = tuple(math.ceil(length / stride) for length in x_NCIJK.shape[2:])
        present_BP = mask_BS.repeat_interleave(math.prod(grid), dim=1)
        return ImageFeatures(global_BE, places_BPD, present_BP, (mask_BS.shape[1], *grid))

    def _embeddings(self, x_NCIJK: Tensor, *, places: bool) -> Tensor:
        """Return the embedding of each image and, behind it, those of its places, ``(N, P, E)``."""
        maps = self.encoder.features(x_NCIJK)
        e_N1E = self.encoder.pool(maps)[:, None]
        if not places:
            return e_N1E
        grid = tuple(maps[self._places_level()].shape[2:])
        return torch.cat([e_N1E, self._place_embeddings(maps, grid)], dim=1)

    def project_images(self, global_BE: Tensor) -> Tensor:
        """Return unit vectors ``(B, D)`` of the features of studies."""
        return _unit(self.image_head(global_BE))

    def embed_images(
        self, x_NCIJK: Tensor, mask_BS: Tensor | None = None, position_mm_BS: Tensor | None = None
    ) -> Tensor:
        """Return unit vectors ``(B, D)`` of studies; see :meth:`image_features`."""
        return self.project_images(self.image_features(x_NCIJK, mask_BS, position_mm_BS).global_BE)

    def text_features(self, token_BSL: Tensor, mask_BSL: Tensor) -> TextFeatures:
        """Return the features of texts that are given sentence by sentence.

        Args:
            token_BSL: Numbers of tokens.
            mask_BSL: Whether there is a token; a sentence without any is none.
        """
        present_BS = mask_BSL.any(2)
        mask_NL = mask_BSL[present_BS]
        states_NLE = self.text.states(token_BSL[present_BS], mask_NL)
        return TextFeatures(
            _spread(self.text.pool(states_NLE, mask_NL), present_BS),
            present_BS,
            _spread(states_NLE, present_BS),
        )

    def project_texts(self, sentences_BSE: Tensor, present_BS: Tensor) -> Tensor:
        """Return unit vectors ``(B, D)`` of texts, each of one sentence or more."""
        return _unit(self.text_head(self.sentence_pooling(sentences_BSE, present_BS)))

    def embed_text_states(self, token_BSL: Tensor, mask_BSL: Tensor) -> Tensor:
        """Return unit vectors ``(B, D)`` of texts; see :meth:`text_features`."""
        features = self.text_features(token_BSL, mask_BSL)
        return self.project_texts(features.sentences_BSE, features.present_BS)

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str], batch_size: int = 32) -> Tensor:
        """Return unit vectors ``(N, D)`` as at test time, without gradient.

        Texts are divided as the model was trained with, and equal sentences are read once.

        Args:
            texts: At least one.
            batch_size: Sentences at a time.
        """
        training = self.training
        self.eval()
        reading = self.config.reading
        number: dict[str, int] = {}
        rows = [[number.setdefault(s, len(number)) for s in self._parts(t)] for t in texts]
        e_UE = self.text.embed(list(number), batch_size=batch_size, max_tokens=reading.max_tokens)
        most = max(len(row) for row in rows)
        index_NS = torch.tensor([row + [-1] * (most - len(row)) for row in rows]).to(e_UE.device)
        unit_ND = self.project_texts(e_UE[index_NS], index_NS >= 0)
        self.train(training)
        return unit_ND

    def _parts(self, text: str) -> list[str]:
        reading = self.config.reading
        parts = split_sentences(text) if reading.by_sentence else []
        return [part for part in parts if part.strip()][: reading.max_sentences] or [text]

    def _places_level(self) -> int:
        levels = range(len(self.encoder.strides))
        fine = (n for n in levels if self.encoder.strides[n] >= self.config.places_stride)
        return next(fine, len(levels) - 1)

    def _place_embeddings(self, maps: list[Tensor], grid: tuple[int, ...]) -> Tensor:
        """Return the embeddings ``(N, P, E)`` of the places of one grid."""
        e_QE = self.encoder.pool([_blocks(level, grid) for level in maps])
        return e_QE.view(len(maps[0]), -1, e_QE.shape[1])


def _head(config: ImageTextConfig, width: int) -> nn.Module:
    if config.projection == "mlp":
        return PlainMLP(width, width, config.dim)
    return nn.Linear(width, config.dim, bias=False)


def _blocks(level_NCIJK: Tensor, grid: tuple[int, ...]) -> Tensor:
    """Return the part of a map at each place of a grid, ``(N x P, C, ...)``.

    A map that the grid does not divide, such as a coarser one, is brought to the grid first.
    """
    sizes = tuple(level_NCIJK.shape[2:])
    if any(size % cells for size, cells in zip(sizes, grid, strict=True)):
        level_NCIJK, sizes = F.interpolate(level_NCIJK, grid, mode="area"), grid
    count, channels = level_NCIJK.shape[:2]
    inner = [size // cells for size, cells in zip(sizes, grid, strict=True)]
    halves = [length for pair in zip(grid, inner, strict=True) for length in pair]
    places, voxels = range(2, 2 + 2 * len(grid), 2), range(3, 3 + 2 * len(grid), 2)
    apart = level_NCIJK.reshape(count, channels, *halves).permute(0, *places, 1, *voxels)
    return apart.reshape(-1, channels, *inner)


def _spread(rows: Tensor, mask_BS: Tensor) -> Tensor:
    """Return rows ``(N, ...)`` at the true places of a mask, ``(B, S, ...)``, and 0 elsewhere."""
    spread = rows.new_zeros(*mask_BS.shape, *rows.shape[1:])
    spread[mask_BS] = rows
    return spread


def _unit(z_BD: Tensor) -> Tensor:
    return F.normalize(z_BD.float(), dim=-1)
