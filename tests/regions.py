"""Arrays as regions: of a volume that is no larger, or where the parts of a sample lie."""

from medssl.data.views import Region, SequenceCrop, joined


def whole(array_IJK):
    return Region(array_IJK, (0, 0, 0), array_IJK.shape)


def in_sequences(*arrays, contrasts=(None, None), limits=(0.0, 1.0)):
    """The region as several volumes of its group show it."""
    crops = [SequenceCrop(*pair, limits) for pair in zip(arrays, contrasts, strict=True)]
    return whole(arrays[0])._replace(sequences=tuple(crops))


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
        region = whole(regions[0])
        if views.sequences > 1:
            region = in_sequences(*(regions[0] ** power for power in (1, 0.5)))
        return views.cut(region, views.draw(rng))
    return joined(
        [
            views.cut(placed(region, views.band(part)), views.draw(rng))
            for part, region in enumerate(regions)
        ]
    )
