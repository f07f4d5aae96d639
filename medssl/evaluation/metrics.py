"""Dice of maps of class numbers."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medssl.evaluation.intervals import Estimate, mean_over_patients

__all__ = ["Estimate", "dice_per_class", "mean_over_patients"]


def dice_per_class(
    predicted_IJK: NDArray[Any], reference_IJK: NDArray[Any], classes: int
) -> NDArray[np.float64]:
    """Return Dice, ``2 |P and R| / (|P| + |R|)``, of every class but the background.

    A class that the reference does not hold has no Dice and gives NaN, whatever was predicted:
    0 and 1 would both say more than one empty case can. What was predicted there is counted in
    the table of cases instead.

    Args:
        predicted_IJK: Class numbers.
        reference_IJK: Class numbers on the same grid.
        classes: How many, with the background.
    """
    found = np.full(classes - 1, np.nan)
    for number in range(1, classes):  # a mask per class at once would need memory for all
        p_IJK, r_IJK = predicted_IJK == number, reference_IJK == number
        if size := np.count_nonzero(r_IJK):
            both = np.count_nonzero(p_IJK & r_IJK)
            found[number - 1] = 2 * both / (np.count_nonzero(p_IJK) + size)
    return found
