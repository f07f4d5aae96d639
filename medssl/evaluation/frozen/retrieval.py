"""Finding rows like a row: what stands at the head of its ranking."""

from collections.abc import Sequence

import torch
from torch import Tensor


def retrieval_scores(
    cosine_ML: Tensor, relevant_ML: Tensor, hidden_ML: Tensor, ks: Sequence[int]
) -> dict[str, Tensor]:
    """Return scores of every query, ``(M,)`` each; NaN for one that nothing relevant exists for.

    ``hit@k``
        whether one of the first k is relevant: what metric learning calls Recall@K (Oh Song et
        al. 2016, CVPR).
    ``recall@k``
        the share of all relevant rows that the first k hold (Manning et al. 2008, "Introduction
        to Information Retrieval", equation 8.2).
    ``precision@k``
        the share of the first k that are relevant (there, equation 8.1).
    ``map``
        average precision: the precision at the rank of each relevant row, averaged over them
        (there, equation 8.8); its mean over queries is mAP.

    Args:
        cosine_ML: Of queries and gallery.
        relevant_ML: What should be found.
        hidden_ML: What is taken out of a query's gallery before ranking: the query itself, scans
            of its patient, copies of it. Fewer than k may remain: then precision counts those.
        ks: Numbers of rows looked at.
    """
    relevant_ML = relevant_ML & ~hidden_ML
    order_ML = cosine_ML.masked_fill(hidden_ML, -torch.inf).argsort(
        dim=1, descending=True, stable=True
    )
    found_ML = relevant_ML.gather(1, order_ML).double()
    total_M, seen_M = found_ML.sum(1), (~hidden_ML).sum(1)
    hits_ML = found_ML.cumsum(1)
    ranks_L = torch.arange(1, found_ML.shape[1] + 1, dtype=torch.float64)
    asked_M = torch.where(total_M > 0, 1.0, torch.nan)
    scores = {"map": asked_M * (hits_ML / ranks_L * found_ML).sum(1) / total_M}
    for k in ks:
        hits_M = hits_ML[:, min(k, hits_ML.shape[1]) - 1]
        scores[f"hit@{k}"] = asked_M * (hits_M > 0)
        scores[f"recall@{k}"] = asked_M * hits_M / total_M
        scores[f"precision@{k}"] = asked_M * hits_M / seen_M.clamp(max=k)
    return scores


def alike(y_MC: Tensor, y_LC: Tensor) -> Tensor:
    """Return ``(M, L)`` whether two rows share a class, or one of several columns says yes of both.

    Args:
        y_MC: 0, 1 or NaN, which counts as no.
        y_LC: Likewise.
    """
    return y_MC.nan_to_num(0.0) @ y_LC.nan_to_num(0.0).T > 0
