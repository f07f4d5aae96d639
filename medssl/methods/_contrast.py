"""The parts that contrastive methods are put together from: of whole images, and of places."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from medssl.config.base import Config as Options
from medssl.losses import global_local as losses
from medssl.losses import lattice, matched, ntxent
from medssl.losses.alignment_uniformity import dense_scores
from medssl.losses.gather import gather_rows
from medssl.losses.global_local import Origin
from medssl.methods.base import LossOutput
from medssl.models.dense_maps import DenseMap
from medssl.models.encoders.base import Encoder
from medssl.models.heads import BatchNormMLP, PlainMLP, PointwiseHead
from medssl.runs.processes import world_size

Positive = Annotated[float, Field(gt=0)]
Width = Annotated[int, Field(gt=0)]
Layout = Literal["even", "published"]


class GlobalContrast(Options):
    """What is compared of whole images, and how."""

    strategy: losses.Strategy = "gd-"
    """Alike are: `gr`, views of one image, and different all others; `gd-`, the same, and
    different images of other partitions; `gd`, also the same view of the same partition of other
    volumes; `gd_cross`, all views of the same partition."""
    layout: Layout = "even"
    """`even`: every pair of the strategy once, the mean over them. `published`: the pairs of
    neighbouring volumes and the normalisation of the published code."""
    pooling: Literal["mean", "flatten"] = "mean"
    """What is projected: the means of all maps, or, as published, all of the coarsest one."""
    head: Literal["batch_norm", "plain"] = "batch_norm"
    """`plain` has two layers without biases, as published. Means of maps are much alike before
    training, and a plain head leaves them so for long; `batch_norm`, of three layers, does not."""
    temperature: Positive = 0.1
    """Divides the cosines."""
    hidden_dim: Width = 1024
    """Width of the head's hidden layers."""
    projection_dim: Width = 128
    """Length of the vectors that are compared."""
    weight: Positive = 1.0
    """Of this part in the loss."""


class DenseContrast(Options):
    """What is compared of places inside images, and how."""

    maps: Literal["decoder", "encoder"] = "decoder"
    """Whose maps; those of the decoder train it too, and it is kept beside the encoder."""
    levels: Width | None = None
    """How many levels up from the coarsest the map is; null: the finest. The published decoder
    stage uses 3."""
    places: Annotated[int, Field(ge=2)] = 256
    """Places drawn in what two crops share."""
    negatives: matched.Negatives = "image"
    """A place differs from all others in the same two crops, or in all crops of the batch."""
    apart_voxels: Annotated[float, Field(ge=0)] = 0.0
    """Places of one image closer than this are not compared; voxels of the store, fewer than the
    side of a crop."""
    temperature: Positive = 0.1
    """Divides the cosines."""
    hidden_dim: Width | None = None
    """Width of the head's hidden layer; null: as many as the map has channels."""
    projection_dim: Width = 128
    """Length of the vectors that are compared."""
    weight: Positive = 1.0
    """Of this part in the loss."""

    def check_room(self, box_voxels: tuple[int, int, int]) -> None:
        """Raise ``ValueError`` where no two places of a crop can be far enough from each other."""
        if self.negatives == "image" and self.apart_voxels >= max(box_voxels):
            raise ValueError(
                f"local_contrast.apart_voxels is {self.apart_voxels:g}, and places lie within "
                f"{box_voxels} voxels: none would be compared with another"
            )


class LocalContrast(DenseContrast):
    """What is compared of places inside images, and how."""

    strategy: Literal["matched", "lr", "ld"] = "matched"
    """`matched`: places drawn where crops overlap, as `places`, `negatives` and `apart_voxels` say.
    On a lattice of fixed places, for views that show the same box: `lr`, views of one image are
    alike; `ld`, also the same view of the same partition of other volumes."""
    region_size: Literal[1, 3] = 3
    """On the lattice: side of a region in voxels of the map. Regions of one voxel are compared as
    they are; `projection_dim` is of no meaning for them."""
    neighbours: Width = 5
    """On the lattice: the nearest regions, which differ; published are 5 for `lr`, 4 for `ld`."""
    layout: Layout = "even"
    """On the lattice: the mean over pairs, or the sum over maps and regions as published."""


class GlobalPart(nn.Module):
    """Head and objective for whole images."""

    def __init__(
        self, config: GlobalContrast, encoder: Encoder, crop_size: tuple[int, int, int]
    ) -> None:
        super().__init__()
        self.config = config
        in_dim = encoder.embed_dim
        if config.pooling == "flatten":
            in_dim = encoder.channels[-1]
            for size in crop_size[: encoder.dims]:
                in_dim *= size // encoder.strides[-1]
        kind = PlainMLP if config.head == "plain" else BatchNormMLP
        self.head = kind(in_dim, config.hidden_dim, config.projection_dim)

    def embed(self, encoder: Encoder, features: list[Tensor]) -> Tensor:
        """Return what is projected of the encoder's maps."""
        return (
            features[-1].flatten(1) if self.config.pooling == "flatten" else encoder.pool(features)
        )

    def forward(self, embedding_ND: Tensor, rows: Origin) -> LossOutput:
        """Return the loss of images; ``rows`` are those of all processes."""
        z_ND = gather_rows(self.head(embedding_ND))
        config, pairs = self.config, losses.strategy_pairs(self.config.strategy, rows)
        if config.layout == "published":
            loss = losses.published_contrast(
                z_ND, config.strategy, rows.volumes, config.temperature
            )
        else:
            loss = ntxent.masked_info_nce(z_ND, *pairs, config.temperature)
        part = config.weight * loss
        scores = ntxent.pair_scores(z_ND, pairs)
        return LossOutput(total=part, parts={"global": part}, scores=scores, z_ND=z_ND)

    def constant_loss(self, rows: Origin) -> float:
        """Return the part when all images are embedded alike."""
        config = self.config
        if config.layout == "published":
            partitions = len(rows.volume_N) // rows.volumes // losses.VIEWS[config.strategy]
            bound = losses.published_collapsed(config.strategy, rows.volumes, partitions)
        else:
            bound = ntxent.collapsed(losses.strategy_pairs(config.strategy, rows))
        return config.weight * bound


