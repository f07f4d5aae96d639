import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from medssl.evaluation.frozen.linear import linear_probe
from tests.evaluation.frozen.test_logistic import clouds

STRENGTHS = torch.tensor([1e-3, 0.03, 1.0, 30.0], dtype=torch.float64)


def one_hot(labels):
    return torch.nn.functional.one_hot(labels).double()


def test_the_head_is_the_one_that_scikit_learn_would_choose_one_by_one():
    (x, labels), (v, chosen_by), (m, _) = (clouds(rows=45, seed=0), clouds(rows=30, seed=0),
                                           clouds(rows=12, seed=0))  # fmt: skip
    v, m = v + 0.1, m - 0.1
    probe = linear_probe(
        (x, one_hot(labels)), (v, one_hot(chosen_by)), m, STRENGTHS, exclusive=True
    )
    scale = StandardScaler().fit(x)
    theirs = [
        LogisticRegression(C=1 / (l2 * len(x)), tol=1e-10, max_iter=10_000).fit(
            scale.transform(x), labels
        )
        for l2 in STRENGTHS.tolist()
    ]
    losses = [log_loss(chosen_by, head.predict_proba(scale.transform(v))) for head in theirs]
    np.testing.assert_allclose(probe.val_loss_H[::-1], losses, rtol=1e-3)
    best = int(np.argmin(losses))
    assert probe.l2 == pytest.approx(float(STRENGTHS[best]))
    expected = theirs[best].predict_proba(scale.transform(m))
    np.testing.assert_allclose(probe.shares_MC, expected, rtol=1e-2, atol=1e-3)


def test_noise_is_held_back_more_than_signal():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 2
    signal = one_hot(labels) + 0.1 * torch.randn(40, 2, generator=generator)
    noise = torch.randn(40, 20, generator=generator)
    halves = [
        linear_probe(
            (x[:20], one_hot(labels[:20])), (x[20:], one_hot(labels[20:])), x[20:], STRENGTHS,
            exclusive=True,
        ).l2
        for x in (signal, noise)
    ]  # fmt: skip
    assert halves[0] < halves[1]


def test_columns_that_are_partly_unknown_are_learned_from_what_is_known():
    x, labels = clouds(classes=2, rows=40)
    y = torch.stack([labels, 1 - labels], dim=1).double()
    y[::3, 1] = torch.nan
    probe = linear_probe((x, y), (x, y), x, STRENGTHS, exclusive=False)
    assert probe.shares_MC.shape == (40, 2)
    right = (probe.shares_MC > 0.5) == np.stack([labels == 1, labels == 0], axis=1)
    assert right.mean() > 0.75
