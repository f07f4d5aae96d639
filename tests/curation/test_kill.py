"""SIGKILL in any step of curation, a damaged file, a library that changes: the same, or told."""

import signal
import subprocess
import sys

import pandas as pd
import pytest

from medssl.curation.curate import curate
from medssl.curation.ledger import GROUNDS, root_of
from medssl.curation.release import FILE as RELEASE
from medssl.curation.selection import read_selection, selection_folder
from medssl.errors import FolderError, InputError
from medssl.library.catalog import catalog_path
from medssl.library.volumes import volume_path
from medssl.runs.manifest import Manifest
from tests.curation.libraries import Scan, blobs, curate_config, resampled, write_library

SCANS = {
    "a": Scan(blobs(1), "one"),
    "b": Scan(resampled(blobs(1), 1.3), "two"),
    "c": Scan(blobs(2), "three"),
    "d": Scan(blobs(3, shape=(30, 28, 6)), "four"),
}
STEPS = (
    "medssl.curation.curate.CatalogRows.read",
    "medssl.curation.release.withdraw",
    "medssl.curation.curate.apply_rules",
    "medssl.curation.curate.find_duplicates",
    "medssl.curation.curate.represent",
    "medssl.curation.curate.draw_splits",
    "medssl.curation.ledger.ledger_rows",
    "medssl.curation.curate.kept_rows",
    "medssl.curation.review.write_borderline",
    "medssl.curation.curate.write_report",
    "medssl.runs.stage.Manifest.write",
    "medssl.curation.release.release",
    "medssl.curation.release.write_json",
)
QUICK = {STEPS[3], STEPS[6], STEPS[9], STEPS[12]}
"""Tried with every run of the tests; the others with `make test-slow`."""
PROGRAM = """
import os, signal, sys
from pathlib import Path
from unittest.mock import patch
from tests.curation.libraries import curate_config
from medssl.curation.curate import curate

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    library, step = sys.argv[1:]
    with patch(step, die):
        curate(curate_config(Path(library), withdraw=["four"], release=True))
"""


def tables(library):
    """Return what a selection says, without when and by which run it was said."""
    folder = selection_folder(library, "all")
    ledger = pd.read_parquet(folder / "ledger.parquet", columns=list(GROUNDS))
    rest = [pd.read_parquet(folder / f"{name}.parquet") for name in ("kept", "edges")]
    texts = [(folder / name).read_bytes() for name in ("report.html", "borderline.csv")]
    return [frame.to_json() for frame in (ledger, *rest)], texts, root_of(folder)


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    library = write_library(tmp_path_factory.mktemp("untouched") / "lib", SCANS)
    curate(curate_config(library, withdraw=["four"], release=True))
    return tables(library)


@pytest.mark.parametrize(
    "step", [pytest.param(s, marks=() if s in QUICK else pytest.mark.slow) for s in STEPS]
)
def test_killed_in_any_step_the_same_command_gives_the_same(step, untouched, tmp_path):
    library = write_library(tmp_path / "lib", SCANS)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(library), step], check=False, capture_output=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    folder = selection_folder(library, "all")
    if not step.startswith("medssl.curation.release"):
        assert not (folder / RELEASE).exists()
        with pytest.raises(InputError, match=r"no selection|not finished"):
            read_selection(library, "all")
    curate(curate_config(library, withdraw=["four"], release=True))
    assert tables(library) == untouched
    assert not list(library.rglob(".partial-*"))
    assert (folder / RELEASE).exists()


def test_a_damaged_volume_stops_nothing_and_is_told(tmp_path):
    library = write_library(tmp_path / "lib", SCANS)
    volume_path(library, "b").write_bytes(b"damaged")
    folder = curate(curate_config(library)).folder
    assert "b" in set(read_selection(library, "all").kept["volume_key"])
    assert "the file could not be read" in (folder / "report.html").read_text(encoding="utf-8")


def test_a_damaged_catalog_says_to_ingest_again(tmp_path):
    library = write_library(tmp_path / "lib", SCANS)
    catalog_path(library).write_bytes(catalog_path(library).read_bytes()[:100])
    with pytest.raises(InputError, match="is damaged\n  hint: run the same `medssl ingest` again"):
        curate(curate_config(library))
    assert not selection_folder(library, "all").exists()


def test_a_damaged_table_of_a_selection_says_to_make_it_again(tmp_path):
    library = write_library(tmp_path / "lib", SCANS)
    folder = curate(curate_config(library)).folder
    (folder / "kept.parquet").write_bytes(b"damaged")
    with pytest.raises(InputError, match="missing or damaged\n  hint: make it again"):
        read_selection(library, "all")
    curate(curate_config(library), overwrite=True)
    assert len(read_selection(library, "all").kept) == 2


def test_a_library_that_changed_is_told_and_not_mixed(tmp_path):
    library = write_library(tmp_path / "lib", SCANS)
    curate(curate_config(library))
    library = write_library(library, SCANS | {"e": Scan(blobs(5), "five")})
    with pytest.raises(FolderError, match=r"input catalog: was .*, now .*\n.*pass --overwrite"):
        curate(curate_config(library))
    assert len(read_selection(library, "all").kept) == 2  # still as it was
    curate(curate_config(library), overwrite=True)
    assert len(read_selection(library, "all").kept) == 3


def test_a_run_that_was_killed_before_the_library_changed_starts_anew(tmp_path):
    library = write_library(tmp_path / "lib", SCANS)
    folder = curate(curate_config(library)).folder
    manifest = Manifest.read(folder)
    manifest.status = "running"
    manifest.write(folder)
    library = write_library(library, SCANS | {"e": Scan(blobs(5), "five")})
    with pytest.raises(FolderError, match="input catalog"):
        curate(curate_config(library))
    curate(curate_config(library), overwrite=True)
    assert len(read_selection(library, "all").kept) == 3
