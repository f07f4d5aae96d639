"""One self-contained HTML page: what was kept, what went, why, and beside what."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from medssl.curation.splits import SPLITS
from medssl.errors import MedSSLError
from medssl.library.page import write_page
from medssl.library.pictures import data_uri
from medssl.library.volumes import read_picture

Row = Mapping[str, Any]


def write_report(
    path: Path, library: Path, kept: Sequence[Row], excluded: Sequence[Row], pictures: int
) -> None:
    """Write the page, pictures included; it names volumes and patients by their pseudonyms only.

    Args:
        path: The HTML file.
        library: Where the volumes are read from.
        kept: Rows of ``kept.parquet``.
        excluded: Rows of ``excluded.parquet``.
        pictures: How many kept volumes are shown at most, and how many excluded ones.
    """
    picture = lru_cache(maxsize=None)(partial(_picture, library))
    shown = _spread(kept, pictures)
    copies = [row for row in excluded if row["representative_key"]][:pictures]
    ruled_out = [row for row in excluded if not row["representative_key"]][:pictures]
    write_page(
        path,
        "medssl.curation",
        kept=kept,
        excluded=excluded,
        shown={split: [row for row in shown if row["split"] == split] for split in SPLITS},
        copies=copies,
        ruled_out=ruled_out,
        reasons=Counter(row["reason_code"] for row in excluded).most_common(),
        table=_counts(kept),
        splits=SPLITS,
        picture=picture,
    )


def _counts(kept: Sequence[Row]) -> list[tuple[str, list[int]]]:
    """Return (modality, volumes per split and in all), then patients and groups."""
    rows = [
        (m, [r for r in kept if r["modality"] == m]) for m in sorted({r["modality"] for r in kept})
    ]
    lines = [(f"{modality} volumes", _per_split(part, "volume_key")) for modality, part in rows]
    lines.append(("patients", _per_split(kept, "patient_key")))
    lines.append(("groups that stay together", _per_split(kept, "group_key")))
    return lines


def _per_split(rows: Sequence[Row], column: str) -> list[int]:
    in_split = [{row[column] for row in rows if row["split"] == split} for split in SPLITS]
    return [*map(len, in_split), len({row[column] for row in rows})]


def _spread(rows: Sequence[Row], most: int) -> list[Row]:
    """Return at most ``most`` rows, every split with its share, evenly spread over each."""
    ordered = sorted(rows, key=lambda row: (SPLITS.index(row["split"]), row["volume_key"]))
    if len(ordered) <= most:
        return ordered
    return [ordered[n * len(ordered) // most] for n in range(most)]


def _picture(library: Path, volume_key: str) -> str:
    try:
        return data_uri(read_picture(library, volume_key))
    except MedSSLError:  # a damaged file: the page says so in its place
        return ""
