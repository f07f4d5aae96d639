"""Vectors of studies and reports on disk, and what is nearest to a vector.

    FOLDER/vectors.parquet   one row per study
    FOLDER/index.json        which model made them; written last

Every row is compared, unless faiss made an index as well: a million vectors of 512 numbers are 2 GB
and one product of matrices.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from medssl.errors import InputError
from medssl.evaluation.paired.fast_index import Kind, nearest_rows, read_fast, write_fast
from medssl.evaluation.paired.studies import Embedded
from medssl.evaluation.paired.subject import Subject
from medssl.runs.folder import atomic_path, read_json, write_json

FORMAT_VERSION: Final = 1
VECTORS, INDEX = "vectors.parquet", "index.json"
Among = Literal["images", "reports"]
_SCHEMA: Final = pa.schema(
    [
        ("study_key", pa.string()),
        ("patient_key", pa.string()),
        ("image", pa.list_(pa.float32())),
        ("text", pa.list_(pa.float32())),
    ]
)


class Hit(NamedTuple):
    """A study that was found."""

    study_key: str
    cosine: float


class Index(NamedTuple):
    """Vectors that can be searched."""

    study_keys: tuple[str, ...]
    patient_keys: tuple[str, ...]
    image_ND: NDArray[np.float32]
    text_ND: NDArray[np.float32]
    """NaN for a study without a report."""
    subject_digest: str
    """Of the model that made them."""
    fast: Mapping[str, Any] = MappingProxyType({})
    """Indexes of faiss, of images and reports; empty where every row is compared."""

    def nearest(
        self, query_D: NDArray[np.float64], among: Among, k: int, hidden: str | None = None
    ) -> list[Hit]:
        """Return the k studies whose images, or reports, are nearest to a vector; nearest first.

        Args:
            query_D: Of unit length.
            among: What of the studies is compared.
            k: How many, at most.
            hidden: A study that is not to be found, such as the one that is asked with.
        """
        if self.fast:
            return self._nearly_nearest(query_D, among, k, hidden)
        rows_ND = self.image_ND if among == "images" else self.text_ND
        cosine_N = (rows_ND @ query_D.astype(np.float32)).astype(np.float64)
        cosine_N[[key == hidden for key in self.study_keys]] = np.nan
        order = np.argsort(-cosine_N, kind="stable")[: min(k, int(np.isfinite(cosine_N).sum()))]
        return [Hit(self.study_keys[n], float(cosine_N[n])) for n in order]

    def _nearly_nearest(
        self, query_D: NDArray[np.float64], among: Among, k: int, hidden: str | None
    ) -> list[Hit]:
        if among not in self.fast:  # no study has a report
            return []
        rows, cosines = nearest_rows(self.fast[among], query_D, k + (hidden is not None))
        hits = [
            Hit(self.study_keys[row], float(cosine))
            for row, cosine in zip(rows, cosines, strict=True)
        ]
        return [hit for hit in hits if hit.study_key != hidden][:k]

    def row(self, study_key: str) -> int:
        """Return the row of a study.

        Raises:
            InputError: There is no such study.
        """
        if study_key not in self.study_keys:
            raise InputError(
                "the index has no study of that key",
                hint=f"keys stand in the column study_key of {VECTORS}",
            )
        return self.study_keys.index(study_key)


def write_index(folder: Path, subject: Subject, found: Embedded, kind: Kind = "exact") -> None:
    """Write the vectors of studies, whole or not at all.

    Args:
        folder: Where.
        subject: Which model made them.
        found: The studies.
        kind: What is to find the nearest.

    Raises:
        InputError: It is one of faiss, which is not installed.
    """
    rows = [
        {
            "study_key": pair.study_key,
            "patient_key": pair.patient_key,
            "image": image_D.tolist(),
            "text": None if np.isnan(text_D).any() else text_D.tolist(),
        }
        for pair, image_D, text_D in zip(found.pairs, found.image_ND, found.text_ND, strict=True)
    ]
    with atomic_path(folder / VECTORS) as partial:
        pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), partial)
    sides = {
        "images": found.image_ND.astype(np.float32),
        "reports": found.text_ND.astype(np.float32),
    }
    about = {
        "format_version": FORMAT_VERSION,
        "subject_digest": subject.digest,
        "studies": len(rows),
        "kind": kind,
        "fast": {} if kind == "exact" else write_fast(folder, kind, sides),
    }
    write_json(folder / INDEX, about)


def read_index(folder: Path) -> Index:
    """Return the vectors that :func:`write_index` wrote.

    Raises:
        InputError: There are none, or they are damaged or of another format, or need faiss, which
            is not installed.
    """
    if not (folder / INDEX).is_file():
        raise InputError(
            f"{folder}: no {INDEX}, so there is nothing to search here",
            hint="make an index with `medssl embed`",
        )
    try:
        about = read_json(folder / INDEX)
        version, digest = about["format_version"], str(about["subject_digest"])
        fast = dict(about.get("fast", {}))  # one from before there was faiss has none
        rows = pq.read_table(folder / VECTORS, schema=_SCHEMA).to_pylist()
        image_ND = np.array([row["image"] for row in rows], np.float32)
        nothing = [np.nan] * image_ND.shape[1]
        text_ND = np.array([row["text"] or nothing for row in rows], np.float32)
    except (
        json.JSONDecodeError,
        KeyError,
        ValueError,
        IndexError,
        pa.ArrowException,
        OSError,
    ) as e:
        raise InputError(
            f"{folder}: the index cannot be read ({type(e).__name__})",
            hint="make it again with `medssl embed`",
        ) from None
    if version != FORMAT_VERSION:
        raise InputError(
            f"{folder}: the index has format {version}, this version of medssl reads format "
            f"{FORMAT_VERSION}",
            hint="make it again with `medssl embed`",
        )
    return Index(
        tuple(row["study_key"] for row in rows),
        tuple(row["patient_key"] for row in rows),
        image_ND,
        text_ND,
        digest,
        read_fast(folder, fast) if fast else {},
    )
