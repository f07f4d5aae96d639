"""A library without fingerprints, or with those of another spec, is completed from its volumes."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import blosc2
import numpy as np
import pyarrow.parquet as pq
import pytest

from medssl.errors import InputError
from medssl.ingest import backfill
from medssl.ingest.ingest import ingest
from medssl.library import catalog, slices
from medssl.library.fingerprints.perceptual import SPEC
from medssl.library.volumes import read_slices, volume_path
from tests import phantoms
from tests.ingest.test_kill import PROGRAM

AFFINE = phantoms.affine_ras((5, 4, 3), (1, 1, 1))
COUNT = 4


@pytest.fixture
def scans(tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    for number in range(COUNT - 1):
        array = phantoms.phantom(AFFINE, (40 + number, 36, 30)) + number
        phantoms.write_nifti(folder / f"{number}.nii", array, AFFINE)
    phantoms.write_dicom(folder / "series", phantoms.phantom(AFFINE, (40, 36, 12)), AFFINE)
    return folder


@pytest.fixture
def library(scans, configure):
    config = configure(scans)
    ingest(config)
    return config


def age(library, spec=None):
    """Make a library one of an older medssl, without fingerprints or with those of ``spec``."""
    journal = library / "journal.jsonl"
    lines = map(json.loads, journal.read_text().splitlines())
    results = {line["key"]: line for line in lines}.values()  # the latest line of a key counts
    for result in results:
        for row in result["volumes"]:
            for name in catalog.ADDED:
                del row[name]
            if spec:
                row["signature_spec"] = spec
            file = blosc2.open(str(volume_path(library, row["volume_key"])), mode="a")
            record = file.schunk.vlmeta["perceptual"]
            del file.schunk.vlmeta["perceptual"]
            if spec:
                file.schunk.vlmeta["perceptual"] = record | {"spec": spec, "dct_full": bytes(32)}
    journal.write_text("".join(json.dumps(result) + "\n" for result in results))
    table = pq.read_table(library / "catalog.parquet").drop(list(catalog.ADDED))
    metadata = {b"medssl.format_version": b"2", b"medssl.key_id": b"x"}
    pq.write_table(table.replace_schema_metadata(metadata), library / "catalog.parquet")
    table = pq.read_table(library / "slices.parquet").drop(["slice_key", "foreground"])
    pq.write_table(table.replace_schema_metadata({}), library / "slices.parquet")


def contents(library):
    records = {key: read_slices(library, key) for key in catalog.volume_keys(library)}
    return catalog.catalog_digest(library), slices.read_slice_rows(library).to_pylist(), records


@pytest.mark.parametrize("spec", [None, "dct256/0 slice-dct256/0"])
def test_an_older_library_becomes_as_if_it_were_made_now(spec, library, scans):
    before = contents(library.library)
    voxels = [np.asarray(blosc2.open(str(p))[:]) for p in sorted(library.library.glob("volumes/*"))]
    age(library.library, spec)
    for path in scans.rglob("*.dcm"):
        path.chmod(0)  # not one of the sources is read
    result = ingest(library)
    assert not result.skipped
    assert contents(library.library) == before
    after = [np.asarray(blosc2.open(str(p))[:]) for p in sorted(library.library.glob("volumes/*"))]
    assert all(np.array_equal(a, b) for a, b in zip(voxels, after, strict=True))
    assert not list(library.library.rglob(".partial-*"))
    assert ingest(library).skipped


def test_until_then_the_tables_say_what_to_do(library):
    age(library.library)
    for read in (catalog.read_catalog, slices.read_slice_table):
        with pytest.raises(InputError) as error:
            read(library.library)
        assert "run the same `medssl ingest` again" in str(error.value.hint)


def test_what_is_complete_is_not_completed_again(library, monkeypatch):
    before = contents(library.library)
    age(library.library)
    done, complete = [], backfill.complete

    def dies_at_the_third(folder, result):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(result.key)
        return complete(folder, result)

    monkeypatch.setattr(backfill, "complete", dies_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        ingest(library)
    monkeypatch.setattr(
        backfill, "complete", lambda *given: done.append(given[1].key) or complete(*given)
    )
    ingest(library)
    assert len(done) == len(set(done)) == COUNT
    assert contents(library.library) == before


def test_a_kill_at_any_moment_loses_nothing(library, scans):
    before = contents(library.library)
    for pause_s in (0.3, 0.8, 1.2, 1.6):
        age(library.library)
        arguments = map(str, (scans, library.library, library.key_file, "1"))
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments], start_new_session=True
        )
        try:
            process.wait(pause_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        ingest(library)
        assert contents(library.library) == before


@pytest.mark.parametrize("harm", ["cut short", "gone"])
def test_a_damaged_volume_is_a_row_with_a_reason(harm, library, scans, caplog):
    key = catalog.volume_keys(library.library)[0]
    before = contents(library.library)
    age(library.library)
    path = volume_path(library.library, key)
    if harm == "gone":
        path.unlink()
        kept = shutil.move(scans, scans.with_name("elsewhere"))
        scans.mkdir()
        phantoms.write_nifti(scans / "other.nii", phantoms.phantom(AFFINE, (30, 30, 30)), AFFINE)
    else:
        path.write_bytes(path.read_bytes()[:300])
    result = ingest(library)
    assert result.summary["damaged_volumes"] == 1
    assert re.search("1 volume.* damaged; ingest their sources with --repair", caplog.text)
    flags = catalog.read_catalog(library.library).set_index("volume_key")["flags"]
    assert [k for k, found in flags.items() if "damaged_volume" in found] == [key]
    assert key not in set(slices.read_slice_table(library.library)["volume_key"])
    if harm == "gone":
        shutil.rmtree(scans)
        shutil.move(kept, scans)
        return
    assert ingest(library).skipped  # it is not tried again and again
    ingest(library.model_copy(update={"repair": True}))
    assert contents(library.library) == before


def test_a_volume_that_kills_its_worker_is_flagged_too(library):
    result = next(iter(backfill.State(library.library, []).journal.results.values()))
    old = backfill.replace(
        result, volumes=tuple(v | {"signature_spec": ""} for v in result.volumes)
    )
    assert all(map(backfill.is_damaged, backfill.crashed(old).volumes))
    assert backfill.crashed(result) == result


@pytest.mark.parametrize("content", [b"", b"PAR1 not a table", None])
def test_a_damaged_table_of_slices_is_written_anew(content, library):
    before = contents(library.library)
    path = library.library / slices.FILE
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(InputError, match=r"the table of slices of .* is damaged"):
        slices.read_slice_table(library.library)
    ingest(library)
    assert contents(library.library) == before


def test_the_table_of_slices_holds_what_the_volumes_hold(library):
    table = slices.read_slice_table(library.library)
    assert pq.read_schema(library.library / slices.FILE).metadata[b"medssl.signature_spec"] == (
        SPEC.encode()
    )
    rows = catalog.read_catalog(library.library).set_index("volume_key")
    for key, part in table.groupby("volume_key"):
        seen = read_slices(library.library, key).perceptual
        assert part["slice_key"].tolist() == list(seen.slice_keys)
        assert part["slice_dct256"].tolist() == list(seen.slice_signatures)
        np.testing.assert_allclose(part["foreground"].mean(), rows["foreground_share"][key], 1e-6)
        assert rows["slice_axis"][key] == part["slice_axis"].iloc[0]


@pytest.mark.parametrize("harm", ["cut short", "within", "gone"])
def test_a_damaged_catalog_is_written_anew(harm, library):
    before = contents(library.library)
    path = library.library / "catalog.parquet"
    whole = path.read_bytes()
    if harm == "gone":
        path.unlink()
    elif harm == "cut short":
        path.write_bytes(whole[:500])
    else:
        path.write_bytes(whole[:100] + bytes(900) + whole[1000:])
    with pytest.raises(InputError) as error:
        catalog.read_catalog(library.library)
    if harm != "gone":
        assert "is damaged" in str(error.value)
        assert "run the same `medssl ingest` again" in str(error.value.hint)
    if harm == "within":
        assert "delete catalog.parquet" in str(error.value.hint)
        path.unlink()
    ingest(library)
    assert contents(library.library) == before
