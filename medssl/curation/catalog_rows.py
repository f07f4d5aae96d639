"""The catalog row by row, read from Arrow when asked: a million rows stay below a gigabyte."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from medssl.curation.rules.base import CatalogRow
from medssl.library.catalog import read_catalog_table

_ROWS_AT_ONCE = 16_384
_FEW_WORDS = 100_000
_WORDS = frozenset(
    ("patient_key", "study_key", "series_key", "modality", "intensity", "image_type",
     "manufacturer", "scanner_key")
)  # fmt: skip

Places = NDArray[np.int64]


class CatalogRows(Sequence[CatalogRow]):
    """Rows of the catalog in the order of their volume keys.

    ``rows[n]`` is a view: it reads a value when it is asked for one. Words that are not known are
    empty, other values that are not known are None.
    """

    def __init__(self, table: pa.Table) -> None:
        keys = table["volume_key"].to_pylist()
        if any(a >= b for a, b in pairwise(keys)):
            table = table.sort_by("volume_key")
            keys = table["volume_key"].to_pylist()
        self._columns = {name: _whole(table[name]) for name in table.column_names}
        self._places: Places | None = None  # in the columns; None: all of them
        self.keys: list[str] = keys
        """Volume keys, sorted."""
        self.place_of: Mapping[str, int] = {key: n for n, key in enumerate(keys)}
        """Where in the whole table a volume stands, also one that is not among these rows."""

    @classmethod
    def read(cls, library: Path) -> "CatalogRows":
        """Return all rows of a library's catalog.

        Raises:
            InputError: as ``read_catalog_table``.
        """
        return cls(read_catalog_table(library))

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, place: int) -> CatalogRow: ...
    @overload
    def __getitem__(self, place: slice) -> list[CatalogRow]: ...
    def __getitem__(self, place: int | slice) -> CatalogRow | list[CatalogRow]:
        if isinstance(place, slice):
            return [self.row(key) for key in self.keys[place]]
        return self.row(self.keys[place])

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self._columns)

    def row(self, key: str) -> CatalogRow:
        """Return the row of a volume."""
        return _View(self._columns, self.place_of[key])

    def column(self, name: str) -> pa.Array:
        """Return one column as it is stored, in the order of ``keys``."""
        column = self._columns[name]
        return column if self._places is None else column.take(pa.array(self._places))

    def values(self, name: str) -> list[Any]:
        """Return one column as Python's own values, in the order of ``keys``."""
        values: list[Any] = self.column(name).to_pylist()
        return values

    def words(self, name: str) -> Mapping[str, str]:
        """Return a column of words by volume key, read when asked; equal ones are one object."""
        return _Words(self._columns[name], self.place_of, self.keys)

    def among(self, keys: Collection[str]) -> "CatalogRows":
        """Return the rows of ``keys`` alone; values are not copied."""
        if len(keys) == len(self):
            return self
        some = CatalogRows.__new__(CatalogRows)
        some._columns, some.place_of = self._columns, self.place_of
        some.keys = sorted(keys)
        some._places = np.fromiter(map(self.place_of.__getitem__, some.keys), np.int64, len(keys))
        return some

    def dicts(self) -> Iterator[dict[str, Any]]:
        """Yield all rows as dictionaries: quicker than views where every column is looked at."""
        table = pa.table(self._columns)
        places = np.arange(len(table)) if self._places is None else self._places
        for start in range(0, len(places), _ROWS_AT_ONCE):
            part = table.take(pa.array(places[start : start + _ROWS_AT_ONCE]))
            for row in part.to_pylist():
                yield {name: _plain(name, value) for name, value in row.items()}


class _View(Mapping[str, Any]):
    """One row."""

    __slots__ = ("_columns", "_place")

    def __init__(self, columns: Mapping[str, pa.Array], place: int) -> None:
        self._columns, self._place = columns, place

    def __getitem__(self, name: str) -> Any:
        return _plain(name, self._columns[name][self._place].as_py())

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


class _Words(Mapping[str, str]):
    """A column of words by volume key; a few words, or as many as there are volumes."""

    def __init__(self, column: pa.Array, place_of: Mapping[str, int], keys: Sequence[str]) -> None:
        self._place_of, self._keys, self._column = place_of, keys, column
        found = column.dictionary_encode()
        self._words: list[str] | None = None
        if len(found.dictionary) <= max(_FEW_WORDS, len(column) // 2):
            self._words = [*(word or "" for word in found.dictionary.to_pylist()), ""]
            self._numbers = pc.fill_null(found.indices, -1).to_numpy()

    def __getitem__(self, key: str) -> str:
        place = self._place_of[key]
        if self._words is None:
            return str(self._column[place].as_py() or "")
        word: str = self._words[self._numbers[place]]
        return word

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _plain(name: str, value: Any) -> Any:
    """Return None, or an empty word, where nothing is known."""
    if value is None or value != value:  # noqa: PLR0124  not a number
        return "" if name in _WORDS else None
    return value
