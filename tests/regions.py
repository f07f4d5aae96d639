"""Arrays as regions: of a volume that is no larger, or where the parts of a sample lie."""

from medssl.data.views import Region, joined


def whole(array_IJK):
    return Region(array_IJK, (0, 0, 0), array_IJK.shape)


def placed(array_IJK, bands):
    """The region in the middle of its bands, of a volume 16 times as long."""
    shape = tuple(16 * n for n in array_IJK.shape)
    axes = zip(bands, shape, array_IJK.shape, strict=True)
    start = tuple(round(sum(band) / 2 * size - n / 2) for band, size, n in axes)
    return Region(array_IJK, start, shape)


def sample_of(views, rng, look):
    """A sample as the data path makes it, of regions that ``look(rng, shape)`` draws."""
    regions = [look(rng, views.region_voxels) for _ in range(views.parts)]
    if views.parts == 1:
        return views.cut(whole(regions[0]), views.draw(rng))
    return joined(
        [
            views.cut(placed(region, views.band(part)), views.draw(rng))
            for part, region in enumerate(regions)
        ]
    )
