"""Global contrast that knows where in its volume an image lies (Chaitanya et al. 2020).

"Contrastive learning of global and local features for medical image segmentation with limited
annotations" (NeurIPS 2020, arXiv:2006.10511). Volumes are cut into S partitions; images of the
same partition of different volumes show similar anatomy. What the strategies compare:

=========  ==============================================  =============================
strategy   alike                                           different
=========  ==============================================  =============================
gr         views of one image                              all others
gd-        views of one image                              all of other partitions
gd         those, and the same view of the same partition  all of other partitions
           of other volumes
gd_cross   all views of the same partition                 all of other partitions
=========  ==============================================  =============================

Rows are ordered by volume, then partition, then view. The local contrast is in ``lattice`` and
``matched``.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from medssl.losses.ntxent import (
    Pairs,
    collapsed,
    cosine_logits,
    log_negatives,
    pair_terms,
)

Strategy = Literal["gr", "gd-", "gd", "gd_cross"]

# Pairs of blocks of S images, by their distance to a block of originals, and how many volumes
# make a group of blocks [original, views ... | original, views ...], in
# the order of the batches that the paper's experiments used.
_BLOCK_PAIRS: dict[Strategy, tuple[tuple[int, int], ...]] = {
    "gr": ((0, 1),),
    "gd-": ((0, 1), (0, 2), (1, 2)),
    "gd": ((0, 1), (0, 2), (2, 3), (1, 3)),
    "gd_cross": ((0, 1), (0, 2), (3, 4), (3, 5), (0, 3), (1, 4), (2, 5)),
}
_VOLUMES_PER_GROUP: dict[Strategy, int] = {"gr": 1, "gd-": 1, "gd": 2, "gd_cross": 2}
VIEWS: dict[Strategy, int] = {"gr": 2, "gd-": 3, "gd": 2, "gd_cross": 3}
"""Views of an image that each strategy was published with, the original among them."""


class Origin(NamedTuple):
    """Where the image of each row comes from."""

    volumes: int
    volume_N: Tensor
    partition_N: Tensor
    image_N: Tensor
    """Views of one image have the same number."""
    view_N: Tensor
    """The how-many-eth view of its image it is."""


def origin(partition_VR: Tensor, views: int) -> Origin:
    """Return the origin of rows ordered by volume, then image, then view.

    Args:
        partition_VR: The partition of every row of each volume.
        views: Views of each image.
    """
    rows = torch.arange(partition_VR.numel(), device=partition_VR.device)
    return Origin(
        len(partition_VR),
        rows // partition_VR.shape[1],
        partition_VR.flatten(),
        rows // views,
        rows % views,
    )


def strategy_pairs(strategy: Strategy, rows: Origin) -> Pairs:
    """Return the pairs of a strategy, each of them once."""
    same_image, same_partition, same_view, same_volume = (
        x[:, None] == x for x in (rows.image_N, rows.partition_N, rows.view_N, rows.volume_N)
    )
    itself = torch.eye(len(rows.volume_N), dtype=torch.bool, device=same_image.device)
    if strategy == "gr":
        return Pairs(same_image & ~itself, ~same_image)
    positive = {
        "gd-": same_image,
        "gd": same_image | (same_partition & same_view & ~same_volume),
        "gd_cross": same_partition,
    }[strategy]
    return Pairs(positive & ~itself, ~same_partition)


def published_pairs(strategy: Strategy, volumes: int, partitions: int) -> tuple[Tensor, Pairs]:
    """Return the rows and pairs of a batch as the published code lays it out.

    Blocks of S images, one per partition, follow each other: for `gd-` the original and two views
    of each volume; for `gd` the original and one view of a volume and of the next one, so that
    every volume comes twice; for `gd_cross` the same with two views. The pairs of blocks of a
    group start at every original and may end in the next group, where the last is followed by the
    first; between originals and their views in the second half of a group and the first half of
    the next they count twice. For `gr` it is NT-Xent.

    Args:
        strategy: Which.
        volumes: How many; at least two for the strategies over pairs of volumes.
        partitions: S.

    Returns:
        Which rows, of those ordered by volume, partition and view, make the batch; and its pairs,
        counted.

    Raises:
        ValueError: One volume, and a strategy that needs another.
    """
    views, sets = VIEWS[strategy], _VOLUMES_PER_GROUP[strategy]
    if volumes < sets:
        raise ValueError(
            f"strategy {strategy} pairs volumes, and the batch has {volumes}: raise "
            "loader.volumes_per_batch to 2 or more"
        )
    first = (torch.arange(volumes)[:, None] + torch.arange(sets)) % volumes
    block_volume = first.flatten().repeat_interleave(views)
    block_view = torch.arange(views).repeat(volumes * sets)
    row_XS = (block_volume[:, None] * partitions + torch.arange(partitions)) * views
    index_M = (row_XS + block_view[:, None]).flatten()
    blocks = len(block_volume)
    count_XX = torch.zeros(blocks, blocks)
    for start in range(0, blocks, views):
        for a, b in _BLOCK_PAIRS[strategy]:
            x, y = (start + a) % blocks, (start + b) % blocks
            count_XX[x, y] += 1
            count_XX[y, x] += 1
    same_partition = torch.eye(partitions)
    positive_MM = torch.kron(count_XX, same_partition)
    if strategy == "gr":
        return index_M, Pairs(positive_MM, (positive_MM == 0) & ~torch.eye(len(index_M)).bool())
    return index_M, Pairs(
        positive_MM, torch.kron(torch.ones(blocks, blocks), 1 - same_partition) > 0
    )


def published_contrast(
    z_ND: Tensor, strategy: Strategy, volumes: int, temperature: float
) -> Tensor:
    """Return the loss of a strategy with the pairs and the normalisation it was published with.

    The sum of all pair terms in both directions over the rows of the batch that
    :func:`published_pairs` lays out: 3 N for `gd-`, 4 N for `gd`, 6 N for `gd_cross`, with N
    images.

    Args:
        z_ND: Projections ordered by volume, partition and view.
        strategy: Which.
        volumes: How many the rows come from.
        temperature: Divides the cosines.
    """
    partitions = len(z_ND) // volumes // VIEWS[strategy]
    index_M, pairs = published_pairs(strategy, volumes, partitions)
    z_MD = z_ND[index_M.to(z_ND.device)]
    positive_MM, negative_MM = (mask.to(z_ND.device) for mask in pairs)
    logits_MM = cosine_logits(z_MD, z_MD, temperature)
    terms_MM = pair_terms(logits_MM, log_negatives(logits_MM, negative_MM))
    return (terms_MM * positive_MM.to(terms_MM.dtype)).sum() / len(index_M)


def published_collapsed(strategy: Strategy, volumes: int, partitions: int) -> float:
    """Return :func:`published_contrast` when all embeddings are equal."""
    index_M, pairs = published_pairs(strategy, volumes, partitions)
    return collapsed(pairs) * float(pairs.positive_NN.sum()) / len(index_M)
