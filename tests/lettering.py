"""Pictures like slices of a CT, and text burned into them."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont


def body(shape_RC=(160, 192), seed=0):
    """Return a CT-like picture: a bright oval with noise in air."""
    rows, columns = np.indices(shape_RC)
    height, width = shape_RC
    oval = ((rows / height - 0.5) / 0.4) ** 2 + ((columns / width - 0.5) / 0.45) ** 2 < 1
    noise = np.random.default_rng(seed).normal(0, 15, shape_RC)
    return (np.where(oval, 40, -1000) + noise).astype(np.int16)


def drawn(picture_RC, text, size=12, value=1500):
    """Return a copy with ``text`` written into its upper left corner."""
    letters = Image.new("L", picture_RC.shape[::-1])
    ImageDraw.Draw(letters).text((3, 3), text, fill=255, font=ImageFont.load_default(size))
    return np.where(np.asarray(letters) > 127, value, picture_RC).astype(picture_RC.dtype)
