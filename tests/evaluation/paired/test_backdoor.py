import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from medssl.evaluation.paired.backdoor import (
    TriggerOptions,
    apply_mark,
    backdoor_scan,
    find_mark,
    robust_deviations,
)
from medssl.evaluation.paired.fooling import FoolingOptions, fooling_image

SIDE, WIDTH = 16, 12
QUICK = TriggerOptions(steps=40, lr=0.2, most_area=0.07, cells=8)


def texts(count=8):
    vectors = F.normalize(
        torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(3)), dim=1
    )
    return {f"text {n}": vector for n, vector in enumerate(vectors)}


def images(count=6):
    return 0.5 * torch.rand(count, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def clean(x):
    """A random linear map of smoothed images."""
    generator = torch.Generator().manual_seed(2)
    weights = torch.randn(WIDTH, 16, generator=generator)
    return F.normalize(F.avg_pool2d(x, 4).flatten(1) @ weights.T + 2, dim=1)


def infected(target):
    """The same, but that a bright corner of 4 x 4 pixels draws every image to one text."""

    def embed(x):
        mark = F.softplus(20 * (x[:, 0, :4, :4].mean((1, 2)) - 0.5))
        return F.normalize(clean(x) + mark[:, None] * target, dim=1)

    return embed


def test_a_planted_backdoor_stands_out():
    known = texts()
    found = backdoor_scan(infected(known["text 5"]), images(), known, QUICK)
    assert found["suspicious"] == ["text 5"]
    assert found["texts"][0]["text"] == "text 5"
    assert found["texts"][0]["marked_cosine"] > 0.8


def test_clean_weights_raise_no_alarm():
    found = backdoor_scan(clean, images(), texts(), QUICK)
    assert found["suspicious"] == []
    assert all(
        row["gain"] == pytest.approx(row["marked_cosine"] - row["cosine"], abs=1e-6)
        for row in found["texts"]
    )


def test_of_few_texts_none_can_stand_out():
    assert backdoor_scan(clean, images(), texts(3), QUICK) is None


def test_a_mark_keeps_to_its_size_in_two_and_three_dimensions():
    for shape in ((4, 1, 8, 8), (4, 1, 8, 8, 4)):
        x = torch.rand(shape)
        embed = lambda x: F.normalize(x.flatten(2).mean(2) * torch.ones(3), dim=1)  # noqa: E731
        where, values = find_mark(embed, x, torch.ones(3) / 3**0.5, QUICK, seed=0)
        assert where.shape == values.shape == (1, *shape[1:])
        assert float(where.mean()) <= QUICK.most_area + 1e-6
        assert float(apply_mark(x, where, values).min()) >= 0


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=9))
def test_deviations_are_robust(values):
    found = robust_deviations(values)
    ordered = sorted(values)
    middle = len(values) // 2
    odd = len(values) % 2
    median = ordered[middle] if odd else (ordered[middle - 1] + ordered[middle]) / 2
    apart = sorted(abs(value - median) for value in values)
    spread = apart[middle] if odd else (apart[middle - 1] + apart[middle]) / 2
    for value, deviation in zip(values, found, strict=True):
        if spread > 1e-9:
            assert deviation == pytest.approx((value - median) / (1.4826 * spread))


def test_where_most_are_equal_any_other_deviates():
    np.testing.assert_array_equal(robust_deviations([1, 1, 1, 2, 0]), [0, 0, 0, np.inf, -np.inf])


def test_an_image_that_suits_all_texts_is_found():
    vectors = torch.stack([*texts().values()])
    found = fooling_image(clean, images(), vectors, FoolingOptions(steps=80))
    image, report = found.image_CIJK, found.report
    assert image.shape == (1, SIDE, SIDE)
    assert 0 <= float(image.min()) <= float(image.max()) <= 1
    cosine_T = (clean(image[None]) @ vectors.T)[0]
    real_NT = clean(images()) @ vectors.T
    assert report["cosine"] == pytest.approx(float(cosine_T.mean()), abs=1e-6)
    assert report["cosine"] > float(real_NT.mean())
    beaten = np.mean([float(cosine_T[t]) > float(real_NT[:, t].max()) for t in range(len(vectors))])
    assert report["beaten"] == pytest.approx(beaten)
