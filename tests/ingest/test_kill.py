"""SIGKILL at any moment loses nothing, and what was finished is not done again."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from medssl.errors import FolderError
from medssl.ingest.ingest import IngestConfig, ingest
from medssl.library.catalog import catalog_digest
from medssl.library.outcomes import read_outcomes
from medssl.library.volumes import read_volume, volume_path
from medssl.runs.tracking import TrackingConfig
from tests import phantoms
from tests.clusters import dask_cluster, descendants, wait_for

ITEMS = 14
PROGRAM = """
import sys
from pathlib import Path
from medssl.ingest.ingest import IngestConfig, ingest
from medssl.runs.tracking import TrackingConfig

if __name__ == "__main__":
    source, library, key, workers = sys.argv[1:]
    ingest(IngestConfig(sources=(Path(source),), library=Path(library), key_file=Path(key),
        create_key=True, workers=int(workers) if workers.isdecimal() else workers,
        tracking=TrackingConfig(enabled=False)))
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    affine = phantoms.affine_ras((5, 4, 3), (1, 1, 1))
    for number in range(ITEMS - 2):
        array = phantoms.phantom(affine, (60, 60, 60)) + number
        phantoms.write_nifti(folder / f"{number}.nii", array, affine)
    for number in range(2):
        array = phantoms.phantom(affine, (64, 60, 20)) + number
        phantoms.write_dicom(folder / f"series{number}", array, affine, seed=number)
    return folder


def start(source, config):
    arguments = [source, config.library, config.key_file, config.workers]
    return subprocess.Popen([sys.executable, "-c", PROGRAM, *map(str, arguments)])


def finished(library):
    path = library / "journal.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def kill_after(process, library, count):
    """Kill ``process`` once ``count`` items are finished; return those that were."""
    end = time.monotonic() + 60
    while len(finished(library)) < count and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.002)
    children = descendants(process.pid)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"
    while any(_is_alive(pid) for pid in children):
        assert time.monotonic() < end, "a worker outlived its parent"
        time.sleep(0.01)
    return finished(library)


def _is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def modified(library, keys):
    return {key: volume_path(library, key).stat().st_mtime_ns for key in keys}


def assert_same(library, untouched):
    """Nothing is lost, nothing is there twice, and every byte is as if nothing had happened."""
    assert not list(library.rglob(".partial-*"))
    assert catalog_digest(library) == catalog_digest(untouched)
    assert read_outcomes(library).equals(read_outcomes(untouched))
    names = {path.name for path in (untouched / "volumes").iterdir()}
    assert names == {path.name for path in (library / "volumes").iterdir()}
    for name in names:
        assert (library / "volumes" / name).read_bytes() == (
            untouched / "volumes" / name
        ).read_bytes()


@pytest.mark.parametrize("workers", ["inline", 1, 2])
def test_a_killed_ingest_goes_on_where_it_stopped(workers, source, tmp_path, configure):
    config = configure(source, workers=workers)
    done = kill_after(start(source, config), config.library, 3)
    assert 3 <= len(done) < ITEMS
    keys = [row["volume_key"] for item in done for row in item["volumes"]]
    before = modified(config.library, keys)
    with (config.library / "journal.jsonl").open("ab") as file:
        file.write(b'{"key": "half a li')  # the worst moment of all

    result = ingest(config.model_copy(update={"workers": "inline"}))

    assert modified(config.library, keys) == before
    assert result.summary["volumes"] == result.summary["converted"] - 38 == ITEMS
    untouched = configure(source, library="uninterrupted", key_file=config.key_file)
    ingest(untouched)
    assert_same(config.library, untouched.library)


@pytest.fixture(scope="module")
def untouched(source, tmp_path_factory):
    """A library that nothing happened to, its key, and the seconds a process of its own takes."""
    folder = tmp_path_factory.mktemp("untouched")
    config = IngestConfig(
        sources=(source,), library=folder / "library", key_file=folder / "key", create_key=True,
        workers=2, tracking=TrackingConfig(enabled=False),
    )  # fmt: skip
    started_s = time.monotonic()
    assert start(source, config).wait() == 0
    return config.library, config.key_file, time.monotonic() - started_s


