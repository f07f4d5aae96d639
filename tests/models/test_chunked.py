"""A batch in chunks: the value, the gradient and the random numbers of the whole, less memory."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from medssl.losses.image_text import ImageTextLoss
from medssl.losses.pair_targets import PairTargets
from medssl.models.chunked import in_chunks

ROWS = 10


def tower(seed, dropout=0.0):
    torch.manual_seed(seed)
    layers = [nn.Linear(6, 64), nn.GELU(), nn.Dropout(dropout), nn.Linear(64, 64), nn.GELU()]
    return nn.Sequential(*layers, nn.Linear(64, 4)).double()


def inputs(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(ROWS, 6, generator=generator, dtype=torch.float64)


def targets():
    weight = torch.eye(ROWS)
    weight[0, 1] = weight[1, 0] = 1
    return PairTargets(weight, torch.zeros(ROWS, ROWS, dtype=torch.bool))


def loss_and_gradients(image_tower, text_tower, run):
    scale = torch.tensor(9.0, dtype=torch.float64, requires_grad=True)
    image, text = run(image_tower, inputs()), run(text_tower, inputs(1))
    loss = ImageTextLoss().of(F.normalize(image, dim=1), F.normalize(text, dim=1), targets(), scale)
    weights = [*image_tower.parameters(), *text_tower.parameters(), scale]
    return loss.detach(), torch.autograd.grad(loss, weights)


@pytest.mark.parametrize("chunk_rows", [1, 3, ROWS, 50])
def test_the_gradient_is_that_of_the_full_batch(chunk_rows):
    towers = tower(0), tower(1)
    whole, slopes = loss_and_gradients(*towers, lambda net, x: net(x))
    loss, chunked = loss_and_gradients(
        *towers, lambda net, x: in_chunks(net, x, chunk_rows=chunk_rows)
    )
    torch.testing.assert_close(loss, whole, rtol=0, atol=1e-10)
    for got, wanted in zip(chunked, slopes, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-10)


def test_dropout_is_the_same_in_both_computations_of_a_chunk():
    towers = tower(0, dropout=0.5), tower(1, dropout=0.5)

    def plainly(net, x):
        return torch.cat([net(part) for part in x.split(3)])

    found = []
    for run in (plainly, lambda net, x: in_chunks(net, x, chunk_rows=3)):
        torch.manual_seed(7)
        found.append(loss_and_gradients(*towers, run))
    (whole, slopes), (loss, chunked) = found
    assert torch.equal(loss, whole)
    for got, wanted in zip(chunked, slopes, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-10)


def kept_bytes(run):
    """Return the bytes of what autograd keeps between a forward and its backward pass."""
    kept = {}

    def pack(x):
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        out = run()
    assert out.requires_grad
    return sum(kept.values())


def test_what_is_kept_for_the_gradient_does_not_grow_with_the_network():
    net, x = tower(0), inputs()
    weights = sum(weight.untyped_storage().nbytes() for weight in net.parameters())
    whole = kept_bytes(lambda: net(x))
    chunked = kept_bytes(lambda: in_chunks(net, x, chunk_rows=2))
    assert whole - weights > ROWS * 3 * 64 * 8 / 2  # activations of the hidden layers
    assert chunked <= x.untyped_storage().nbytes()


def test_several_inputs_and_no_gradient():
    def scaled(x, y):
        assert len(x) == len(y) <= 4
        return x * y

    x, y = inputs(), inputs(1)
    assert torch.equal(in_chunks(scaled, x, y, chunk_rows=4), x * y)
    with torch.no_grad():
        assert torch.equal(in_chunks(scaled, x, y, chunk_rows=4), x * y)


def test_inputs_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="zip"):
        in_chunks(torch.add, torch.ones(4, 1), torch.ones(7, 1), chunk_rows=2)
