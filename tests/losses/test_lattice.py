"""Local contrast on a lattice: its definition in loops, on slices and in volumes."""

import math

import pytest
import torch

from medssl.losses import lattice
from medssl.losses.global_local import origin

T = 0.1


def test_thirteen_corners_on_a_slice_as_published():
    corners = lattice.lattice_corners((48, 48), 3)  # 192 / 4, room 48 - 4
    assert corners.tolist() == [[i, j] for i in (0, 22, 44) for j in (0, 22, 44)] + [
        [i, j] for i in (11, 33) for j in (11, 33)
    ]
    assert lattice.lattice_corners((48, 48), 1)[8].tolist() == [47, 47]


@pytest.mark.parametrize("region", [1, 3])
def test_regions_of_a_volume_are_distinct_and_inside(region):
    shape = (8, 9, 12)
    corners = lattice.lattice_corners(shape, region)
    assert len({tuple(c) for c in corners.tolist()}) == 27 + 8
    assert (corners >= 0).all()
    assert (corners + region <= torch.tensor(shape)).all()


def test_maps_too_small_are_refused():
    with pytest.raises(ValueError, match="it needs 8 along every axis"):
        lattice.lattice_corners((8, 7), 3)


def test_neighbours_are_the_nearest_regions_and_not_itself():
    corners = lattice.lattice_corners((17, 17), 1)
    near = lattice.neighbours(corners, 5)
    for r in range(13):
        others = [q for q in range(13) if q != r]
        others.sort(key=lambda q: (int((corners[r] - corners[q]).square().sum()), q))
        assert near[r].nonzero()[:, 0].tolist() == sorted(others[:5])


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("region", [1, 3])
def test_voxels_of_regions_are_those_at_their_corners(dims, region):
    shape = (8, 9, 10)[:dims]
    maps = torch.randn(2, 5, *shape)
    corners = lattice.lattice_corners(shape, region)
    found = lattice.region_voxels(maps, corners, region)
    assert found.shape == (2, len(corners), region**dims, 5)
    for r, corner in enumerate(corners.tolist()):
        box = tuple(slice(c, c + region) for c in corner)
        expected = maps[(slice(None), slice(None), *box)].flatten(2).mT
        torch.testing.assert_close(found[:, r], expected)


def slow_lattice(z, near, partners):
    """Sum over maps, their partners and regions; negatives from both maps; how many terms."""
    unit = z / z.norm(dim=2, keepdim=True)
    e = (torch.einsum("mrd,nqd->mrnq", unit, unit) / T).exp()
    total, terms = 0.0, 0
    for a in range(len(z)):
        for p in partners(a):
            for r in range(z.shape[1]):
                around = [q for q in range(z.shape[1]) if near[r, q]]
                top = e[a, r, p, r]
                rest = e[a, r, a, around].sum() + e[a, r, p, around].sum()
                total = total - torch.log(top / (top + rest))
                terms += 1
    return total, terms


def projections(maps, regions, dim=4):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(
        maps, regions, dim, generator=generator, dtype=torch.float64
    ).requires_grad_()


def check(z, alike, near, slow, maps_and_regions):
    total, terms = slow
    for per_map, count in ((False, terms), (True, maps_and_regions)):
        fast = lattice.lattice_contrast(z, alike, near, T, per_map=per_map)
        torch.testing.assert_close(fast, total / count)
        got, expected = (
            torch.autograd.grad(x, z, retain_graph=True)[0] for x in (fast, total / count)
        )
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("dims", [2, 3])
def test_lr_compares_the_views_of_an_image(dims):
    """Five neighbours from both maps: ten negatives; both directions."""
    corners = lattice.lattice_corners((6,) * dims, 1)
    near = lattice.neighbours(corners, 5)
    images = 2
    z = projections(2 * images, len(corners))
    rows = origin(torch.zeros(images, 2, dtype=torch.long), 2)
    slow = slow_lattice(z, near, lambda a: [a ^ 1])
    assert slow[1] == 2 * images * len(corners)
    alike = lattice.map_pairs(rows, across_volumes=False)
    check(z, alike, near, slow, 2 * images * len(corners))


def test_ld_pairs_other_volumes_as_the_published_indices_do():
    """12 slices = 3 volumes x 4 partitions, two views; i + 4 and i + 8 mod 12; / 13 / 24."""
    corners = lattice.lattice_corners((6, 6), 1)
    near = lattice.neighbours(corners, 4)
    z = projections(24, 13)

    def ours(i):  # published: view * 12 + volume * 4 + partition
        view, slice_ = divmod(i, 12)
        return slice_ * 2 + view

    published = {
        ours(i): [ours((i + 12) % 24)] + [ours(i // 12 * 12 + (i + k) % 12) for k in (4, 8)]
        for i in range(24)
    }
    slow = slow_lattice(z, near, published.__getitem__)
    assert slow[1] == 24 * 13 * 3
    rows = origin(torch.arange(4).repeat_interleave(2).expand(3, -1), 2)
    check(z, lattice.map_pairs(rows, across_volumes=True), near, slow, 24 * 13)


def test_equal_features_cost_the_logarithm_of_what_is_compared():
    near = lattice.neighbours(lattice.lattice_corners((6, 6), 1), 5)
    alike = lattice.map_pairs(origin(torch.zeros(1, 2, dtype=torch.long), 2), across_volumes=False)
    z = torch.ones(2, 13, 3)
    fast = lattice.lattice_contrast(z, alike, near, T, per_map=False)
    assert float(fast) == pytest.approx(math.log(1 + 10), rel=1e-5)
    assert lattice.collapsed(alike, 5, per_map=False) == pytest.approx(math.log(11))
    assert lattice.collapsed(alike, 5, per_map=True) == pytest.approx(math.log(11))
