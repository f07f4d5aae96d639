"""A small library with a selection, and reports about its studies."""

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from medssl.curation.selection import KEPT_COLUMNS, selection_folder
from medssl.io.deidentify import Pseudonymizer
from medssl.library.catalog import COLUMNS, write_catalog
from medssl.library.identity import claim_library
from medssl.library.outcomes import FileOutcome, write_outcomes
from medssl.reports.pair import PairConfig
from medssl.runs.manifest import Manifest, now

UIDS = tuple(f"1.2.826.0.1.{n}" for n in range(1, 7))
"""Studies: 0 to 3 in Hounsfield units, 4 in unknown ones, 5 not in the selection."""
SPLITS = ("train", "train", "val", "test", "train", "train")


def write_library(folder: Path) -> tuple[Path, Path]:
    """Return a library of one CT volume per study (study 0 has two), and its key file."""
    key_file, library = folder / "key", folder / "library"
    key = Pseudonymizer.from_key_file(key_file, create=True)
    claim_library(library, key.key_id)
    rows = [_row(key, n) for n in range(len(UIDS))] + [_row(key, 0, series=1)]
    write_catalog(library, rows, key.key_id)
    files = [
        FileOutcome(
            file_key=key.file_key(f"scans/{n}.nii.gz"),
            outcome="converted",
            volume_key=key.volume_key(str(n), "0"),
            bytes=1,
            source_format="nifti",
        )
        for n in range(len(UIDS))
    ]
    write_outcomes(library, files)
    kept = [_kept(row) for row in rows if row["study_key"] != key.study_key(UIDS[5])]
    selection = selection_folder(library, "main")
    selection.mkdir(parents=True)
    schema = pa.schema(KEPT_COLUMNS.items())
    pq.write_table(pa.Table.from_pylist(kept, schema=schema), selection / "kept.parquet")
    manifest = Manifest(
        stage="curate", status="finished", config={}, config_digest="", inputs={}, started_at=now()
    )
    manifest.write(selection)
    return library, key_file


def _row(key, n, series=0):
    known = {
        "volume_key": key.volume_key(str(n), str(series)),
        "patient_key": key.patient_key(f"patient {n}"),
        "study_key": key.study_key(UIDS[n]),
        "series_key": key.series_key(f"{UIDS[n]}.{series}"),
        "modality": "CT",
        "intensity": "unknown" if n == 4 else "hu",
        "acquisition_s": float(10 - series),
        "affine_ras": np.eye(4).ravel().tolist(),
        "voxel_digest": f"{n}/{series}",
    }
    return dict.fromkeys(COLUMNS) | known


def _kept(row):
    key = {row["study_key"]: None}
    number = int(row["voxel_digest"].partition("/")[0])
    values = {name: row.get(name) for name in KEPT_COLUMNS}
    return values | {
        "split": SPLITS[number],
        "group_key": next(iter(key)),
        "alternates": [],
        "views": [],
    }


def write_table(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        columns = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def pair_config(folder: Path, sources: dict, **changes) -> PairConfig:
    tree = {
        "library": folder / "library",
        "selection": "main",
        "key_file": folder / "key",
        "out": folder / "pairs",
        "sources": {"text": "report", **sources},
        "tracking": {"enabled": False},
    }
    return PairConfig.model_validate(tree | changes)
