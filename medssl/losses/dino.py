"""Self-distillation: a student tells which prototypes its teacher sees in another view.

DINO: Caron et al. 2021 (arXiv:2104.14294); iBOT: Zhou et al. 2022 (arXiv:2111.07832); both as
DINOv2 joins them, with KoLeo: Oquab et al. 2024 (arXiv:2304.07193).

Suffixes: B volumes, G views of the teacher, V views of the student, P prototypes, T hidden tokens.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from medssl.losses.gather import gather_rows
from medssl.losses.ntxent import unit_rows

TINY = 1e-30
"""Keeps the root of a squared distance differentiable where two vectors are the same."""


@torch.no_grad()
def sinkhorn(logits_NP: Tensor, temperature: float, *, iterations: int) -> Tensor:
    """Return assignments of rows to prototypes that use all prototypes about equally.

    Columns and rows of ``exp(logits / temperature)`` are normalised in turn (Cuturi 2013; Caron et
    al. 2020, arXiv:2006.09882, section 3.1); columns over the rows of all processes.

    Args:
        logits_NP: The teacher's; processes may hold unequally many rows, or none.
        temperature: Lower is sharper.
        iterations: How often.

    Returns:
        ``(N, P)``; every row sums to 1.
    """
    log_NP = logits_NP / temperature  # in logarithms, so that nothing vanishes
    for _ in range(iterations):
        column_P = gather_rows(log_NP.logsumexp(0, keepdim=True)).logsumexp(0)
        log_NP = log_NP - column_P
        log_NP = log_NP - log_NP.logsumexp(1, keepdim=True)
    return log_NP.exp()


@torch.no_grad()
def centred(logits_NP: Tensor, temperature: float, centre_P: Tensor) -> Tensor:
    """Return ``softmax((logits - centre) / temperature)``, DINO's way against collapse."""
    return ((logits_NP - centre_P) / temperature).softmax(1)


def total_of(logits_NP: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of the rows of all processes, ``(P,)``, and how many they are."""
    count = logits_NP.new_tensor([float(len(logits_NP))])
    return gather_rows(logits_NP.sum(0, keepdim=True)).sum(0), gather_rows(count).sum()


def across_views(teacher_BGP: Tensor, student_BVP: Tensor, temperature: float) -> Tensor:
    """Return the mean cross-entropy over pairs of a teacher's and another student's view, ``(B,)``.

    Args:
        teacher_BGP: Assignments; no gradient flows into them.
        student_BVP: Logits; the first G views are those of the teacher, in its order.
        temperature: The student's.
    """
    log_BVP = F.log_softmax(student_BVP / temperature, dim=-1)
    with torch.autocast(log_BVP.device.type, enabled=False):  # a sum over many prototypes
        cost_BGV = -(teacher_BGP.detach().to(log_BVP.dtype) @ log_BVP.mT)
    views, others = cost_BGV.shape[1:]
    different_GV = ~torch.eye(views, others, dtype=torch.bool, device=cost_BGV.device)
    return cost_BGV[:, different_GV].mean(1)


def hidden_tokens(
    teacher_TP: Tensor, student_TP: Tensor, hidden_BX: Tensor, temperature: float
) -> Tensor:
    """Return the cross-entropy of hidden tokens: mean of each view, then of views that hide any.

    Args:
        teacher_TP: Assignments of the hidden tokens by the teacher, which sees them.
        student_TP: Logits of the student, which does not.
        hidden_BX: Which tokens of each view are hidden; T counts them, view by view.
        temperature: The student's.

    Returns:
        A scalar over the views of all processes; 0 when none hides anything.
    """
    cost_T = -(teacher_TP.detach() * F.log_softmax(student_TP / temperature, dim=-1)).sum(-1)
    cost_BX = cost_T.new_zeros(hidden_BX.shape).masked_scatter(hidden_BX, cost_T)
    count_B = hidden_BX.sum(1)
    mean_B = gather_rows(cost_BX.sum(1) / count_B.clamp_min(1))
    return mean_B.sum() / (gather_rows(count_B) > 0).sum().clamp_min(1)


def koleo(z_ND: Tensor, eps: float) -> Tensor:
    """Return minus the mean log distance of every unit vector to its nearest neighbour.

    Sablayrolles et al. 2019 (arXiv:1806.03198), eq. 2: small when vectors spread evenly.

    Args:
        z_ND: Embeddings of all processes, of any length.
        eps: Added to the distance.

    Raises:
        ValueError: One vector has no neighbour.
    """
    if len(z_ND) < 2:  # noqa: PLR2004
        raise ValueError(
            "KoLeo needs two volumes in a batch at least: raise loader.volumes_per_batch, or set "
            "method.koleo_weight to 0"
        )
    z_ND = unit_rows(z_ND)
    # Not rounded in autocast: before training all embeddings are much alike.
    with torch.no_grad(), torch.autocast(z_ND.device.type, enabled=False):
        cosine_NN = z_ND @ z_ND.mT
        nearest_N = cosine_NN.fill_diagonal_(-2).argmax(1)
    distance_N = (z_ND - z_ND[nearest_N]).square().sum(1).clamp_min(TINY).sqrt()
    return -(distance_N + eps).log().mean()
