import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from medssl.evaluation.frozen.neighbours import cosines, shared
from medssl.evaluation.frozen.retrieval import alike, retrieval_scores


def asked(seed=0, queries=6, gallery=15):
    generator = torch.Generator().manual_seed(seed)
    cosine = torch.rand(queries, gallery, generator=generator, dtype=torch.float64)
    relevant = torch.rand(queries, gallery, generator=generator) < 0.3
    hidden = torch.rand(queries, gallery, generator=generator) < 0.2
    relevant[0] = False
    return cosine, relevant, hidden


def slow_scores(cosine, relevant, hidden, k):
    """One query, rank by rank."""
    order = sorted((n for n in range(len(cosine)) if not hidden[n]), key=lambda n: -cosine[n])
    total = sum(bool(relevant[n]) for n in order)
    if not total:
        return {}
    precisions, hits = [], 0
    for rank, n in enumerate(order, start=1):
        if relevant[n]:
            hits += 1
            precisions.append(hits / rank)
    first = sum(bool(relevant[n]) for n in order[:k])
    return {
        "map": sum(precisions) / total,
        f"hit@{k}": float(first > 0),
        f"recall@{k}": first / total,
        f"precision@{k}": first / min(k, len(order)),
    }


@pytest.mark.parametrize("k", [1, 4, 14, 40])
def test_scores_match_their_definitions(k):
    cosine, relevant, hidden = asked()
    found = retrieval_scores(cosine, relevant, hidden, [k])
    for query in range(len(cosine)):
        expected = slow_scores(cosine[query].tolist(), relevant[query], hidden[query], k)
        for name, values in found.items():
            assert float(values[query]) == pytest.approx(expected.get(name, math.nan), nan_ok=True)


def test_average_precision_is_that_of_scikit_learn():
    cosine, relevant, hidden = asked(seed=3)
    found = retrieval_scores(cosine, relevant, hidden, [1])["map"]
    for query in range(1, len(cosine)):
        seen = ~hidden[query]
        theirs = average_precision_score(relevant[query][seen], cosine[query][seen])
        assert float(found[query]) == pytest.approx(theirs)


def test_scans_of_the_patient_would_be_found_first_and_are_taken_out():
    z = torch.tensor([[1.0, 0.0], [0.99, 0.01], [0.0, 1.0], [0.5, 0.5]])
    labels = torch.nn.functional.one_hot(torch.tensor([0, 0, 1, 1])).double()
    patients = ["p0", "p0", "p1", "p2"]
    itself = torch.eye(4, dtype=torch.bool)
    leaking = retrieval_scores(cosines(z, z), alike(labels, labels), itself, [1])["hit@1"]
    honest = retrieval_scores(
        cosines(z, z), alike(labels, labels), itself | shared(patients, patients), [1]
    )["hit@1"]
    assert float(leaking[0]) == 1
    assert math.isnan(float(honest[0]))  # nobody else has its class


def test_copies_are_taken_out():
    cosine = torch.tensor([[1.0, 0.9, 0.1]], dtype=torch.float64)
    relevant = torch.tensor([[True, False, True]])
    copies = shared(["g"], ["g", "", ""])
    assert float(retrieval_scores(cosine, relevant, copies & False, [1])["hit@1"]) == 1
    assert float(retrieval_scores(cosine, relevant, copies, [1])["hit@1"]) == 0


def test_rows_are_alike_by_any_column_that_says_yes_of_both():
    y = torch.tensor([[1.0, 0.0], [np.nan, 1.0], [1.0, 1.0]], dtype=torch.float64)
    assert alike(y, y).tolist() == [
        [True, False, True], [False, True, True], [True, True, True],
    ]  # fmt: skip