def seeds(count, slow):
    """Seeds of the moments; the name of a failed test tells which, so that it can be repeated."""
    marks = pytest.mark.slow
    return [*range(count), *(pytest.param(n, marks=marks) for n in range(count, slow))]


@pytest.mark.parametrize("seed", seeds(2, 20))
def test_killed_at_a_random_moment(seed, source, untouched, tmp_path, configure):
    library, key_file, seconds = untouched
    config = configure(source, workers=2, key_file=key_file)
    process = start(source, config)
    time.sleep(random.Random(seed).uniform(0.2, 1.0) * seconds)  # noqa: S311
    workers = descendants(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(lambda: not any(_is_alive(pid) for pid in workers))
    for path in (config.library / "volumes").glob("[!.]*"):
        read_volume(config.library, path.name.partition(".")[0])  # no half volume is visible
    for item in finished(config.library):
        assert all(
            volume_path(config.library, row["volume_key"]).exists() for row in item["volumes"]
        )
    ingest(config.model_copy(update={"workers": "inline"}))
    assert_same(config.library, library)


@pytest.mark.parametrize("seed", seeds(2, 20))
def test_one_worker_killed_at_a_random_moment(seed, source, untouched, tmp_path, configure):
    library, key_file, seconds = untouched
    config = configure(source, workers=2, key_file=key_file)
    process = start(source, config)
    workers = wait_for(lambda: [pid for pid in descendants(process.pid) if _is_worker(pid)])
    draw = random.Random(seed)  # noqa: S311
    time.sleep(draw.uniform(0, 0.8) * seconds)
    with suppress(ProcessLookupError):  # it may have ended by then
        os.kill(draw.choice(workers), signal.SIGKILL)
    assert process.wait() == 0
    assert_same(config.library, library)


def _is_worker(pid):
    """Return whether ``pid`` was forked by the server of workers, or is a worker of Dask's."""
    with suppress(FileNotFoundError):
        process = Path(f"/proc/{pid}")
        above = process.joinpath("stat").read_text().rpartition(")")[2].split()[1]
        return (
            b"forkserver" in Path(f"/proc/{above}/cmdline").read_bytes()
            or b"spawn_main" in process.joinpath("cmdline").read_bytes()
        )
    return False


def test_on_a_cluster_a_killed_worker_loses_nothing(source, untouched, tmp_path, configure):
    pytest.importorskip("distributed")
    library, key_file, _ = untouched
    with dask_cluster(tmp_path / "dask", workers=2) as cluster:
        config = configure(source, workers=cluster.address, key_file=key_file)
        with start(source, config) as process:
            wait_for(lambda: len(finished(config.library)) >= 2)
            os.kill(next(filter(_is_worker, descendants(cluster.processes[1].pid))), signal.SIGKILL)
            assert process.wait() == 0
    assert_same(config.library, library)


@pytest.mark.parametrize("workers", ["inline", 2])
def test_a_full_disk_stops_in_words_and_room_mends_it(workers, tmp_path, configure):
    noise = np.random.default_rng(0).integers(-1000, 30000, (6, 128, 128, 60)).astype(np.int16)
    for number, array in enumerate(noise):  # 2 MB each, and nothing to compress
        phantoms.write_nifti(tmp_path / "in" / f"{number}.nii", array, phantoms.affine_ras())
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=7m", "none", disk], check=False
    ).returncode:
        pytest.skip("may not mount a file system of its own")
    try:
        config = configure(tmp_path / "in", library="disk/library", workers=workers)
        with pytest.raises(FolderError, match=r"the disk of .* is full\n  hint: make room"):
            ingest(config)
        done = [row["volume_key"] for item in finished(config.library) for row in item["volumes"]]
        assert 1 <= len(done) < len(noise)
        before = modified(config.library, done)
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        ingest(config)
        assert modified(config.library, done) == before
        untouched = configure(tmp_path / "in", library="untouched", key_file=config.key_file)
        ingest(untouched)
        assert_same(config.library, untouched.library)
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)
