"""Expert images: their schedule, their mixtures, what of a heat map counts."""

import pytest
import torch

from medssl.errors import InputError
from medssl.models.expert_mixing import ExpertMixing, expert_share


@pytest.mark.parametrize(
    ("progress", "share"),
    [
        (0, 0),
        (0.05, 0),
        (0.1, 0.05),
        (0.25, 0.275),
        (0.4, 0.5),
        (0.6, 0.275),
        (0.8, 0.05),
        (1, 0.05),
    ],
)
def test_schedule(progress, share):
    assert expert_share(progress) == pytest.approx(share)


def mixing(dims=3):
    torch.manual_seed(0)
    return ExpertMixing(channels=1, dims=dims, patch_voxels=4, width=8, heads=2).double()


def images(dims=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (3, 1, 8, 4, 8)[: dims + 2]
    return (torch.rand(shape, generator=generator, dtype=torch.float64) for _ in range(2))


@pytest.mark.parametrize("dims", [2, 3])
def test_a_mixture_lies_between_the_image_and_its_expert_image(dims):
    net, (x, heat) = mixing(dims), images(dims)
    expert = net(x, heat)
    assert expert.shape == x.shape
    share = torch.tensor([1.0, 0.0, 0.25], dtype=torch.float64)
    mixed = net.mixed(x, heat, share)
    assert torch.equal(mixed[0], x[0])
    torch.testing.assert_close(mixed[1], expert[1])
    torch.testing.assert_close(mixed[2], 0.25 * x[2] + 0.75 * expert[2])


def test_shares_are_drawn_mostly_near_the_ends():
    net, (x, heat) = mixing(), images()
    torch.manual_seed(1)
    x, heat = x[:1].expand(400, -1, -1, -1, -1), heat[:1].expand(400, -1, -1, -1, -1)
    with torch.no_grad():
        expert, mixed = net(x, heat), net.mixed(x, heat)
    share = ((mixed - expert) / (x - expert)).flatten(1).median(1).values
    assert ((share > -1e-9) & (share < 1 + 1e-9)).all()
    assert float(((share < 0.1) | (share > 0.9)).double().mean()) > 0.5  # 0.67 for Beta(0.2, 0.2)
    assert float(share.mean()) == pytest.approx(0.5, abs=0.1)


def test_every_image_has_a_heat_scale_of_its_own():
    net, (x, heat) = mixing(), images()
    scaled = heat * torch.tensor([1.0, 7.0, 0.01], dtype=torch.float64).view(3, 1, 1, 1, 1)
    torch.testing.assert_close(net(x, scaled), net(x, heat))
    assert not torch.allclose(net(x, heat.flip(2)), net(x, heat))


def test_a_heat_map_of_nothing_is_finite():
    net, (x, _) = mixing(), images()
    assert net(x, torch.zeros_like(x)).isfinite().all()


def test_reconstruction_is_the_error_of_the_copy_and_can_be_learned():
    net, (x, heat) = mixing(), images()
    first = net.errors(x, heat).mean()
    torch.testing.assert_close(first, (net(x, heat) - x).square().mean())
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        net.errors(x, heat).mean().backward()
        optimizer.step()
    assert net.errors(x, heat).mean() < first / 2


def test_sizes_that_do_not_fit_are_refused_with_words():
    x = torch.zeros(1, 1, 8, 6, 8, dtype=torch.float64)
    with pytest.raises(InputError, match="8 x 6 x 8 voxels is no whole number of patches of 4"):
        mixing()(x, x)


def test_half_precision_inside_leaves_the_mixture_in_the_type_of_the_image():
    net, (x, heat) = mixing().float(), (image.float() for image in images())
    with torch.autocast("cpu", torch.bfloat16):
        mixed = net.mixed(x, heat, torch.full((len(x),), 0.5, dtype=torch.float64))
    assert mixed.dtype == torch.float32
    assert mixed.isfinite().all()
