"""A whole array as the region of a volume that is no larger."""

from medssl.data.views import Region


def whole(array_IJK):
    return Region(array_IJK, (0, 0, 0), array_IJK.shape)
