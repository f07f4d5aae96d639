"""A pair: the images of one study and the report that was written about them.

    PAIRS/pairs.parquet   one row per study, in the order of their keys
    PAIRS/pairs.json      format version, digest, findings that labels are about; written last

Texts are stored without identifiers; whoever writes pairs sees to that.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, ValidationError, field_validator

from medssl.config.base import Config
from medssl.errors import InputError
from medssl.runs.folder import atomic_path, read_json, write_json

FORMAT_VERSION: Final = 1
PAIRS, INDEX = "pairs.parquet", "pairs.json"
SECTIONS: Final = ("findings", "impression")
"""What a report says of its images; other sections say why they were taken, or how."""
PRESENT, ABSENT, UNCERTAIN = 1, 0, -1
_SCHEMA: Final = pa.schema(
    [
        ("study_key", pa.string()),
        ("patient_key", pa.string()),
        ("split", pa.string()),
        ("volume_keys", pa.list_(pa.string())),
        ("sections", pa.list_(pa.struct([("name", pa.string()), ("text", pa.string())]))),
        ("labels", pa.list_(pa.struct([("finding", pa.string()), ("value", pa.int8())]))),
        ("normal", pa.bool_()),
    ]
)
_NOT_WORDS: Final = re.compile(r"[^\w]+")


class Section(Config):
    """A part of a report."""

    name: str
    """``findings``, ``impression``, ...; ``body`` for a report without headers."""
    text: str
    """What stands there, without identifiers."""


class Pair(Config):
    """One study: which volumes show it, and what its report says."""

    study_key: str
    """The study's pseudonym."""
    patient_key: str
    """The patient's."""
    split: Literal["train", "val", "test"]
    """As the selection drew it, for all of the patient's studies."""
    volume_keys: tuple[str, ...]
    """Its volumes in the crop store, at least one."""
    sections: tuple[Section, ...]
    """In the report's order."""
    labels: dict[str, Literal[1, 0, -1]] = Field(default_factory=dict)
    """Finding: 1 present, 0 absent, -1 uncertain; one that is not spoken of is not there."""
    normal: bool | None = None
    """Whether the report finds nothing; None where that is not known."""

    @field_validator("volume_keys")
    @classmethod
    def _something_to_see(cls, keys: tuple[str, ...]) -> tuple[str, ...]:
        if not keys:
            raise ValueError("a pair needs at least one volume")
        return keys

    def text(self, sections: Sequence[str] = SECTIONS) -> str:
        """Return the text of the named sections, or of all where the report has none of them."""
        named = [part.text for part in self.sections if part.name in sections]
        return "\n".join(named or [part.text for part in self.sections])


@dataclass(frozen=True)
class PairSet:
    """The pairs of one folder."""

    pairs: tuple[Pair, ...]
    findings: tuple[str, ...]
    """What labels may be about, in a fixed order."""
    digest: str
    """SHA-256 (hex) of all of it."""

    def split(self, name: str | None) -> tuple[Pair, ...]:
        """Return the pairs of one split, or all of them."""
        return tuple(pair for pair in self.pairs if name in (None, pair.split))


def text_digest(text: str) -> str:
    """Return the SHA-256 (hex) of a text's words: case, marks and spaces do not count."""
    words = _NOT_WORDS.sub(" ", unicodedata.normalize("NFKC", text)).casefold().split()
    return hashlib.sha256(" ".join(words).encode()).hexdigest()


def write_pairs(folder: Path, pairs: Iterable[Pair], findings: Sequence[str], **about: Any) -> str:
    """Write pairs, whole or not at all, and return their digest.

    Args:
        folder: Where; made if it is missing.
        pairs: Studies, each once.
        findings: What labels may be about.
        about: JSON values for whoever looks at the folder later.

    Raises:
        ValueError: A study comes twice, or a label is about something else.
    """
    ordered = sorted(pairs, key=lambda pair: pair.study_key)
    if len({pair.study_key for pair in ordered}) < len(ordered):
        raise ValueError("a study comes twice")
    strange = {name for pair in ordered for name in pair.labels} - set(findings)
    if strange:
        raise ValueError(f"labels about {', '.join(sorted(strange))}, which is no finding")
    rows = [_row(pair) for pair in ordered]
    with atomic_path(folder / PAIRS) as partial:
        pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), partial)
    digest = _digest(ordered, findings)
    index = {"format_version": FORMAT_VERSION, "digest": digest, "pairs": len(ordered)}
    write_json(folder / INDEX, {**index, "findings": list(findings), **about})
    return digest


def read_pairs(folder: Path) -> PairSet:
    """Return the pairs that :func:`write_pairs` wrote.

    Raises:
        InputError: There are none, or they are damaged or of another format.
    """
    if not (folder / INDEX).is_file():
        raise InputError(
            f"{folder}: no {INDEX}, so there are no finished pairs here",
            hint="make them with `medssl reports pair`",
        )
    try:
        index = read_json(folder / INDEX)
        if index["format_version"] != FORMAT_VERSION:
            raise InputError(
                f"{folder}: the pairs have format {index['format_version']}, this version of "
                f"medssl reads format {FORMAT_VERSION}",
                hint="make them again with `medssl reports pair`",
            )
        pairs = tuple(_pair(row) for row in pq.read_table(folder / PAIRS).to_pylist())
        findings = tuple(index["findings"])
        whole = _digest(pairs, findings) == index["digest"]
    except (KeyError, TypeError, ValueError, ValidationError, pa.ArrowException, OSError) as error:
        raise InputError(
            f"{folder}: the pairs cannot be read ({type(error).__name__})",
            hint="make them again with `medssl reports pair`",
        ) from None
    if not whole:
        raise InputError(
            f"{folder}: {PAIRS} is not what {INDEX} describes",
            hint="make the pairs again with `medssl reports pair`",
        )
    return PairSet(pairs, findings, index["digest"])


def _row(pair: Pair) -> dict[str, Any]:
    labels = [{"finding": name, "value": value} for name, value in sorted(pair.labels.items())]
    return {**pair.model_dump(), "labels": labels}


def _pair(row: dict[str, Any]) -> Pair:
    return Pair.model_validate({**row, "labels": {e["finding"]: e["value"] for e in row["labels"]}})


def _digest(pairs: Iterable[Pair], findings: Sequence[str]) -> str:
    digest = hashlib.sha256(json.dumps(list(findings)).encode())
    for pair in pairs:
        digest.update(b"\n" + json.dumps(_row(pair), sort_keys=True).encode())
    return digest.hexdigest()
