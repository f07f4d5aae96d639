"""The catalog row by row, read from Arrow when asked: a million rows stay below a gigabyte."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import pyarrow as pa
import pyarrow.compute as pc

from medssl.curation.rules.base import CatalogRow
from medssl.library.catalog import read_catalog_table

_ROWS_AT_ONCE = 16_384
_WORDS = frozenset(
    ("patient_key", "study_key", "series_key", "modality", "intensity", "image_type",
     "manufacturer", "scanner_key")
)  # fmt: skip


class CatalogRows(Sequence[CatalogRow]):
    """Rows of the catalog in the order of their volume keys.

    ``rows[n]`` is a view: it reads a value when it is asked for one. Words that are not known are
    empty, other values that are not known are None.
    """

    def __init__(self, table: pa.Table) -> None:
        table = table.sort_by("volume_key")
        self._columns = {name: table[name].combine_chunks() for name in table.column_names}
        self.keys: list[str] = table["volume_key"].to_pylist()
        """Volume keys, sorted."""
        self.place_of = {key: n for n, key in enumerate(self.keys)}

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
            return [_View(self._columns, n) for n in range(*place.indices(len(self)))]
        return _View(self._columns, range(len(self))[place])

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self._columns)

    def row(self, key: str) -> CatalogRow:
        """Return the row of a volume."""
        return _View(self._columns, self.place_of[key])

    def column(self, name: str) -> pa.Array:
        """Return one column as it is stored, in the order of ``keys``."""
        return self._columns[name]

    def words(self, name: str) -> dict[str, str]:
        """Return a column of words by volume key; equal words are one object in memory."""
        column = self._columns[name].dictionary_encode()
        words = [word or "" for word in column.dictionary.to_pylist()]
        places = pc.fill_null(column.indices, -1).to_pylist()
        return {k: words[n] if n >= 0 else "" for k, n in zip(self.keys, places, strict=True)}

    def among(self, keys: Collection[str]) -> "CatalogRows":
        """Return the rows of ``keys`` alone."""
        if len(keys) == len(self):
            return self
        places = pa.array(sorted(self.place_of[key] for key in keys), pa.int64())
        return CatalogRows(pa.table({name: c.take(places) for name, c in self._columns.items()}))

    def dicts(self) -> Iterator[dict[str, Any]]:
        """Yield all rows as dictionaries: quicker than views where every column is looked at."""
        for batch in pa.table(self._columns).to_batches(max_chunksize=_ROWS_AT_ONCE):
            for row in batch.to_pylist():
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


def _plain(name: str, value: Any) -> Any:
    """Return None, or an empty word, where nothing is known."""
    if value is None or value != value:  # noqa: PLR0124  not a number
        return "" if name in _WORDS else None
    return value
