"""Archives by classic DICOM: a small one that tells the truth, refuses, or gives too little."""

import errno
import logging
import socket
import struct
import threading
import time

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid
from pynetdicom import AE, build_context
from pynetdicom.association import Association
from pynetdicom.sop_class import CTImageStorage, Verification

from medssl.io.sources import retrieval
from medssl.io.sources.base import SourceError
from medssl.io.sources.dimse import DimseConfig, DimseSource
from medssl.io.sources.encryption import TlsFiles
from medssl.io.sources.receiver import Peer, Receiver, ReceiverConfig
from medssl.io.sources.retrieval import Patience
from tests.io.sources.archives import dicom_archive
from tests.orthanc import free_port

HASTY = Patience(tries=3, first_wait_s=0.001, timeout_s=5)


def source(archive, **options):
    defaults = {"host": "127.0.0.1", "port": free_port(), "patience": HASTY}
    config = DimseConfig(**(defaults | options))
    if archive.destination is True:
        archive.destination = config.port
    return DimseSource(archive.url, config, {})


def fetch(asking, folder):
    (parcel,) = asking.list_parcels()
    asking.fetch(parcel, folder)
    return {path.stem: dcmread(path).pixel_array.tobytes() for path in folder.iterdir()}


def pixels(slices):
    return {str(ds.SOPInstanceUID): ds.pixel_array.tobytes() for ds in slices}


@pytest.mark.parametrize("way", ["move", "get"])
def test_a_series_arrives_both_ways(way, slices, tmp_path):
    with dicom_archive(slices) as archive:
        archive.destination = True
        asking = source(archive, retrieve=way)
        assert fetch(asking, tmp_path / "in") == pixels(slices)
        for path in sorted((tmp_path / "in").iterdir())[:2]:
            path.unlink()
        assert fetch(asking, tmp_path / "in") == pixels(slices)
        assert archive.sent == [5, 2]


def test_an_archive_that_does_not_know_us_is_asked_on_our_own_connection(slices, tmp_path):
    with dicom_archive(slices) as archive:
        assert fetch(source(archive), tmp_path / "in") == pixels(slices)
        with pytest.raises(SourceError, match=r"where to send images to.*0xA801.*\n.*ae_title"):
            fetch(source(archive, retrieve="move"), tmp_path / "other")


def test_an_archive_without_c_move_is_asked_by_c_get(slices, tmp_path):
    with dicom_archive(slices, models=("find", "get")) as archive:
        assert fetch(source(archive), tmp_path / "in") == pixels(slices)
    with (
        dicom_archive(slices, models=("find",)) as archive,
        pytest.raises(SourceError, match="does not offer"),
    ):
        fetch(source(archive), tmp_path / "other")


def test_a_series_is_not_whole_while_the_archive_counts_more(slices, tmp_path):
    with dicom_archive(slices) as archive:
        archive.count = 7
        with pytest.raises(SourceError, match="counts 7 images in a series and lists 5"):
            fetch(source(archive), tmp_path / "in")


def test_a_series_is_not_whole_while_an_image_is_missing(slices, tmp_path):
    with dicom_archive(slices) as archive:
        archive.wanted = lambda event: slices[:-1]
        with pytest.raises(SourceError, match=r"4 of 5 images of a series arrived \(tried 3 times"):
            fetch(source(archive), tmp_path / "in")
        assert len(list((tmp_path / "in").iterdir())) == 4


