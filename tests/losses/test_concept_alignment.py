"""Concepts and places: the loop over all pairs, equal concepts, padding, spans of characters."""

import pytest
import torch
from torch.nn import functional as F

from medssl.losses.concept_alignment import (
    NO_CONCEPT,
    Concepts,
    concept_alignment,
    span_means,
    tokens_of_spans,
)
from medssl.losses.image_text import siglip
from medssl.losses.local_alignment import Parts
from medssl.losses.pair_targets import PairTargets

SCALE, BIAS = 6.0, -2.0


def batch(seed=0):
    """Three images of up to four places; texts that name two, one and no concept."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64).requires_grad_()
    mask = torch.tensor([[True] * 4, [True, True, False, False], [True, True, True, False]])
    named = torch.randn(3, 2, 5, generator=generator, dtype=torch.float64).requires_grad_()
    code = torch.tensor([[7, 3], [3, NO_CONCEPT], [NO_CONCEPT, NO_CONCEPT]])
    return Parts(z, mask), Concepts(named, code)


def targets():
    ignored = torch.zeros(3, 3, dtype=torch.bool)
    ignored[2, 0] = ignored[0, 2] = True
    return PairTargets(torch.eye(3, dtype=torch.float64), ignored)


def slow(places, concepts, targets, scale, bias):
    total, count = 0.0, 0
    code = concepts.code_BK.tolist()
    for c, row in enumerate(code):
        for k, concept in enumerate(row):
            if concept == NO_CONCEPT:
                continue
            count += 1
            for b in range(len(code)):
                named = concept in code[b]
                if targets.ignored_BB[b, c] and not named:
                    continue
                wanted = 1.0 if named else float(targets.weight_BB[b, c])
                seen = [
                    z for z, there in zip(places.z_BND[b], places.mask_BN[b], strict=True) if there
                ]
                best = max(F.cosine_similarity(z, concepts.z_BKD[c, k], dim=0) for z in seen)
                p = torch.sigmoid(scale * best + bias)
                total = total - wanted * p.log() - (1 - wanted) * (1 - p).log()
    return total / count


def test_value_and_gradients_are_those_of_the_loop_over_images_and_concepts():
    places, concepts = batch()
    scale, bias = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (SCALE, BIAS))
    leaves = [places.z_BND, concepts.z_BKD, scale, bias]
    fast = concept_alignment(places, concepts, targets(), scale, bias)
    expected = slow(places, concepts, targets(), scale, bias)
    torch.testing.assert_close(fast, expected)
    for got, wanted in zip(
        torch.autograd.grad(fast, leaves), torch.autograd.grad(expected, leaves), strict=True
    ):
        torch.testing.assert_close(got, wanted)


def test_gradients():
    places, concepts = batch()

    def loss(z, named, scale, bias):
        return concept_alignment(
            places._replace(z_BND=z), concepts._replace(z_BKD=named), targets(), scale, bias
        )

    numbers = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (SCALE, BIAS))
    assert torch.autograd.gradcheck(loss, (places.z_BND, concepts.z_BKD, *numbers))


def test_an_equal_concept_of_another_text_is_positive():
    """Image 0 is pulled towards concept 3 of text 1, since its own text names concept 3 too."""
    places, concepts = batch()
    alone = concepts.code_BK.clone()
    alone[0] = NO_CONCEPT
    alone[0, 1] = 3
    same = concept_alignment(places, concepts._replace(code_BK=alone), targets(), SCALE, BIAS)
    alone[0, 1] = 4
    other = concept_alignment(places, concepts._replace(code_BK=alone), targets(), SCALE, BIAS)
    logit = SCALE * F.cosine_similarity(places.z_BND[0], concepts.z_BKD[1, 0], dim=-1).max() + BIAS
    back = (
        SCALE * (F.cosine_similarity(places.z_BND[1], concepts.z_BKD[0, 1], dim=-1)[:2].max())
        + BIAS
    )
    torch.testing.assert_close(other - same, (logit + back) / 2)  # softplus(x) - softplus(-x) = x


def test_one_concept_and_one_place_each_are_siglip_of_the_two():
    generator = torch.Generator().manual_seed(3)
    image, text = torch.randn(2, 4, 1, 5, generator=generator, dtype=torch.float64)
    own = PairTargets(torch.eye(4), torch.zeros(4, 4, dtype=torch.bool))
    fast = concept_alignment(
        Parts(image, torch.ones(4, 1, dtype=torch.bool)),
        Concepts(text, torch.arange(4)[:, None]),
        own,
        SCALE,
        BIAS,
    )
    cosines = F.normalize(image[:, 0], dim=1) @ F.normalize(text[:, 0], dim=1).T
    torch.testing.assert_close(fast, siglip(SCALE * cosines + BIAS, own))


def test_order_and_padding_change_nothing():
    places, concepts = batch()
    expected = concept_alignment(places, concepts, targets(), SCALE, BIAS)
    turned = Concepts(concepts.z_BKD.flip(1), concepts.code_BK.flip(1))
    more = Concepts(
        F.pad(concepts.z_BKD, (0, 0, 0, 2), value=9.0),
        F.pad(concepts.code_BK, (0, 2), value=NO_CONCEPT),
    )
    wide = Parts(F.pad(places.z_BND, (0, 0, 0, 3), value=9.0), F.pad(places.mask_BN, (0, 3)))
    for first, second in ((places, turned), (places, more), (wide, concepts)):
        found = concept_alignment(first, second, targets(), SCALE, BIAS)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("most", [0, 2])
def test_without_any_concept_the_loss_is_zero_with_a_graph(most):
    places, concepts = batch()
    none = Concepts(concepts.z_BKD[:, :most], torch.full((3, most), NO_CONCEPT, dtype=torch.long))
    loss = concept_alignment(places, none, targets(), SCALE, BIAS)
    assert loss == 0
    grads = torch.autograd.grad(loss, [places.z_BND, concepts.z_BKD])
    assert all((grad == 0).all() for grad in grads)


def test_an_image_without_places_is_not_asked():
    places, concepts = batch()
    mask = places.mask_BN.clone()
    mask[1] = False
    loss = concept_alignment(places._replace(mask_BN=mask), concepts, targets(), SCALE, BIAS)
    (grad,) = torch.autograd.grad(loss, places.z_BND)
    assert loss.isfinite()
    assert (grad[1] == 0).all()


def test_tokens_of_a_span_are_those_that_share_a_character_with_it():
    text = "no pleural effusion"
    offsets = torch.tensor([[[0, 0], [0, 2], [3, 6], [6, 10], [11, 19], [0, 0]]])
    start = text.index("pleural")
    span = torch.tensor([[[start, len(text)], [0, 2], [0, 0]]])
    inside = tokens_of_spans(offsets, span)
    assert inside[0].int().tolist() == [
        [0, 0, 1, 1, 1, 0],
        [0, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ]
    states = torch.randn(1, 6, 3, dtype=torch.float64)
    means = span_means(states, inside)
    torch.testing.assert_close(means[0, 0], (states[0, 2] + states[0, 3] + states[0, 4]) / 3)
    torch.testing.assert_close(means[0, 1], states[0, 1])
    assert (means[0, 2] == 0).all()
