"""Local scores, one place and part at a time; what padding and order may not change."""

import math

import pytest
import torch
from torch.nn import functional as F

from medssl.losses.image_text import ImageTextLoss, info_nce, multi_positive
from medssl.losses.local_alignment import (
    Parts,
    WordRegion,
    best_counterparts,
    symmetric_local,
    word_region,
    word_region_scores,
)
from medssl.losses.pair_targets import PairTargets

SCALE = 6.0


def parts(rows=3, most=4, seed=0, dim=5):
    """Rows have 1 to ``most`` parts."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(rows, most, dim, generator=generator, dtype=torch.float64)
    count = torch.randint(1, most + 1, (rows, 1), generator=generator)
    return Parts(z.requires_grad_(), torch.arange(most) < count)


def targets(rows=3):
    weight = torch.eye(rows, dtype=torch.float64)
    weight[0, 1] = weight[1, 0] = 1
    ignored = torch.zeros(rows, rows, dtype=torch.bool)
    ignored[0, 2] = True
    return PairTargets(weight, ignored)


def there(some, row):
    return [z for z, is_there in zip(some.z_BND[row], some.mask_BN[row], strict=True) if is_there]


def cosine(a, b):
    return (a @ b) / (a.norm() * b.norm())


def table(score, places, words):
    rows = range(len(places.z_BND))
    return torch.stack(
        [torch.stack([score(there(places, b), there(words, c)) for c in rows]) for b in rows]
    )


def slow_of_sentences(places, sentences):
    return sum(max(cosine(p, s) for p in places) for s in sentences) / len(sentences)


def slow_of_places(places, sentences):
    return sum(max(cosine(p, s) for s in sentences) for p in places) / len(places)


def slow_words(places, words):
    """GLoRIA with its constants 4 and 5: the attention of each word, then its weighted place."""
    total = 0.0
    of_words = [torch.stack([p @ w for w in words]).softmax(0) for p in places]
    for n, word in enumerate(words):
        weights = torch.stack([4 * of_words[p][n] for p in range(len(places))]).softmax(0)
        seen = sum(weight * place for weight, place in zip(weights, places, strict=True))
        total = total + (5 * cosine(word, seen)).exp()
    return total.log()


def assert_same(fast, slow, leaves):
    torch.testing.assert_close(fast, slow)
    for got, wanted in zip(
        torch.autograd.grad(fast, leaves, retain_graph=True),
        torch.autograd.grad(slow, leaves),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted)


def test_symmetric_alignment_is_the_triple_loop():
    places, sentences = parts(), parts(most=3, seed=1)
    slow = [table(way, places, sentences) for way in (slow_of_sentences, slow_of_places)]
    for fast, expected in zip(best_counterparts(places, sentences), slow, strict=True):
        torch.testing.assert_close(fast, expected)
    loss = sum(multi_positive(SCALE * scores, targets()) for scores in slow) / 2
    fast = symmetric_local(places, sentences, targets(), SCALE)
    assert_same(fast, loss, [places.z_BND, sentences.z_BND])


def test_word_region_alignment_is_the_loop_over_words_with_the_published_constants():
    places, words = parts(), parts(most=3, seed=1)
    slow = table(slow_words, places, words)
    torch.testing.assert_close(word_region_scores(places, words, WordRegion()), slow)
    fast = word_region(places, words, targets())
    assert_same(fast, multi_positive(10 * slow, targets()), [places.z_BND, words.z_BND])


LOSSES = {
    "symmetric": lambda places, words, scale: symmetric_local(places, words, targets(), scale),
    "word_region": lambda places, words, _: word_region(places, words, targets()),
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_of_places_parts_and_scale(name):
    places, words = parts(most=3), parts(most=2, seed=1)

    def loss(z_places, z_words, scale):
        return LOSSES[name](places._replace(z_BND=z_places), words._replace(z_BND=z_words), scale)

    scale = torch.tensor(SCALE, dtype=torch.float64, requires_grad=name == "symmetric")
    assert torch.autograd.gradcheck(loss, (places.z_BND, words.z_BND, scale))


@pytest.mark.parametrize("name", LOSSES)
def test_padding_changes_nothing(name):
    places, words = parts(), parts(most=3, seed=1)

    def padded(some, value):
        more = torch.full((3, 2, 5), value, dtype=torch.float64)
        mask = F.pad(some.mask_BN, (0, 2))
        z = torch.cat([some.z_BND, more], dim=1)
        return Parts(z.masked_fill(~mask[..., None], value), mask)

    expected = LOSSES[name](places, words, SCALE)
    for value in (0.0, 100.0):
        found = LOSSES[name](padded(places, value), padded(words, value), SCALE)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_the_order_of_places_and_parts_changes_nothing(name):
    places, words = parts(), parts(seed=1)
    order = torch.tensor([2, 0, 3, 1])
    moved = [Parts(some.z_BND[:, order], some.mask_BN[:, order]) for some in (places, words)]
    torch.testing.assert_close(
        LOSSES[name](*moved, SCALE), LOSSES[name](places, words, SCALE), rtol=1e-12, atol=1e-12
    )


def test_one_place_and_one_sentence_are_info_nce_of_the_two():
    places, sentences = parts(most=1), parts(most=1, seed=1)
    image, text = (F.normalize(some.z_BND[:, 0], dim=1) for some in (places, sentences))
    own = PairTargets(torch.eye(3), torch.zeros(3, 3, dtype=torch.bool))
    fast = symmetric_local(places, sentences, own, SCALE, ImageTextLoss(name="info_nce"))
    torch.testing.assert_close(fast, info_nce(SCALE * image @ text.T, own))


def test_one_place_and_one_word_score_five_times_their_cosine():
    places, words = parts(most=1), parts(most=1, seed=1)
    image, text = (F.normalize(some.z_BND[:, 0], dim=1) for some in (places, words))
    torch.testing.assert_close(word_region_scores(places, words, WordRegion()), 5 * image @ text.T)


@pytest.mark.parametrize("name", LOSSES)
def test_rows_without_any_part_are_finite(name):
    places, words = parts(), parts(most=3, seed=1)
    nothing = words.mask_BN.clone()
    nothing[1] = False
    for first, second in (
        (places, words._replace(mask_BN=nothing)),
        (places._replace(mask_BN=F.pad(nothing, (0, 1))), words),
    ):
        loss = LOSSES[name](first, second, SCALE)
        assert loss.isfinite()
        for grad in torch.autograd.grad(loss, [places.z_BND, words.z_BND]):
            assert grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_collapsed_parts_cost_the_logarithm_of_the_batch(name):
    same = Parts(torch.ones(3, 2, 4, dtype=torch.float64), torch.ones(3, 2, dtype=torch.bool))
    loss = LOSSES[name](same, same, SCALE)
    # four of six rows and columns see three candidates, two see two: one pair is ignored
    expected = (4 * math.log(3) + 2 * math.log(2)) / 6
    assert float(loss) == pytest.approx(expected)
