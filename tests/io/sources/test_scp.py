"""A listener as a source: what is sent to it is offered once, and survives restarts."""

import threading
import time

import pytest
from pydicom import dcmread
from pydicom.config import disable_value_validation
from pydicom.uid import generate_uid
from pynetdicom import AE, build_context
from pynetdicom.sop_class import CTImageStorage

from medssl.io.sources.base import SourceError
from medssl.io.sources.receiver import ReceiverConfig
from medssl.io.sources.scp import ScpSource
from tests.orthanc import free_port


@pytest.fixture
def listen(tmp_path):
    """Return a function that starts a listener on one inbox; all are stopped at the end."""
    port, started = free_port(), []

    def start(quiet_s=0.0):
        for source in started:
            source.stop()
        url = f"scp://MEDSSL@127.0.0.1:{port}"
        started.append(ScpSource(url, ReceiverConfig(), tmp_path / "inbox", quiet_s))
        started[-1].start()
        return started[-1]

    yield start
    for source in started:
        source.stop()


def connect(source):
    port = int(source.label.rpartition(":")[2])
    contexts = [build_context(CTImageStorage)]
    link = AE("SCANNER").associate("127.0.0.1", port, ae_title="MEDSSL", contexts=contexts)
    assert link.is_established
    return link


def send(source, slices):
    link = connect(source)
    assert {link.send_c_store(ds).Status for ds in slices} == {0x0000}
    link.release()


def offered(source):
    """Return what is offered once the connections are closed, which takes them a moment."""
    end = time.monotonic() + 5
    while not (parcels := list(source.list_parcels())):
        assert time.monotonic() < end
        time.sleep(0.01)
    return parcels


def held(folder):
    return {str(dcmread(path).SOPInstanceUID) for path in folder.rglob("*.dcm")}


def test_a_series_is_offered_once_its_sender_hung_up(listen, slices, tmp_path):
    source = listen()
    link = connect(source)
    for ds in slices:
        assert link.send_c_store(ds).Status == 0x0000
        assert list(source.list_parcels()) == []
    link.release()
    (parcel,) = offered(source)
    assert (parcel.files, parcel.name) == (
        5,
        f"{slices[0].StudyInstanceUID}/{slices[0].SeriesInstanceUID}",
    )
    source.fetch(parcel, tmp_path / "staged")
    assert held(tmp_path / "staged") == {str(ds.SOPInstanceUID) for ds in slices}
    assert (tmp_path / "inbox").stat().st_mode & 0o077 == 0
    source.release(parcel)
    assert list(source.list_parcels()) == []
    assert held(tmp_path / "inbox") == set()


def test_who_lists_may_fetch_before_the_next(listen, slices, tmp_path):
    source = listen()
    send(source, slices)
    offered(source)
    listing = iter(source.list_parcels())
    parcel = next(listing)
    done = threading.Thread(target=source.fetch, args=(parcel, tmp_path / "staged"), daemon=True)
    done.start()
    done.join(timeout=5)
    assert not done.is_alive()


def test_a_series_is_not_offered_before_it_is_quiet(listen, slices):
    source = listen(quiet_s=0.6)
    send(source, slices)
    sent = time.time()
    assert list(source.list_parcels()) == []
    offered(source)
    assert time.time() - sent > 0.5


def test_what_was_received_outlives_a_restart_and_half_files_do_not(listen, slices, tmp_path):
    source = listen()
    send(source, slices[:3])
    (before,) = offered(source)
    source.fetch(before, tmp_path / "staged")
    (tmp_path / "inbox" / "cut-short.part").write_bytes(b"half an image")
    source = listen()
    assert list(source.list_parcels()) == [before]
    assert list((tmp_path / "inbox").glob("*.part")) == []
    send(source, slices[3:])
    (after,) = offered(source)
    assert after.files == 5
    assert after.stamp != before.stamp


def test_more_of_a_series_after_it_was_fetched_is_not_released_unseen(listen, slices, tmp_path):
    source = listen()
    send(source, slices[:3])
    (parcel,) = offered(source)
    source.fetch(parcel, tmp_path / "staged")
    send(source, slices[3:])
    source.release(parcel)
    (whole,) = offered(source)
    source.fetch(whole, tmp_path / "staged")
    assert len(held(tmp_path / "staged")) == whole.files == 5


def test_the_same_image_twice_is_one_file(listen, slices):
    source = listen()
    send(source, slices)
    send(source, slices)
    (parcel,) = offered(source)
    assert parcel.files == 5


def test_another_image_under_the_same_name_is_not_lost(listen, slices, tmp_path):
    source = listen()
    send(source, slices)
    slices[0].PixelData = bytes(len(slices[0].PixelData))
    send(source, slices[:1])
    (parcel,) = offered(source)
    assert parcel.files == 6
    assert len(held(tmp_path / "inbox")) == 5


def test_two_series_are_two_parcels(listen, slices):
    source = listen()
    slices[0].SeriesInstanceUID = generate_uid()
    send(source, slices)
    assert sorted(parcel.files for parcel in offered(source)) == [1, 4]


def test_what_cannot_be_part_of_a_path_is_refused(listen, slices):
    source = listen()
    del slices[0].StudyInstanceUID
    with disable_value_validation():
        slices[0].StudyInstanceUID = "../../../outside"
    link = connect(source)
    assert link.send_c_store(slices[0]).Status == 0xA900
    link.release()


def test_an_address_that_is_not_one(tmp_path):
    with pytest.raises(SourceError, match="AE title, host and port"):
        ScpSource("scp://nobody", ReceiverConfig(), tmp_path, 0)