class MatchedPart(nn.Module):
    """Map, head and objective for places that two crops share."""

    def __init__(self, config: DenseContrast, encoder: Encoder) -> None:
        super().__init__()
        self.config = config
        self.map = DenseMap(encoder, config.maps, config.levels)
        hidden = config.hidden_dim or self.map.channels
        self.head = PointwiseHead(self.map.channels, hidden, config.projection_dim)

    def forward(
        self,
        features: list[Tensor],
        affine_B34: Tensor,
        pairs: tuple[Tensor, Tensor],
        crop_size: tuple[int, int, int],
    ) -> LossOutput:
        """Return the loss of crops.

        Args:
            features: The encoder's maps of them.
            affine_B34: From their voxels to voxels of their region.
            pairs: Which rows are compared: the first and the second of each pair.
            crop_size: Their voxels along I, J, K.
        """
        config, map_BCIJK = self.config, self.map(features)
        first_P, second_P = pairs
        places = matched.shared_places(
            affine_B34[first_P], affine_B34[second_P], crop_size, config.places
        )
        a_PNC = matched.features_at(map_BCIJK[first_P], places.first_PN3, crop_size)
        b_PNC = matched.features_at(map_BCIJK[second_P], places.second_PN3, crop_size)
        a_PND, b_PND = self.head(torch.stack([a_PNC, b_PNC]))
        a_PND, b_PND = gather_rows(a_PND), gather_rows(b_PND)
        places = matched.Places(*(gather_rows(part) for part in places))
        loss = matched.matched_contrast(
            a_PND, b_PND, places, config.temperature,
            negatives=config.negatives, apart=config.apart_voxels,
        )  # fmt: skip
        part = config.weight * loss
        return LossOutput(
            total=part,
            parts={"local": part},
            scores={**matched.scores(a_PND, b_PND), **dense_scores(a_PND, b_PND)},
            z_ND=a_PND.flatten(0, 1),
        )

    def constant_loss(
        self,
        affine_B34: Tensor,
        pairs: tuple[Tensor, Tensor],
        crop_size: tuple[int, int, int],
    ) -> dict[str, float]:
        """Return the part when all places look alike, by its name; arguments as above.

        It is not known when places close to each other are not compared.
        """
        config = self.config
        if config.apart_voxels:
            return {}
        places = matched.shared_places(affine_B34[pairs[0]], affine_B34[pairs[1]], crop_size, 1)
        shared = int(places.shared_P.sum()) * world_size()
        bound = matched.collapsed(shared, config.places, config.negatives)
        return {"local": config.weight * bound}


class LatticePart(nn.Module):
    """Map, head and objective for fixed places of views that show the same box."""

    def __init__(self, config: LocalContrast, encoder: Encoder) -> None:
        super().__init__()
        self.config = config
        self.map = DenseMap(encoder, config.maps, config.levels)
        width, voxels = self.map.channels, config.region_size**encoder.dims
        self.head = PointwiseHead(width, config.hidden_dim or width, width)
        self.dense: nn.Module = nn.Identity()
        if config.region_size > 1:
            self.dense = nn.Linear(voxels * width, config.projection_dim, bias=False)

    def forward(self, features: list[Tensor], rows: Origin) -> LossOutput:
        """Return the loss of views from the encoder's maps."""
        config, map_BCIJK = self.config, self.map(features)
        corners_RA = lattice.lattice_corners(map_BCIJK.shape[2:], config.region_size)
        voxels_MRVC = self.head(lattice.region_voxels(map_BCIJK, corners_RA, config.region_size))
        z_MRD = gather_rows(self.dense(voxels_MRVC.flatten(2)))
        near_RR = lattice.neighbours(corners_RA, config.neighbours).to(z_MRD.device)
        loss = lattice.lattice_contrast(
            z_MRD, self._alike(rows), near_RR, config.temperature,
            per_map=config.layout == "published",
        )  # fmt: skip
        part = config.weight * loss
        return LossOutput(total=part, parts={"local": part}, z_ND=z_MRD.flatten(0, 1))

    def constant_loss(self, rows: Origin) -> float:
        """Return the part when all regions look alike."""
        config, alike_MM = self.config, self._alike(rows)
        per_map = config.layout == "published"
        return config.weight * lattice.collapsed(alike_MM, config.neighbours, per_map=per_map)

    def _alike(self, rows: Origin) -> Tensor:
        return lattice.map_pairs(rows, across_volumes=self.config.strategy == "ld")


def added(outputs: list[LossOutput]) -> LossOutput:
    """Return the sum of parts of a loss; where two have a score of one name, the first one's."""
    parts = {name: value for output in outputs for name, value in output.parts.items()}
    scores = {name: value for output in outputs[::-1] for name, value in output.scores.items()}
    return LossOutput(
        total=torch.stack([output.total for output in outputs]).sum(),
        parts=parts,
        scores=scores,
        z_ND=outputs[0].z_ND,
    )
