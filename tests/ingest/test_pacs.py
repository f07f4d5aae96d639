"""From a real archive into a library: what a folder gives, whatever dies meanwhile."""

import shutil
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from pydicom import dcmread

from medssl.ingest import follow
from medssl.ingest.ingest import IngestConfig, ingest
from medssl.io.deidentify import Pseudonymizer
from medssl.io.sources.base import SourceError
from medssl.io.sources.staging import Staging
from medssl.library.catalog import read_catalog, volume_keys
from medssl.library.outcomes import read_outcomes
from medssl.library.volumes import read_volume
from medssl.runs.tracking import TrackingConfig
from tests import orthanc, phantoms
from tests.io.sources.archives import web_archive

HASTY = {"tries": 3, "first_wait_s": 0.02, "timeout_s": 10}
WAYS = ("web", "move", "get")
LONG = (48, 44, 40)
SLOWLY = """
import sys, time
from medssl.cli.main import main
from medssl.io.sources.retrieval import SeriesFolder

add = SeriesFolder.add

def add_slowly(self, pieces):
    time.sleep(0.02)
    add(self, pieces)

SeriesFolder.add = add_slowly
if __name__ == "__main__":
    main()
"""
"""The command itself, at a pace at which a test can step in."""
pytestmark = pytest.mark.filterwarnings(
    # pynetdicom 3.0.4 does not close a socket that could not be connected
    "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Return a folder with a compressed CT series, an MR series and a long one."""
    folder = tmp_path_factory.mktemp("scans")
    affine = phantoms.affine_ras((5, 4, 3))
    small = phantoms.phantom(affine, (40, 36, 9))
    phantoms.write_dicom(folder / "mr", small, affine, modality="MR")
    phantoms.write_dicom(folder.parent / "raw", small, affine, seed=1)
    (folder / "jpeg-ls").mkdir()
    for path in (folder.parent / "raw").iterdir():
        target = folder / "jpeg-ls" / path.name
        subprocess.run([shutil.which("dcmcjpls"), path, target], check=True)
    flat = phantoms.affine_ras(spacing_mm=(0.5, 0.5, 1.0))
    phantoms.write_dicom(folder / "long", phantoms.phantom(flat, LONG), flat, seed=2)
    return folder


@pytest.fixture(scope="module")
def archive(tmp_path_factory, scans):
    with orthanc.running(tmp_path_factory.mktemp("orthanc")) as started:
        started.store(scans / "mr")
        started.store(scans / "jpeg-ls", "-xt")
        started.store(scans / "long")
        assert started.count() == 58
        yield started


@pytest.fixture
def configured(tmp_path, key_file):
    """Return a function that makes a config; all use the same key."""

    def make(*sources, **options):
        return IngestConfig(
            sources=sources,
            library=tmp_path / "library",
            key_file=key_file,
            workers="inline",
            tracking=TrackingConfig(enabled=False),
            **options,
        )

    return make


@pytest.fixture
def from_archive(archive, configured):
    """Return a function that makes the config of one way to the archive."""

    def make(way, **options):
        dimse = {"host": "127.0.0.1", "port": archive.receiver, "patience": HASTY}
        settings = {
            "dicomweb": {"patience": HASTY},
            "dimse": {"retrieve": "auto" if way == "web" else way, **dimse},
        }
        url = archive.web if way == "web" else archive.dimse
        return configured(url, **(settings | options))

    return make


@pytest.fixture(scope="module")
def key_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("key") / "key"
    Pseudonymizer.from_key_file(path, create=True)
    return path


@pytest.fixture(scope="module")
def expected(scans, key_file, tmp_path_factory):
    """Return the library that the folder itself makes, with the same key."""
    config = IngestConfig(
        sources=(scans,),
        library=tmp_path_factory.mktemp("expected") / "library",
        key_file=key_file,
        workers="inline",
        tracking=TrackingConfig(enabled=False),
    )
    assert ingest(config).summary["volumes"] == 3
    return config.library


def voxels(library):
    return {key: read_volume(library, key).array_IJK for key in read_catalog(library)["volume_key"]}


def assert_equal(library, expected):
    """Check that both hold the same volumes, once each, and the waiting room is empty."""
    got, wanted = voxels(library), voxels(expected)
    assert got.keys() == wanted.keys()
    for key, array in got.items():
        np.testing.assert_array_equal(array, wanted[key])
    files = read_outcomes(library)
    assert list(files["outcome"]) == ["converted"] * 58
    assert [path for path in (library / "incoming").rglob("*") if path.is_file()] == []


def start(config):
    """Start the command; whatever becomes of the test, the kernel ends it with pytest."""
    file = config.library.with_suffix(".yaml")
    file.write_text(config.model_dump_json())
    command = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-c", SLOWLY]
    return subprocess.Popen(
        [*command, "ingest", "--config", file], stderr=subprocess.PIPE, text=True
    )


def wait_until(condition, process=None, limit_s=60):
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end
        assert process is None or process.poll() is None, "it ended before its time"
        time.sleep(0.005)


def fetched(library):
    return len(incoming(library))


def incoming(library):
    return list((library / "incoming").rglob("*.dcm"))


@pytest.mark.parametrize("way", WAYS)
def test_the_archive_gives_what_the_folder_gives(way, from_archive, expected):
    config = from_archive(way)
    result = ingest(config)
    assert (result.summary["volumes"], result.summary["converted"]) == (3, 58)
    assert_equal(config.library, expected)
    assert ingest(config).skipped


def test_a_query_chooses(from_archive):
    assert ingest(from_archive("web", query={"Modality": "MR"})).summary["volumes"] == 1


def test_killed_itself_in_mid_transfer_it_goes_on(from_archive, expected):
    config = from_archive("web")
    process = start(config)
    wait_until(lambda: fetched(config.library) >= 8, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    held = {path: path.stat().st_mtime_ns for path in incoming(config.library)}
    assert 8 <= len(held) < 58
    process = start(config)
    wait_until(lambda: fetched(config.library) > len(held), process)
    assert (
        held.items() <= {path: path.stat().st_mtime_ns for path in incoming(config.library)}.items()
    )
    process.communicate()
    assert process.returncode == 0
    assert_equal(config.library, expected)


def test_the_archive_killed_in_mid_transfer_leaves_no_half_volume(archive, from_archive, expected):
    config = from_archive("get")
    process = start(config)
    wait_until(lambda: fetched(config.library) >= 8, process)
    archive.kill()
    try:
        said = process.communicate()[1]
        whole = voxels(expected)
        for key, array in voxels(config.library).items():
            np.testing.assert_array_equal(array, whole[key])
    finally:
        archive.start()
    assert "Traceback" not in said
    assert "no connection to ORTHANC at 127.0.0.1" in said
    ingest(config)
    assert_equal(config.library, expected)


def test_what_is_sent_to_us_is_taken_in_once(archive, scans, expected, configured, tmp_path):
    port = orthanc.free_port()
    config = configured(
        f"scp://MEDSSL@127.0.0.1:{port}", follow={"interval_s": 0.1, "quiet_s": 1.0}
    )
    (tmp_path / "late").mkdir()
    (tmp_path / "early").mkdir()
    for number, path in enumerate(sorted((scans / "long").iterdir())):
        (tmp_path / ("late" if number % 2 else "early") / path.name).symlink_to(path)

    process = start(config)
    wait_until(lambda: listens(port), process)
    orthanc.send(scans / "jpeg-ls", "MEDSSL", port, "-xt")
    orthanc.send(scans / "mr", "MEDSSL", port)
    wait_until(lambda: len(volume_keys(config.library)) == 2, process)
    orthanc.send(scans / "mr", "MEDSSL", port)  # again
    orthanc.send(tmp_path / "early", "MEDSSL", port)
    process.send_signal(signal.SIGKILL)  # in the middle of a series
    process.communicate()

    process = start(config)
    wait_until(lambda: listens(port), process)
    orthanc.send(tmp_path / "late", "MEDSSL", port)
    wait_until(lambda: len(volume_keys(config.library)) == 3, process)
    wait_until(lambda: received(config.library) == [], process)
    process.send_signal(signal.SIGTERM)
    said = process.communicate()[1]
    assert "Traceback" not in said
    assert_equal(config.library, expected)


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def received(library):
    folder = library.with_name(f"{library.name}.received")
    return [path for path in folder.rglob("*") if path.is_file()]


def test_killed_before_it_could_forget_what_it_took_in(configured, tmp_path, monkeypatch):
    port = orthanc.free_port()
    config = configured(
        f"scp://MEDSSL@127.0.0.1:{port}", follow={"interval_s": 0.1, "quiet_s": 0.0}
    )
    affine = phantoms.affine_ras()
    slices = phantoms.dicom_slices(phantoms.phantom(affine), affine)
    inbox = config.library.with_name("library.received") / slices[0].StudyInstanceUID
    phantoms.save(slices, inbox / slices[0].SeriesInstanceUID)
    for path in received(config.library):
        path.rename(path.with_name(f"{dcmread(path).SOPInstanceUID}.dcm"))

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Staging, "drop", interrupt)
        with pytest.raises(KeyboardInterrupt):
            ingest(config)
    assert len(received(config.library)) == 5
    # The pause after the first round; time.sleep itself is everybody's.
    monkeypatch.setattr(follow, "time", SimpleNamespace(sleep=interrupt))
    assert ingest(config).summary["volumes"] == 1
    assert received(config.library) == []


# Archives that do not tell the truth


@pytest.fixture
def liar():
    affine = phantoms.affine_ras()
    with web_archive(phantoms.dicom_slices(phantoms.phantom(affine), affine)) as served:
        yield served


def test_a_series_that_does_not_come_whole_is_not_converted(liar, configured, caplog):
    config = configured(liar.url, dicomweb={"patience": HASTY})
    liar.count = 7
    result = ingest(config)
    assert (result.summary["volumes"], result.summary["parcels_failed"]) == (0, 1)
    assert "counts 7 images in a series and lists 5" in caplog.text
    assert str(liar.study) not in caplog.text
    liar.count = 5
    result = ingest(config)
    assert result.summary["volumes"] == 1
    assert result.summary.get("parcels_failed", 0) == 0
    texts = [str(liar.study), str(liar.series), *liar.files]
    for path in config.library.rglob("*"):
        if path.is_file() and path.parent.name != "private":
            content = path.read_bytes()
            assert [text for text in texts if text.encode() in content] == []


def test_a_wrong_token_stops_the_run_and_stays_secret(liar, configured, tmp_path, caplog):
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text("secret-horse")
    liar.override = lambda handler: handler.answer("text/plain", b"", status=401) or True
    config = configured(liar.url, dicomweb={"token_file": token, "patience": HASTY})
    with pytest.raises(SourceError, match="refuses access") as raised:
        ingest(config)
    assert "horse" not in str(raised.value) + caplog.text
    for path in tmp_path.rglob("*"):
        assert path == token or not path.is_file() or b"horse" not in path.read_bytes()
