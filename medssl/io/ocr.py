"""Text burned into the pixels, as screens and scanned pages have it: found by reading it.

Optional, since it costs half a second per scan and a package: ``pip install 'medssl[ocr]'``. The
models lie in that package; nothing is fetched, and what is read is neither kept nor told.
"""

from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medssl.errors import InputError
from medssl.io.geometry import to_closest_ras
from medssl.io.narrow import VoxelArray
from medssl.io.volume import Volume

LEAST_SCORE = 0.7
"""How sure of a line the recogniser must be, from 0 to 1."""

LEAST_CHARACTERS = 3
"""Letters and digits in a line. On scans without text an outline is often taken for an O or a 2,
with any confidence; nothing longer was, with more than 0.6. A lone R or L names nobody."""

_LEAST_SIDE_PIXELS = 16
_SHOWN_PERCENTILES = (0.5, 99.5)
_DETECTOR, _RECOGNISER = "PP-OCRv6_det_small.onnx", "PP-OCRv6_rec_small.onnx"


def check_installed() -> None:
    """Raise unless text can be looked for here.

    Raises:
        InputError: a package is missing, or has come without its models.
    """
    if any(find_spec(package) is None for package in ("rapidocr", "onnxruntime")):
        raise InputError(
            "ocr: finding text in images needs packages that are not installed here",
            hint="pip install 'medssl[ocr]'",
        )
    if not all((_models() / name).is_file() for name in (_DETECTOR, _RECOGNISER)):
        raise InputError(
            "ocr: the installed rapidocr holds other models than those known to work",
            hint="pip install 'rapidocr==3.10.0'",
        )


def shows_text(volume: Volume, *, as_stored: bool) -> bool:
    """Return whether the first, the middle or the last slice of ``volume`` shows text.

    Args:
        volume: a scan.
        as_stored: its axes are column, row and slice as the images are meant to be shown; else
            they are shown the way radiologists look at them, the patient's right at the left.
    """
    if not as_stored:
        volume = to_closest_ras(volume)
    count = volume.shape[volume.slice_axis]
    for index in sorted({0, count // 2, count - 1}):
        picture = np.take(volume.array_IJK, index, axis=volume.slice_axis).T
        if text_shown(picture if as_stored else picture[::-1, ::-1]):
            return True
    return False


def text_shown(picture_RC: VoxelArray) -> bool:
    """Return whether a picture, (rows, columns) and upright, shows a line of text.

    A line counts that has at least ``LEAST_CHARACTERS`` letters or digits and that was read with
    at least ``LEAST_SCORE``.
    """
    if min(picture_RC.shape) < _LEAST_SIDE_PIXELS:
        return False
    low, high = np.percentile(picture_RC, _SHOWN_PERCENTILES)
    if low == high:  # nothing, or a few pixels on nothing
        low, high = picture_RC.min(), picture_RC.max()
    if low == high:
        return False
    found = _reader()(_grey(picture_RC, float(low), float(high)))
    lines = zip(found.txts or (), found.scores or (), strict=True)
    return any(
        score >= LEAST_SCORE and sum(map(str.isalnum, text)) >= LEAST_CHARACTERS
        for text, score in lines
    )


def _grey(picture: VoxelArray, low: float, high: float) -> NDArray[np.uint8]:
    shown = (np.clip(picture.astype(np.float32), low, high) - low) * (255 / (high - low))
    return np.repeat(shown.astype(np.uint8)[..., None], 3, axis=-1)


def _models() -> Path:
    return Path(str(files("rapidocr")), "models")


@cache
def _reader() -> Any:
    """Return the reader, on one core; by default it fetches models, talks, and takes all cores."""
    from rapidocr import RapidOCR

    engine = "EngineConfig.onnxruntime"
    return RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.use_cls": False,
            "Global.text_score": LEAST_SCORE,
            "Det.model_path": str(_models() / _DETECTOR),
            "Rec.model_path": str(_models() / _RECOGNISER),
            f"{engine}.intra_op_num_threads": 1,
            f"{engine}.inter_op_num_threads": 1,
        }
    )
