"""Arrays as regions: of a volume that is no larger, or where the parts of a sample lie."""

import numpy as np
from scipy.ndimage import gaussian_filter

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


def smooth_batch(spec, volumes=3, seed=1):
    """A batch of a spec, each sample from blobs of its own."""
    rng = np.random.default_rng(seed)
    samples = []
    for _ in range(volumes):
        noise = gaussian_filter(rng.standard_normal(spec.region_voxels), 2)
        region = ((noise - noise.min()) / np.ptp(noise)).astype(np.float32)
        samples.append(spec.cut(whole(region), spec.draw(rng)))
    return spec.collate(samples)
