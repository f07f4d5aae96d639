"""Writing in workers, with a journal: killed, run again, and over files that clash."""

import os
import shutil

import pydicom
import pytest

from medssl.privacy import writing
from medssl.privacy.writing import write_one
from tests import canaries
from tests.privacy.scans import COUNT


def test_a_killed_run_goes_on_where_it_stopped(source, clean, monkeypatch):
    real, calls = writing.write_one, []

    def dies(rules, folder, job):
        calls.append(job)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(rules, folder, job)

    monkeypatch.setattr(writing, "write_one", dies)
    with pytest.raises(KeyboardInterrupt):
        clean(source)
    calls.clear()
    monkeypatch.setattr(writing, "write_one", lambda *a: calls.append(a) or real(*a))
    result, files = clean(source)
    assert len(calls) == COUNT - 3
    assert result.summary["written"] == len(files) == COUNT


def test_what_is_to_be_written_anew_does_not_stay_if_the_run_is_killed(source, clean, monkeypatch):
    clean(source)
    canaries.write(source, edit=lambda ds, _: setattr(ds, "BurnedInAnnotation", "YES"))
    monkeypatch.setattr(writing, "map_unordered", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        clean(source)
    assert list(source.parent.rglob("out/images/**/*.dcm")) == []


@pytest.mark.parametrize("workers", ["inline", 2])
def test_a_file_that_is_there_twice_is_written_once(source, clean, workers):
    for path in sorted((source / canaries.FOLDER).iterdir()):
        shutil.copy(path, path.with_name(f"{path.stem}-again.dcm"))  # its neighbour in the order
    result, files = clean(source, workers=workers)
    assert len(files) == result.summary["written"] == COUNT
    assert result.summary["reason.duplicate_slice"] == result.summary["skipped"] == COUNT
    assert clean(source, workers=workers)[0].skipped


def test_of_two_images_of_one_name_the_same_one_is_kept_in_any_order(source, clean, monkeypatch):
    for path in sorted((source / canaries.FOLDER).iterdir()):
        content = bytearray(path.read_bytes())
        start = content.index(pydicom.dcmread(path).PixelData)
        content[start : start + 100] = bytes(100)
        path.with_name(f"{path.stem}-other.dcm").write_bytes(content)
    kept = []
    for out, order in (("one", 1), ("two", -1)):
        monkeypatch.setattr(
            writing,
            "map_unordered",
            lambda work, jobs, order=order, **_: [work(job) for job in jobs[::order]],
        )
        result, files = clean(source, out=out)
        assert result.summary["reason.sop_uid_conflict"] == result.summary["quarantined"] == COUNT
        kept.append([path.read_bytes() for path in files])
    assert len(kept[0]) == COUNT
    assert kept[0] == kept[1]


def dies_on_the_third(rules, folder, job):
    if pydicom.dcmread(job[0].path, stop_before_pixels=True).InstanceNumber == 3:
        os._exit(17)
    return write_one(rules, folder, job)


def test_a_file_that_kills_its_worker_is_refused_and_the_others_are_written(
    source, clean, monkeypatch
):
    monkeypatch.setattr(writing, "write_one", dies_on_the_third)
    result, files = clean(source, workers=2)
    assert result.summary["reason.decoder_crashed"] == result.summary["quarantined"] == 1
    assert len(files) == result.summary["written"] == COUNT - 1
