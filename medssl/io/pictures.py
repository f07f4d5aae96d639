"""PNG and JPEG files as grey pixels."""

import io
import warnings
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medssl.io.untrusted import untrusted

PICTURES: Final = (".png", ".jpg", ".jpeg")

DEEP: Final = ("I;16", "I;16B", "I;16L", "I")
"""Pillow's modes of grey pictures of 16 bits."""


def open_picture(path: Path) -> Image.Image:
    """Return a picture, decoded, in Pillow's mode of the file.

    Raises:
        RejectedFileError: It is damaged, of another kind, or larger than Pillow allows.
    """
    with untrusted("undecodable_pixels"), warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        picture = Image.open(io.BytesIO(path.read_bytes()), formats=("PNG", "JPEG"))
        picture.load()
        return picture


def read_grey(path: Path) -> NDArray[Any]:
    """Return the pixels of a picture, rows downwards, as uint8, or uint16 where it has 16 bits.

    Colours become luminance (ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B), and transparency is
    dropped.

    Raises:
        RejectedFileError: As :func:`open_picture`.
    """
    picture = open_picture(path)
    if picture.mode in DEEP:
        return np.asarray(picture).astype(np.uint16)  # Pillow's mode I: 16 bits in 32
    # P, PA and CMYK have no way to grey but through colours
    coloured = picture.mode in ("P", "PA", "RGBA", "CMYK")
    return np.asarray((picture.convert("RGB") if coloured else picture).convert("L"))
