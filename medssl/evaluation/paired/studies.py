"""Studies and their reports as vectors: a row a study, kept on disk, never made twice."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from medssl.data.store import CropStore
from medssl.data.views import Sample
from medssl.errors import InputError
from medssl.evaluation.paired.subject import Subject
from medssl.reports.pairs import Pair, text_digest
from medssl.runs.digest import digest_json
from medssl.runs.folder import atomic_path
from medssl.runs.progress import task

Floats = NDArray[np.float64]
AT_ONCE: Final = 16
"""Studies that are embedded together and written to one file."""
KEY_LENGTH: Final = 16
_SCHEMA: Final = pa.schema(
    [
        ("study_key", pa.string()),
        ("image", pa.list_(pa.float32())),
        ("text", pa.list_(pa.float32())),
        ("reason", pa.string()),
    ]
)


class LeftOut(NamedTuple):
    """A study that could not be embedded."""

    study_key: str
    reason: str


class Embedded(NamedTuple):
    """Studies as vectors, in the order of ``pairs``."""

    pairs: tuple[Pair, ...]
    image_ND: Floats
    """Unit vectors."""
    text_ND: Floats
    """Unit vectors of reports; NaN for a study whose report says nothing."""
    left_out: tuple[LeftOut, ...]

    @property
    def patients(self) -> tuple[str, ...]:
        """Whose each row is."""
        return tuple(pair.patient_key for pair in self.pairs)

    def with_text(self) -> "Embedded":
        """Return the rows that have a report."""
        return self.rows(np.flatnonzero(~np.isnan(self.text_ND).any(axis=1)))

    def rows(self, chosen: NDArray[np.int64]) -> "Embedded":
        """Return some rows."""
        return Embedded(
            tuple(self.pairs[n] for n in chosen),
            self.image_ND[chosen],
            self.text_ND[chosen],
            self.left_out,
        )


class Views(NamedTuple):
    """Volumes of studies as vectors, each on its own."""

    image_VD: Floats
    """Unit vectors."""
    study_V: NDArray[np.int64]
    """The row of the study that each is of."""


def report_digests(pairs: Sequence[Pair], sections: Sequence[str]) -> list[str]:
    """Return a digest of the words of each report, equal where reports say the same."""
    return [text_digest(pair.text(sections)) for pair in pairs]


def embed_studies(
    subject: Subject, store: CropStore, pairs: Sequence[Pair], cache: Path
) -> Embedded:
    """Return the vectors of studies and of their reports.

    A study whose volumes are not in the store, or damaged, is left out with the reason.

    Args:
        subject: The model.
        store: Where the images are.
        pairs: Which studies.
        cache: Folder that vectors are kept in, apart for every model, store and list of studies;
            those that an earlier run left are taken from there.

    Raises:
        InputError: The store has another spacing than the model, or no study can be embedded.
    """
    subject.check_store(store)
    asked = [pair.model_dump(mode="json") for pair in pairs]
    folder = cache / digest_json([subject.digest, store.digest, asked])[:KEY_LENGTH]
    starts, rows = range(0, len(pairs), AT_ONCE), list[dict[str, Any]]()
    with task("embed studies", len(pairs)) as progress:
        for number, start in enumerate(starts):
            some = pairs[start : start + AT_ONCE]
            rows += _kept(folder / f"{number:05d}.parquet", some, subject, store)
            progress.advance(len(some))
    return _joined(pairs, rows)


def embed_views(subject: Subject, store: CropStore, found: Embedded, cache: Path) -> Views:
    """Return the vectors of all volumes, series or pictures, of studies that could be embedded.

    Args:
        subject: The model.
        store: Where the images are.
        found: The studies.
        cache: As for :func:`embed_studies`.

    Raises:
        InputError: A volume can no longer be read.
    """
    alone = [
        (row, pair.model_copy(update={"volume_keys": (key,), "sections": ()}))
        for row, pair in enumerate(found.pairs)
        for key in pair.volume_keys
    ]
    if len(alone) == len(found.pairs):
        return Views(found.image_ND, np.arange(len(alone)))
    seen = embed_studies(subject, store, [pair for _, pair in alone], cache)
    if seen.left_out:
        raise InputError(f"a volume can no longer be read: {seen.left_out[0].reason}")
    return Views(seen.image_ND, np.array([row for row, _ in alone], np.int64))


def _kept(
    path: Path, pairs: Sequence[Pair], subject: Subject, store: CropStore
) -> list[dict[str, Any]]:
    """Return the rows of a file, which is written first where it is missing or damaged."""
    try:
        rows: list[dict[str, Any]] = pq.read_table(path, schema=_SCHEMA).to_pylist()
    except (pa.ArrowException, OSError):
        rows = []
    if [row["study_key"] for row in rows] == [pair.study_key for pair in pairs]:
        return rows
    rows = _rows(pairs, subject, store)
    with atomic_path(path) as partial:
        pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), partial)
    return rows


@torch.inference_mode()
def _rows(pairs: Sequence[Pair], subject: Subject, store: CropStore) -> list[dict[str, Any]]:
    read = [_read(subject, store, pair) for pair in pairs]
    looks = [sample for sample in read if not isinstance(sample, str)]
    images = iter(subject.embed_looks(looks).float().cpu().tolist() if looks else [])
    sections = subject.model.config.reading.sections
    texts = [pair.text(sections).strip() for pair in pairs]
    told = [text for text in texts if text]
    vectors = iter(subject.embed_words(told).tolist() if told else [])
    return [
        {
            "study_key": pair.study_key,
            "image": None if isinstance(sample, str) else next(images),
            "text": next(vectors) if text else None,
            "reason": sample if isinstance(sample, str) else None,
        }
        for pair, sample, text in zip(pairs, read, texts, strict=True)
    ]


def _read(subject: Subject, store: CropStore, pair: Pair) -> list[Sample] | str:
    """Return the views of a study, or why there are none."""
    missing = sum(key not in store for key in pair.volume_keys)
    if missing:
        return f"{missing} of {len(pair.volume_keys)} volumes are not in the store"
    try:
        return subject.look(store, pair)
    except InputError as error:
        return error.problem


def _joined(pairs: Sequence[Pair], rows: Sequence[dict[str, Any]]) -> Embedded:
    kept = [n for n, row in enumerate(rows) if row["reason"] is None]
    left_out = tuple(LeftOut(row["study_key"], row["reason"]) for row in rows if row["reason"])
    if not kept:
        why = f", the first because {left_out[0].reason}" if left_out else ""
        raise InputError(
            f"none of the {len(pairs)} studies could be embedded{why}",
            hint="give the crop store that the pairs were made for, and a split that has studies",
        )
    image_ND = np.array([rows[n]["image"] for n in kept], np.float64)
    nothing = [np.nan] * image_ND.shape[1]
    text_ND = np.array([rows[n]["text"] or nothing for n in kept], np.float64)
    return Embedded(tuple(pairs[n] for n in kept), image_ND, text_ND, left_out)
