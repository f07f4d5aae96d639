"""One case as it is judged: what the models see, and what they are compared with."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from medssl.io.volume import Volume
from medssl.labelled.cases import LabelledCase, read_image, read_pair


class Exam(NamedTuple):
    """An image on its own grid, and its label map where the task has one."""

    volume: Volume
    label_IJK: NDArray[np.uint8] | None = None


def read_exam(case: LabelledCase, modality: str, *, labelled: bool) -> Exam:
    """Return a case's image, and with ``labelled`` its label map.

    Raises:
        RejectedFileError: One of them cannot be read.
    """
    return Exam(*read_pair(case, modality)) if labelled else Exam(read_image(case, modality))
