"""What is known about rows, as numbers: one class each, or several columns of yes and no."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from medssl.errors import InputError

_ANSWERS = {"0": 0.0, "1": 1.0}


class Targets(NamedTuple):
    """What the rows are asked for."""

    names: tuple[str, ...]
    """Of the classes, in the order of their names; or of the columns."""
    y_NC: NDArray[np.float64]
    """1 for yes, 0 for no, NaN where it is not known; one 1 a row where classes exclude each
    other."""
    exclusive: bool
    """Whether a row has one class; otherwise its columns are answered one by one."""

    def labels(self) -> NDArray[np.int64]:
        """Return the class of each row; there is one only where classes exclude each other."""
        if not self.exclusive:
            raise ValueError("rows with several columns have no one class")
        found: NDArray[np.int64] = self.y_NC.argmax(axis=1)
        return found

    def take(self, rows: NDArray[np.int64]) -> "Targets":
        """Return what is known about some rows."""
        return self._replace(y_NC=self.y_NC[rows])


def known_rows(values: Sequence[Mapping[str, str]], columns: Sequence[str]) -> NDArray[np.int64]:
    """Return the rows of which at least one of the columns is known."""
    return np.flatnonzero([any(row.get(column) for column in columns) for row in values])


def read_targets(values: Sequence[Mapping[str, str]], columns: Sequence[str]) -> Targets:
    """Return one column as classes, several as yes and no each.

    Args:
        values: Of each row: column -> what is written there; "" where it is not known.
        columns: Which of them.

    Raises:
        InputError: No row has such a column, a column says the same of all rows, or one of
            several holds something other than yes and no.
    """
    present = {column for row in values for column in row}
    missing = [column for column in columns if column not in present]
    if missing:
        raise InputError(
            f"no row has the column {missing[0]!r}; there are: {', '.join(sorted(present))}",
            hint="set `targets` to columns of the data set",
        )
    if len(columns) == 1:
        return _classes([row.get(columns[0], "") for row in values], columns[0])
    found = [_answers([row.get(column, "") for row in values], column) for column in columns]
    return Targets(tuple(columns), np.stack(found, axis=1), exclusive=False)


def _classes(words: Sequence[str], column: str) -> Targets:
    names = sorted(set(words) - {""})
    if len(names) < 2:  # noqa: PLR2004 - something to tell apart
        raise InputError(
            f"the column {column!r} holds {len(names)} class(es): there is nothing to tell apart",
            hint="choose a column in which rows differ",
        )
    y_NC = np.array([[word == name for name in names] if word else [np.nan] * len(names)
                     for word in words], np.float64)  # fmt: skip
    return Targets(tuple(names), y_NC, exclusive=True)


def _answers(words: Sequence[str], column: str) -> NDArray[np.float64]:
    strange = {word for word in words if word and word not in _ANSWERS}
    if strange:
        raise InputError(
            f"the column {column!r} holds {len(strange)} value(s) other than 0 and 1, and of "
            "several columns each must hold 0 or 1",
            hint="leave a cell empty where it is not known; a column of classes is asked alone",
        )
    found = np.array([_ANSWERS.get(word, np.nan) for word in words], np.float64)
    if len(np.unique(found[~np.isnan(found)])) < 2:  # noqa: PLR2004 - yes and no
        raise InputError(
            f"the column {column!r} says the same of all rows: there is nothing to tell apart",
            hint="leave it out of `targets`",
        )
    return found
