"""SIGKILL at any moment loses nothing, and what was finished is not done again."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medssl.ingest.ingest import ingest
from medssl.library.catalog import catalog_digest, read_catalog
from medssl.library.volumes import volume_path
from tests import phantoms

ITEMS = 14
PROGRAM = """
import sys
from pathlib import Path
from medssl.ingest.ingest import IngestConfig, ingest
from medssl.runs.tracking import TrackingConfig

if __name__ == "__main__":
    source, library, key, workers = sys.argv[1:]
    ingest(IngestConfig(sources=(Path(source),), library=Path(library), key_file=Path(key),
        create_key=True, workers=int(workers), tracking=TrackingConfig(enabled=False)))
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
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
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


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_ingest_goes_on_where_it_stopped(workers, source, tmp_path, configure):
    config = configure(source, workers=workers)
    done = kill_after(start(source, config), config.library, 3)
    assert 3 <= len(done) < ITEMS
    keys = [row["volume_key"] for item in done for row in item["volumes"]]
    before = modified(config.library, keys)
    with (config.library / "journal.jsonl").open("ab") as file:
        file.write(b'{"key": "half a li')  # the worst moment of all

    result = ingest(config.model_copy(update={"workers": 1}))

    assert modified(config.library, keys) == before
    assert result.summary["volumes"] == result.summary["converted"] - 38 == ITEMS
    assert not list(config.library.rglob(".partial-*"))
    untouched = configure(source, library="uninterrupted", key_file=config.key_file)
    ingest(untouched)
    assert catalog_digest(config.library) == catalog_digest(untouched.library)
    for key in read_catalog(config.library)["volume_key"]:
        one, other = (volume_path(c.library, key).read_bytes() for c in (config, untouched))
        assert one == other
