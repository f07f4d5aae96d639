"""Organ attention: a loop over images, organs and heads; whole masks; absent organs."""

import torch
from torch.nn import functional as F

from medssl.models.organ_attention import OrganAttention


def layer():
    torch.manual_seed(0)
    return OrganAttention(width=8, organs=3, out_dim=5, heads=2).double()


def cells(batch=2, places=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, places, 8, generator=generator, dtype=torch.float64)


def masks(seed=0):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(2, 3, 6, generator=generator) > 0.5
    mask[1, 2] = False
    mask[0, 0] = True
    return mask


def slow(net, x, mask):
    out = torch.zeros(2, 3, 5, dtype=torch.float64)
    for b in range(2):
        keys, values = net.key_value(x[b]).chunk(2, dim=1)
        for o in range(3):
            seen = mask[b, o].nonzero()[:, 0].tolist() or list(range(6))
            heads = []
            for h in range(2):
                part = slice(4 * h, 4 * h + 4)
                scores = torch.stack([net.query_OD[o, part] @ keys[p, part] / 2 for p in seen])
                weights = scores.softmax(0)
                heads.append(sum(w * values[p, part] for w, p in zip(weights, seen, strict=True)))
            out[b, o] = F.normalize(net.per_organ[o](net.proj(torch.cat(heads))), dim=0)
    return out


def test_each_organ_attends_to_its_own_cells():
    net, x, mask = layer(), cells(), masks()
    torch.testing.assert_close(net(x, mask), slow(net, x, mask))


def test_a_mask_of_everything_is_attention_over_the_whole_volume():
    net, x = layer(), cells()
    whole = torch.ones(2, 3, 6, dtype=torch.bool)
    torch.testing.assert_close(net(x, whole), net(x, torch.zeros_like(whole)))
    torch.testing.assert_close(net(x, whole), slow(net, x, whole))


def test_cells_outside_an_organ_and_their_order_do_not_matter():
    net, x, mask = layer(), cells(), masks()
    changed, order = x.clone(), torch.tensor([4, 2, 0, 5, 3, 1])
    changed[0, ~mask[0, 1]] = 9.0
    torch.testing.assert_close(net(changed, mask)[0, 1], net(x, mask)[0, 1])
    torch.testing.assert_close(net(x[:, order], mask[..., order]), net(x, mask))


def test_every_weight_has_a_finite_gradient_also_without_any_organ():
    net = layer()
    net(cells(), torch.zeros(2, 3, 6, dtype=torch.bool)).sum().backward()
    assert all(weight.grad.isfinite().all() for weight in net.parameters())
