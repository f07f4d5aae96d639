"""--follow: a folder that grows, watched by a process that may be killed at any moment."""

import re
import signal
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest

from medssl.ingest.config import FollowConfig
from medssl.ingest.follow import follow
from medssl.ingest.ingest import ingest
from medssl.ingest.listing import Sources, list_local
from medssl.io.deidentify import Pseudonymizer
from medssl.io.sources.base import SourceError
from medssl.library.catalog import catalog_digest
from medssl.runs.stage import StageResult
from tests import phantoms

AFFINE = phantoms.affine_ras()


def start(source, config):
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "medssl.cli.main", "ingest", str(source), "--follow"),
            *("--library", str(config.library), "--key-file", str(config.key_file)),
            *("--workers", "1", "follow.interval_s=0.05", "follow.quiet_s=0.3"),
            *("tracking.enabled=false", "create_key=true"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def volumes(library):
    path = library / "catalog.parquet"
    return pq.read_metadata(path).num_rows if path.exists() else 0


def wait_for(check, process):
    end = time.monotonic() + 60
    while not check():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.02)


def add(folder, number):
    array = phantoms.phantom(AFFINE, (20, 20, 10)) + number
    phantoms.write_dicom(folder / f"{number}", array, AFFINE, seed=number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_added_arrives_once_and_a_signal_ends_it(number, tmp_path, configure):
    source = tmp_path / "in"
    source.mkdir()
    config = configure(source)
    process = start(source, config)
    try:
        for count in range(1, 4):
            add(source, count)
            wait_for(lambda count=count: volumes(config.library) == count, process)
        time.sleep(0.2)
        process.send_signal(number)
        text, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert "Traceback" not in text
    assert len(re.findall(r"Round \d+: the library now has", text)) >= 3
    untouched = ingest(configure(source, library="whole"))
    ingest(config)
    assert catalog_digest(config.library) == catalog_digest(untouched.folder)


def test_kill_between_and_during_rounds_loses_nothing(tmp_path, configure):
    source = tmp_path / "in"
    source.mkdir()
    config = configure(source)
    for count, moment in enumerate([0.0, 0.01, 0.05, 0.3], start=1):
        process = start(source, config)
        try:
            add(source, count)
            journal = config.library / "journal.jsonl"
            before = journal.stat().st_mtime_ns if journal.exists() else 0
            wait_for(lambda j=journal, b=before: j.exists() and j.stat().st_mtime_ns != b, process)
            time.sleep(moment)
        finally:
            process.kill()
            process.communicate()
    result = ingest(config)
    assert result.summary["volumes"] == 4
    assert result.summary["converted"] == result.summary["files"] == 40
    untouched = ingest(configure(source, library="whole"))
    assert catalog_digest(config.library) == catalog_digest(untouched.folder)


def test_a_folder_still_being_written_waits(tmp_path, configure):
    add(tmp_path / "in", 1)
    config = configure(tmp_path / "in")
    sources, key = Sources([tmp_path / "in"], []), Pseudonymizer.ephemeral()
    assert list_local(sources, config, key, quiet_s=60)[0] == []
    time.sleep(0.05)
    assert len(list_local(sources, config, key, quiet_s=0.01)[0]) == 10
    assert len(list_local(sources, config, key, quiet_s=None)[0]) == 10


def test_a_source_that_fails_for_a_while_does_not_end_the_watch(tmp_path):
    answers = iter(["result", SourceError("no answer"), "result", KeyboardInterrupt()])

    def once(**_):
        answer = next(answers)
        if isinstance(answer, BaseException):
            raise answer
        return StageResult("ingest", tmp_path, {}, {}, skipped=True)

    with pytest.raises(KeyboardInterrupt):
        follow(FollowConfig(interval_s=0.001), once)
    assert next(answers, None) is None


def test_a_source_that_fails_at_once_is_a_mistake():
    def once(**_):
        raise SourceError("no such host")

    with pytest.raises(SourceError):
        follow(FollowConfig(interval_s=0.001), once)
