"""Image-text losses: their definitions in loops, the identities between them, their edges."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from medssl.errors import InputError
from medssl.losses import image_text as losses
from medssl.losses.image_text import ImageTextLoss
from medssl.losses.pair_targets import PairTargets

NAMES = ("info_nce", "multi_positive", "siglip", "dcl")
SCALE, BIAS = 7.0, -3.0


def loss_of(name, image, text, targets, scale, bias=None, **options):
    return ImageTextLoss(name=name, **options).of(image, text, targets, scale, bias)


def collapsed(name, targets, **options):
    return ImageTextLoss(name=name, **options).collapsed(targets)


def unit(rows, dim=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, dim, generator=generator, dtype=torch.float64), dim=1)


def own(rows, columns=None):
    """Every image belongs to its own text alone."""
    weight = torch.eye(rows, columns or rows, dtype=torch.float64)
    return PairTargets(weight, torch.zeros_like(weight, dtype=torch.bool))


def mixed(rows=6, columns=None, seed=0):
    """Some other pairs are positive, some half so, some ignored."""
    generator = torch.Generator().manual_seed(seed)
    weight = own(rows, columns).weight_BB
    kind = torch.randint(0, 6, weight.shape, generator=generator)
    for value, amount in ((0, 1.0), (1, 0.5)):
        weight = torch.where((kind == value) & (weight == 0), amount, weight)
    return PairTargets(weight, (kind == 2) & (weight == 0))


def slow_softmax_way(logits, weight, ignored, smoothing):
    """Mean over rows of -sum target log p, p over what is not ignored."""
    total = 0.0
    for i in range(len(logits)):
        kept = [j for j in range(logits.shape[1]) if not ignored[i, j]]
        bottom = sum(logits[i, j].exp() for j in kept)
        amount = sum(weight[i, j] for j in kept)
        for j in kept:
            target = (1 - smoothing) * weight[i, j] / amount + smoothing / len(kept)
            total = total - target * torch.log(logits[i, j].exp() / bottom)
    return total / len(logits)


def slow_info_nce_way(logits, weight, ignored, smoothing):
    total = 0.0
    for i in range(len(logits)):
        others = [j for j in range(logits.shape[1]) if weight[i, j] == 0 and not ignored[i, j]]
        bottom = logits[i, i].exp() + sum(logits[i, j].exp() for j in others)
        terms = [torch.log(logits[i, j].exp() / bottom) for j in (i, *others)]
        total = total - (1 - smoothing) * terms[0] - smoothing * sum(terms) / len(terms)
    return total / len(logits)


def slow_dcl_way(logits, weight, ignored, within=None):
    total, count = 0.0, 0
    for i in range(len(logits)):
        others = [j for j in range(logits.shape[1]) if weight[i, j] == 0 and not ignored[i, j]]
        if not others:
            continue
        bottom = sum(logits[i, j].exp() for j in others)
        if within is not None:
            bottom = bottom + sum(within[i, j].exp() for j in others if j < len(logits))
        pull = sum(weight[i, j] * logits[i, j] for j in range(logits.shape[1])) / weight[i].sum()
        total, count = total - pull + torch.log(bottom), count + 1
    return total / max(count, 1)


def slow_siglip(logits, weight, ignored, smoothing):
    total = 0.0
    for i in range(len(logits)):
        for j in range(logits.shape[1]):
            if not ignored[i, j]:
                target = (1 - smoothing) * weight[i, j] + smoothing / 2
                p = 1 / (1 + torch.exp(-logits[i, j]))
                total = total - target * torch.log(p) - (1 - target) * torch.log(1 - p)
    return total / len(logits)


def slow(name, parts, targets, smoothing=0.0, intra=False):
    image, text, scale, bias = parts
    logits = torch.stack([torch.stack([scale * (x * y).sum() for y in text]) for x in image])
    rows = len(image)
    square = [part[:, :rows].T for part in targets]
    if name == "siglip":
        return slow_siglip(logits + bias, *targets, smoothing)
    if name == "dcl":
        images = scale * image @ image.T if intra else None
        texts = scale * text[:rows] @ text[:rows].T if intra else None
        there = slow_dcl_way(logits, *targets, images)
        return (there + slow_dcl_way(logits[:, :rows].T, *square, texts)) / 2
    way = slow_info_nce_way if name == "info_nce" else slow_softmax_way
    there = way(logits, *targets, smoothing)
    return (there + way(logits[:, :rows].T, *square, smoothing)) / 2


CASES = [
    *((name, {"smoothing": s}) for name in NAMES[:3] for s in (0.0, 0.1)),
    ("dcl", {}),
    ("dcl", {"intra": True}),
]


def leaves(rows=6, columns=None):
    parts = [unit(rows), unit(columns or rows, seed=1)]
    parts += [torch.tensor(v, dtype=torch.float64) for v in (SCALE, BIAS)]
    return [part.requires_grad_() for part in parts]


def gradients(loss, parts):
    return torch.autograd.grad(loss, parts, materialize_grads=True, retain_graph=True)


@pytest.mark.parametrize("columns", [6, 9], ids=["square", "more texts"])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_value_and_gradients_are_those_of_the_definition_in_loops(name, options, columns):
    image, text, scale, bias = parts = leaves(6, columns)
    targets = mixed(6, columns)
    fast = loss_of(name, image, text, targets, scale, bias, **options)
    expected = slow(name, parts, targets, **options)
    torch.testing.assert_close(fast, expected)
    for got, wanted in zip(gradients(fast, parts), gradients(expected, parts), strict=True):
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_gradients_of_images_texts_scale_and_bias(name, options):
    def loss(image, text, scale, bias):
        return loss_of(name, image, text, mixed(4), scale, bias, **options)

    assert torch.autograd.gradcheck(loss, leaves(4))


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_the_rows_does_not_matter(name):
    image, text, scale, bias = leaves()
    targets, order = mixed(), torch.tensor([4, 1, 5, 0, 3, 2])
    moved = PairTargets(*(part[order][:, order] for part in targets))
    torch.testing.assert_close(
        loss_of(name, image[order], text[order], moved, scale, bias),
        loss_of(name, image, text, targets, scale, bias),
    )


@pytest.mark.parametrize("name", NAMES)
def test_ignored_pairs_have_no_gradient(name):
    logits, targets = torch.randn(6, 6, dtype=torch.float64).requires_grad_(), mixed()
    (grad,) = torch.autograd.grad(getattr(losses, name)(logits, targets), logits)
    assert targets.ignored_BB.any()
    assert (grad[targets.ignored_BB] == 0).all()
    assert (grad.diagonal() != 0).any()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("name", ["info_nce", "multi_positive"])
def test_with_one_positive_each_both_softmax_losses_are_clip(name, smoothing):
    image, text, scale, _ = parts = leaves()
    logits, labels = scale * image @ text.T, torch.arange(6)
    ways = (F.cross_entropy(x, labels, label_smoothing=smoothing) for x in (logits, logits.T))
    fast, clip = loss_of(name, image, text, own(6), scale, smoothing=smoothing), sum(ways)
    torch.testing.assert_close(fast, clip / 2)
    for got, wanted in zip(gradients(fast, parts[:3]), gradients(clip / 2, parts[:3]), strict=True):
        torch.testing.assert_close(got, wanted)


def test_the_slope_of_info_nce_is_the_mean_of_both_softmaxes_less_the_target():
    logits = torch.randn(5, 5, dtype=torch.float64).requires_grad_()
    (grad,) = torch.autograd.grad(losses.info_nce(logits, own(5)), logits)
    eye = torch.eye(5, dtype=torch.float64)
    expected = (logits.softmax(1) - eye + logits.softmax(0) - eye) / 10
    torch.testing.assert_close(grad, expected)


def test_multi_positive_is_torchs_cross_entropy_with_these_probabilities():
    logits, (weight, _) = torch.randn(6, 6, dtype=torch.float64), mixed()
    targets = PairTargets(weight, torch.zeros_like(weight, dtype=torch.bool))
    there = F.cross_entropy(logits, weight / weight.sum(1, keepdim=True))
    back = F.cross_entropy(logits.T, (weight / weight.sum(0)).T)
    torch.testing.assert_close(losses.multi_positive(logits, targets), (there + back) / 2)


def test_targets_of_fvlm_on_a_batch_made_by_hand():
    """Rows 0 and 1 are normal, rows 2 and 3 have one text: two blocks of two positives."""
    logits = torch.arange(16, dtype=torch.float64).view(4, 4).sin() * 3
    block = torch.ones(2, 2, dtype=torch.float64)
    targets = PairTargets(torch.block_diag(block, block), torch.zeros(4, 4, dtype=torch.bool))
    total = 0.0
    for way in (logits, logits.T):
        log_p = way.log_softmax(1)
        total -= sum(log_p[i, j] / 2 for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)))
        total -= sum(log_p[i, j] / 2 for i, j in ((2, 2), (2, 3), (3, 2), (3, 3)))
    torch.testing.assert_close(losses.multi_positive(logits, targets), total / 8)


def test_exact_duplicates_are_at_rest_at_one_over_k_where_the_hard_loss_is_not():
    """Two groups of three equal pairs, far apart: what a perfect model makes of duplicates."""
    z = torch.eye(2, dtype=torch.float64).repeat_interleave(3, 0).requires_grad_()
    block = torch.ones(3, 3, dtype=torch.float64)
    targets = PairTargets(torch.block_diag(block, block), torch.zeros(6, 6, dtype=torch.bool))
    logits = 200 * z @ z.detach().T
    soft = losses.multi_positive(logits, targets)
    assert float(soft.detach()) == pytest.approx(math.log(3))
    torch.testing.assert_close(logits.softmax(1), targets.weight_BB / 3)
    (grad,) = torch.autograd.grad(soft, logits, retain_graph=True)
    assert grad.abs().max() < 1e-15
    hard = losses.info_nce(logits, own(6))
    assert float(hard.detach()) == pytest.approx(math.log(3))
    (grad,) = torch.autograd.grad(hard, logits)
    assert grad.abs().max() > 0.1


def test_siglip_is_n_times_the_mean_binary_cross_entropy():
    image, text, scale, bias = leaves()
    logits = scale * image @ text.T + bias
    expected = 6 * F.binary_cross_entropy_with_logits(logits, torch.eye(6, dtype=torch.float64))
    fast = loss_of("siglip", image, text, own(6), scale, bias)
    torch.testing.assert_close(fast, expected)


def test_siglip_as_published_is_a_log_sigmoid_of_signed_logits():
    logits = torch.randn(5, 5, dtype=torch.float64)
    sign = 2 * torch.eye(5, dtype=torch.float64) - 1
    torch.testing.assert_close(
        losses.siglip(logits, own(5)), -F.logsigmoid(sign * logits).sum() / 5
    )


def test_siglip_starts_near_ten():
    image, text = unit(256, 512), unit(256, 512, seed=1)
    loss = loss_of("siglip", image, text, own(256), 10.0, -10.0)
    assert float(loss) == pytest.approx(10, abs=0.2)


def test_siglip_of_columns_alone_is_softplus():
    """Negatives from elsewhere: the loss of chunks adds up to the loss of the whole."""
    logits = torch.randn(4, 7, dtype=torch.float64)
    whole = losses.siglip(logits, own(4, 7))
    rest = F.softplus(logits[:, 4:]).sum() / 4
    torch.testing.assert_close(whole, losses.siglip(logits[:, :4], own(4)) + rest)


def test_dcl_and_info_nce_differ_by_the_share_of_the_positive():
    logits = 3 * torch.randn(6, 6, dtype=torch.float64)
    gaps = [-(1 - way.softmax(1).diagonal()).log().mean() for way in (logits, logits.T)]
    difference = losses.info_nce(logits, own(6)) - losses.dcl(logits, own(6))
    torch.testing.assert_close(difference, sum(gaps) / 2)


def test_the_softplus_of_a_dcl_row_is_its_info_nce_row():
    logits = 3 * torch.randn(5, 5, dtype=torch.float64)
    for i in range(5):
        rest = torch.cat([logits[i, :i], logits[i, i + 1 :]]).logsumexp(0)
        torch.testing.assert_close(F.softplus(rest - logits[i, i]), -logits[i].log_softmax(0)[i])


def test_the_pull_of_dcl_never_fades():
    logits = (9 * torch.eye(5, dtype=torch.float64)).requires_grad_()
    (grad,) = torch.autograd.grad(losses.dcl(logits, own(5)), logits)
    torch.testing.assert_close(grad.diagonal(), torch.full((5,), -1 / 5, dtype=torch.float64))
    (grad,) = torch.autograd.grad(losses.info_nce(logits, own(5)), logits)
    expected = -(1 - logits.softmax(1).diagonal()) / 5
    torch.testing.assert_close(grad.diagonal(), expected)


def test_options_of_another_loss_are_refused():
    with pytest.raises(ValidationError, match="no targets to smooth"):
        ImageTextLoss(name="dcl", smoothing=0.1)
    with pytest.raises(ValidationError, match="option of dcl"):
        ImageTextLoss(name="siglip", intra=True)


def test_dcl_of_a_single_study_is_refused_with_words():
    one = unit(1)
    with pytest.raises(InputError, match="the batch holds one"):
        loss_of("dcl", one, one, own(1), SCALE)
    with pytest.raises(InputError, match="the batch holds one"):
        collapsed("dcl", own(1))


@pytest.mark.parametrize(("name", "options"), CASES)
def test_equal_embeddings_cost_what_the_closed_form_says(name, options):
    targets, same = mixed(), torch.ones(6, 4, dtype=torch.float64) / 2
    bias = 0.0
    if name == "siglip":  # the logit that suits a constant best, found by looking
        bias = min(
            (-x / 200 for x in range(2400)),
            key=lambda b: float(losses.siglip(torch.full((6, 6), SCALE + b), targets, **options)),
        )
    found = loss_of(name, same, same, targets, SCALE, bias, **options)
    assert collapsed(name, targets, **options) == pytest.approx(float(found), rel=1e-5)


def test_collapse_of_a_plain_batch():
    plain = {name: collapsed(name, own(8)) for name in NAMES}
    share = 1 / 8
    entropy = -share * math.log(share) - (1 - share) * math.log(1 - share)
    assert plain == pytest.approx(
        {
            "info_nce": math.log(8),
            "multi_positive": math.log(8),
            "siglip": 8 * entropy,
            "dcl": math.log(7),
        }
    )
    assert collapsed("dcl", own(8), intra=True) == pytest.approx(math.log(14))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", ["all alike", "all ignored", "great scale", "alone"])
def test_edges_are_finite_with_finite_gradients(name, what):
    rows = 1 if what == "alone" and name != "dcl" else 5
    image, text = unit(rows).requires_grad_(), unit(rows, seed=1).requires_grad_()
    weight, ignored = own(rows)
    if what == "all alike":
        weight = torch.ones_like(weight)
    if what == "all ignored":
        ignored = weight == 0
    scale = 1e4 if what == "great scale" else SCALE
    loss = loss_of(name, image, text, PairTargets(weight, ignored), scale, BIAS)
    assert loss.isfinite()
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(loss, (image, text)))
    if what in {"all alike", "all ignored"} and name == "dcl":
        assert loss == 0


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_and_autocast_are_computed_in_float32(name):
    image, text, targets = unit(6).float(), unit(6, seed=1).float(), mixed()
    plain = loss_of(name, image, text, targets, SCALE, BIAS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss_of(name, image, text, targets, SCALE, BIAS)
    torch.testing.assert_close(inside, plain, rtol=0, atol=0)
    half = loss_of(name, image.bfloat16(), text.bfloat16(), targets, SCALE, BIAS)
    assert half.dtype == torch.float32