def test_images_of_another_series_are_turned_away(slices, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    with dicom_archive(slices) as archive:
        asking = source(archive)
        (parcel,) = asking.list_parcels()
        for ds in slices:
            ds.SeriesInstanceUID = generate_uid()
        with pytest.raises(SourceError, match="cannot send 5 images") as raised:
            asking.fetch(parcel, tmp_path / "in")
    assert list((tmp_path / "in").iterdir()) == []
    assert str(slices[0].StudyInstanceUID) not in f"{raised.value!r} {caplog.text}"


def test_who_does_not_know_our_title_is_told_so(slices):
    with (
        dicom_archive(slices, require_calling_aet=["SOMEBODY"]) as archive,
        pytest.raises(SourceError, match="refuses to be called by MEDSSL"),
    ):
        list(source(archive).list_parcels())
    with pytest.raises(SourceError, match=r"no connection to ARCHIVE.*tried 3 times"):
        list(source(archive).list_parcels())


@pytest.mark.parametrize(
    "url",
    [
        "dimse://host:104",
        "dimse://A@host",
        "dimse://A@host:x",
        "dimse://A@host:70000",
        "dimse://Ä@h:1",
    ],
)
def test_an_address_that_is_not_one(url):
    with pytest.raises(SourceError, match="AE title, host and port"):
        DimseSource(url, DimseConfig(), {})


def test_an_address_that_is_not_one_is_not_repeated():
    with pytest.raises(SourceError, match="AE title, host and port") as raised:
        DimseSource("dimse://me:secret@host:104", DimseConfig(), {})
    assert "secret" not in str(raised.value)


def test_images_do_not_come_in_the_clear_where_encryption_is_asked_for():
    with pytest.raises(ValueError, match=r"receiver\.encrypted"):
        DimseConfig(encrypted=True)
    assert DimseConfig(encrypted=True, retrieve="get")
    assert DimseConfig(encrypted=True, receiver=ReceiverConfig(encrypted=True))


def test_everything_may_be_encrypted(slices, tls, certificate, tmp_path):
    files = TlsFiles(
        ca_file=certificate[0], certificate=certificate[0], certificate_key=certificate[1]
    )
    with dicom_archive(slices, tls=tls) as archive:
        trusting = ReceiverConfig(tls=files, encrypted=True)
        asking = source(archive, encrypted=True, receiver=trusting)
        assert fetch(asking, tmp_path / "in") == pixels(slices)
        with pytest.raises(SourceError, match="no connection"):
            list(source(archive, encrypted=True, retrieve="get").list_parcels())
        (tmp_path / "text").write_text("no certificate")
        for name, problem in [("missing", "no certificate file"), ("text", "holds no certificate")]:
            wrong = ReceiverConfig(tls=TlsFiles(ca_file=tmp_path / name))
            with pytest.raises(SourceError, match=problem):
                list(source(archive, encrypted=True, retrieve="get", receiver=wrong).list_parcels())


# Our own storage server


def send(port, ds, *, title="SCANNER", called="MEDSSL", tls=None):
    """Return the status of one C-STORE, or None when the connection is refused."""
    entity = AE(title)
    entity.connection_timeout = entity.acse_timeout = 5
    link = entity.associate(
        "127.0.0.1",
        port,
        ae_title=called,
        contexts=[build_context(CTImageStorage)],
        tls_args=(tls.for_client(), "127.0.0.1") if tls else None,
    )
    if not link.is_established:
        return None
    status = link.send_c_store(ds)
    link.release()
    return status.Status


@pytest.fixture
def listening():
    """Return a function that opens a receiver; closed at the end."""
    opened = []

    def listen(deliver=lambda content, link: None, **options):
        address = Peer("MEDSSL", "127.0.0.1", free_port())
        receiver = Receiver(address, ReceiverConfig(**options), deliver)
        receiver.start()
        opened.append(receiver)
        return address.port

    yield listen
    for receiver in opened:
        receiver.stop()


def test_only_known_senders_are_listened_to_where_they_are_named(slices, listening):
    port = listening(senders=("PACS",))
    assert send(port, slices[0], title="PACS") == 0x0000
    assert send(port, slices[0], title="OTHER") is None
    assert send(port, slices[0], title="PACS", called="SOMEBODY") is None
    assert send(listening(), slices[0], title="OTHER") == 0x0000


def test_who_calls_and_says_nothing_keeps_nobody_waiting(slices, certificate, capfd):
    """A scanner of the network, for one: the handshake of TLS never comes."""
    cert, key = certificate
    files = TlsFiles(ca_file=cert, certificate=cert, certificate_key=key)
    config = ReceiverConfig(encrypted=True, tls=files, timeout_s=5)
    port = free_port()
    receiver = Receiver(Peer("MEDSSL", "127.0.0.1", port), config, lambda content, link: None)
    receiver.start()
    with socket.create_connection(("127.0.0.1", port)):
        assert send(port, slices[0], tls=files) == 0x0000
        assert send(port, slices[0]) is None
        assert send(port, slices[0], tls=files) == 0x0000
        before = time.monotonic()
        receiver.stop()
        assert time.monotonic() - before < 3
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_sender_that_breaks_off_leaves_no_socket_open(listening):
    entity = AE("SCANNER")
    entity.add_requested_context(Verification)
    link = entity.associate("127.0.0.1", listening(), ae_title="MEDSSL")
    ours = link.dul.socket.socket
    theirs = next(
        thread
        for thread in threading.enumerate()
        if isinstance(thread, Association)
        and thread.is_acceptor
        and thread.requestor.port == ours.getsockname()[1]
    )
    accepted = theirs.dul.socket.socket
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # no farewell
    ours.close()
    theirs.join(timeout=5)
    assert accepted.fileno() == -1


def test_a_sender_is_told_that_the_disk_is_full(slices, listening, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    inbox = retrieval.SeriesFolder(tmp_path / "in", str(slices[0].SeriesInstanceUID))
    port = listening(lambda content, link: inbox.add([content]))
    monkeypatch.setattr(retrieval.os, "fsync", full)
    assert send(port, slices[0]) == 0xA700
    monkeypatch.undo()
    assert send(port, slices[0]) == 0x0000
    assert len(list((tmp_path / "in").iterdir())) == 1


def test_no_more_than_so_many_may_send_at_once(slices, listening):
    port = listening(associations=1)
    first = AE("ONE").associate(
        "127.0.0.1", port, ae_title="MEDSSL", contexts=[build_context(Verification)]
    )
    assert first.is_established
    assert send(port, slices[0]) is None
    first.release()


def test_images_are_kept_as_the_bytes_that_were_sent(slices, listening):
    received = []
    port = listening(lambda content, link: received.append(content))
    send(port, slices[0])
    dataset = received[0].partition(b"DICM")[2]
    assert slices[0].PixelData in dataset


def test_a_port_that_is_taken_is_named(listening):
    port = listening()
    second = Receiver(
        Peer("MEDSSL", "127.0.0.1", port), ReceiverConfig(), lambda content, link: None
    )
    with pytest.raises(SourceError, match=f"cannot listen at 127.0.0.1, port {port}"):
        second.start()


def test_certificates_that_are_none_are_named(certificate, tmp_path):
    (tmp_path / "text").write_text("no certificate")
    cert, key = certificate
    files = TlsFiles(ca_file=tmp_path / "text", certificate=cert, certificate_key=key)
    config = ReceiverConfig(encrypted=True, tls=files)
    receiver = Receiver(Peer("MEDSSL", "127.0.0.1", 1), config, lambda content, link: None)
    with pytest.raises(SourceError, match="text holds no certificate"):
        receiver.start()


def test_nothing_is_taken_over_tls_without_a_certificate():
    config = ReceiverConfig(encrypted=True)
    receiver = Receiver(Peer("MEDSSL", "127.0.0.1", 1), config, lambda content, link: None)
    with pytest.raises(SourceError, match="need a certificate"):
        receiver.start()
