"""A web archive that tells the truth, and ones that do not."""

import errno
import logging
import re

import pytest

from medssl.io.sources import dicomweb, retrieval, web
from medssl.io.sources.base import SourceError
from medssl.io.sources.dicomweb import DicomWebConfig, DicomWebSource
from medssl.io.sources.encryption import TlsFiles
from medssl.io.sources.retrieval import Patience
from tests.io.sources.archives import web_archive

HASTY = Patience(tries=3, first_wait_s=0.001, timeout_s=5)
HTML = b"<html>Please log in, Mrs Quillfeather</html>"


@pytest.fixture
def archive(slices):
    with web_archive(slices) as served:
        yield served


def source(archive, query=None, **options):
    return DicomWebSource(archive.url, DicomWebConfig(patience=HASTY, **options), query or {})


def fetch(archive, folder, **options):
    asking = source(archive, **options)
    (parcel,) = asking.list_parcels()
    asking.fetch(parcel, folder)
    return {path.stem: path.read_bytes() for path in folder.iterdir()}


def test_a_series_arrives_byte_by_byte(archive, tmp_path):
    assert fetch(archive, tmp_path / "in") == archive.files
    assert [path for path in archive.asked if "/instances/" in path] == []


def test_every_page_is_read(archive, tmp_path):
    assert fetch(archive, tmp_path / "in", page=2) == archive.files


def test_a_parcel_says_what_it_is_but_not_whose(archive):
    (parcel,) = source(archive).list_parcels()
    assert (parcel.name, parcel.files) == (f"{archive.study}/{archive.series}", 5)
    assert archive.study not in repr(parcel)
    archive.count = 6
    assert next(iter(source(archive).list_parcels())).stamp != parcel.stamp


def test_the_query_is_sent_where_it_belongs(archive):
    asked = []
    archive.override = lambda handler: asked.append(handler.path)
    list(source(archive, {"StudyDate": "20240101-", "Modality": "CT"}).list_parcels())
    studies = [path for path in asked if "/series" not in path]
    series = [path for path in asked if "/series" in path]
    assert all("StudyDate=20240101-" in path and "Modality" not in path for path in studies)
    assert series
    assert all("Modality=CT" in path and "StudyDate" not in path for path in series)


def test_what_is_there_is_not_fetched_again(archive, tmp_path):
    fetch(archive, tmp_path / "in")
    missing = sorted((tmp_path / "in").iterdir())[:2]
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "in").iterdir()}
    for path in missing:
        path.unlink()
        del kept[path]
    (tmp_path / "in" / "cut-short.part").write_bytes(b"half")
    archive.asked.clear()
    assert fetch(archive, tmp_path / "in") == archive.files
    single = [path.rpartition("/")[2] for path in archive.asked if "/instances/" in path]
    assert single == [path.stem for path in missing]
    assert all(path.stat().st_mtime_ns == mtime for path, mtime in kept.items())


def test_a_connection_that_dies_is_picked_up_where_it_broke(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(dicomweb, "_CHUNK_BYTES", 256)
    size = len(next(iter(archive.files.values())))

    def break_off(handler):
        if handler.path.endswith(f"/series/{archive.series}"):
            handler.multipart(archive.files.values(), end=int(2.5 * size))
            return True
        return False

    archive.override = break_off
    assert fetch(archive, tmp_path / "in") == archive.files
    assert len([path for path in archive.asked if "/instances/" in path]) == 3


def test_an_archive_that_is_busy_is_asked_again_but_not_for_ever(archive, tmp_path):
    busy = [2]

    def refuse(handler):
        busy[0] -= 1
        if busy[0] >= 0:
            handler.answer("text/plain", b"", status=503)
        return busy[0] >= 0

    archive.override = refuse
    assert len(fetch(archive, tmp_path / "in")) == 5
    busy[0] = 1000
    with pytest.raises(SourceError, match=r"HTTP status 503 \(tried 3 times\)"):
        fetch(archive, tmp_path / "other")


def test_an_archive_that_is_not_there_is_told(slices):
    with web_archive(slices) as archive:
        asking = source(archive)
    with pytest.raises(SourceError, match=r"connection to 127.0.0.1:.* failed"):
        list(asking.list_parcels())


def test_an_archive_that_went_away_is_not_asked_for_every_series(slices, tmp_path, monkeypatch):
    with web_archive(slices) as archive:
        (parcel,) = source(archive).list_parcels()
        asking = source(archive)
    pauses = []
    monkeypatch.setattr(retrieval.time, "sleep", pauses.append)
    for _ in range(10):
        with pytest.raises(SourceError, match=r"connection to 127.0.0.1:.* failed"):
            asking.fetch(parcel, tmp_path / "in")
    assert len(pauses) == HASTY.tries - 1
    with pytest.raises(SourceError, match="failed"):
        list(asking.list_parcels())
    assert len(pauses) == 2 * (HASTY.tries - 1)


def test_a_series_that_the_archive_cannot_give_does_not_stand_for_others(archive, tmp_path):
    asking = source(archive)
    (parcel,) = asking.list_parcels()
    archive.override = lambda handler: handler.answer("text/plain", b"", status=500) or True
    with pytest.raises(SourceError, match="HTTP status 500"):
        asking.fetch(parcel, tmp_path / "in")
    archive.override = lambda handler: False
    asking.fetch(parcel, tmp_path / "in")
    assert len(list((tmp_path / "in").iterdir())) == 5


def _html(archive):
    archive.override = lambda handler: handler.answer("text/html", HTML) or True


def _html_for_images(archive):
    def answer(handler):
        if "limit" not in handler.path:
            handler.answer("text/html", HTML)
        return "limit" not in handler.path

    archive.override = answer


def _html_part(archive):
    def answer(handler):
        if "limit" not in handler.path:
            handler.multipart([HTML], kind="text/html")
        return "limit" not in handler.path

    archive.override = answer


def _too_few_listed(archive):
    archive.listed = archive.listed[:3]


def _too_few_sent(archive):
    archive.override = lambda handler: (
        "limit" not in handler.path
        and (handler.multipart(list(archive.files.values())[:3]) or True)
        if "/instances/" not in handler.path
        else "limit" not in handler.path and (handler.answer("x/y", b"", status=500) or True)
    )


def _other_series(archive):
    other = str(archive.series)[:-1] + ("1" if str(archive.series)[-1] != "1" else "2")
    archive.files = {
        uid: content.replace(str(archive.series).encode(), other.encode())
        for uid, content in archive.files.items()
    }


def _no_dicom(archive):
    archive.files = dict.fromkeys(archive.files, HTML)


def _hostile_uid(archive):
    archive.listed = ["../../../etc/passwd"]


def _no_uid(archive):
    archive.series = ""


def _no_number(archive):
    archive.count = "Mrs Quillfeather"


def _redirect(archive):
    def answer(handler):
        handler.send_response(302)
        handler.send_header("Location", "http://127.0.0.1:1/dicom-web")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    archive.override = answer


LIES = {
    _html: "answered with text/html where DICOM was expected\n.*dicom-web",
    _html_for_images: "answered with text/html where DICOM was expected",
    _html_part: "a part of the archive's answer is no DICOM object",
    _too_few_listed: "counts 5 images in a series and lists 3\n.*run the same command",
    _too_few_sent: "HTTP status 500",
    _other_series: "an image of another series than asked for",
    _no_dicom: "something that is no DICOM object",
    _hostile_uid: "no DICOM UID",
    _no_uid: "no DICOM UID",
    _no_number: "as no number",
    _redirect: "HTTP status 302: it has another address",
}


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_an_archive_that_lies_is_not_believed(lie, archive, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    lie(archive)
    with pytest.raises(SourceError, match=re.compile(LIES[lie])) as raised:
        fetch(archive, tmp_path / "in")
    spoken = f"{raised.value} {raised.value!r} {caplog.text}"
    assert "Quillfeather" not in spoken
    assert str(archive.study) not in spoken
    held = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert held <= {".dcm"}


def test_an_older_archive_is_asked_without_a_star(archive, tmp_path):
    def refuse(handler):
        starred = "transfer-syntax=*" in handler.headers["Accept"]
        if starred:
            handler.answer("text/plain", b"", status=406)
        return starred

    archive.override = refuse
    assert fetch(archive, tmp_path / "in") == archive.files


def test_a_single_image_may_come_without_wrapping(archive, tmp_path):
    uids = list(archive.files)
    archive.files = {uids[0]: archive.files[uids[0]]}
    archive.listed, archive.count = uids[:1], 1

    def bare(handler):
        if "limit" not in handler.path:
            handler.answer("application/dicom", archive.files[uids[0]])
        return "limit" not in handler.path

    archive.override = bare
    assert fetch(archive, tmp_path / "in") == archive.files


def test_a_full_disk_is_no_fault_of_the_archive(archive, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(retrieval.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        fetch(archive, tmp_path / "in")
    assert list((tmp_path / "in").iterdir()) == []


# Who may ask


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "token"
    path.write_text("secret-token-1\n")
    path.chmod(0o600)
    return path


def _guard(archive, token):
    def refuse(handler):
        denied = handler.headers.get("Authorization") != token
        if denied:
            handler.answer("text/plain", b"", status=401)
        return denied

    archive.override = refuse


def test_a_token_comes_from_a_file_and_is_read_again_when_refused(archive, tmp_path, token_file):
    _guard(archive, "Bearer secret-token-1")
    asking = source(archive, token_file=token_file)
    (parcel,) = asking.list_parcels()
    token_file.write_text("secret-token-2")
    _guard(archive, "Bearer secret-token-2")
    asking.fetch(parcel, tmp_path / "in")
    assert len(list((tmp_path / "in").iterdir())) == 5


def test_a_wrong_token_is_told_and_not_shown(archive, token_file, caplog):
    caplog.set_level(logging.DEBUG)
    _guard(archive, "Bearer another")
    asking = source(archive, token_file=token_file)
    with pytest.raises(SourceError, match=r"refuses access.*401") as raised:
        list(asking.list_parcels())
    web = vars(asking)["_web"]
    shown = f"{raised.value!r} {asking!r} {web!r} {vars(web)!r} {caplog.text}"
    assert "secret-token" not in shown


def test_a_user_and_a_password_come_from_a_file_too(archive, tmp_path, token_file):
    token_file.write_text("orthanc:secret")
    _guard(archive, "Basic b3J0aGFuYzpzZWNyZXQ=")
    assert len(fetch(archive, tmp_path / "in", token_file=token_file, login="basic")) == 5


@pytest.mark.parametrize("login", ["bearer", "basic"])
def test_a_token_file_of_two_lines_is_refused_and_not_shown(archive, token_file, login):
    token_file.write_bytes(b"secret-token-1\rsecret-token-2")
    with pytest.raises(SourceError, match="should hold one line") as raised:
        list(source(archive, token_file=token_file, login=login).list_parcels())
    assert "secret" not in str(raised.value)


def test_no_other_secret_of_the_user_is_sent(archive, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert list(source(archive).list_parcels())
    assert [headers for headers in archive.headers if "Authorization" in headers] == []


def test_a_token_for_this_machine_is_sent_through_no_proxy(
    slices, archive, token_file, monkeypatch
):
    with web_archive(slices) as proxy:
        monkeypatch.setenv(
            "http_proxy", proxy.url.removeprefix("dicomweb+").removesuffix("/dicom-web")
        )
        assert list(source(archive, token_file=token_file).list_parcels())
        assert proxy.asked == []


def test_an_answer_without_end_is_not_read_into_memory(archive, monkeypatch):
    monkeypatch.setattr(web, "_LONGEST_JSON_BYTES", 1000)
    archive.override = lambda handler: (
        handler.answer("application/dicom+json", b" " * 10**6) or True
    )
    with pytest.raises(SourceError, match=r"longer than"):
        list(source(archive).list_parcels())


def test_an_address_with_a_question_in_it_is_refused_and_not_shown():
    with pytest.raises(SourceError, match="query") as raised:
        DicomWebSource("dicomweb+https://pacs/x?token=horse", DicomWebConfig(), {})
    assert "horse" not in str(raised.value)


def test_a_token_file_that_others_can_read_is_refused(archive, token_file):
    token_file.chmod(0o640)
    with pytest.raises(SourceError, match=r"can be read by others.*\n.*chmod 600"):
        source(archive, token_file=token_file)


def test_a_secret_does_not_travel_unencrypted(token_file):
    with pytest.raises(SourceError, match="encrypted"):
        DicomWebSource("dicomweb+http://pacs/x", DicomWebConfig(token_file=token_file), {})
    with pytest.raises(SourceError, match="user name and password"):
        DicomWebSource("dicomweb+https://me:pw@pacs/x", DicomWebConfig(), {})


def test_an_unknown_certificate_is_refused_and_a_known_one_believed(
    slices, tls, certificate, tmp_path
):
    with web_archive(slices, tls) as archive:
        url = archive.url.replace("http:", "https:")
        believing = TlsFiles(ca_file=certificate[0])
        trusting = DicomWebSource(url, DicomWebConfig(patience=HASTY, tls=believing), {})
        (parcel,) = trusting.list_parcels()
        trusting.fetch(parcel, tmp_path / "in")
        assert len(list((tmp_path / "in").iterdir())) == 5
        with pytest.raises(SourceError, match=r"a certificate is not accepted\n.*ca_file"):
            list(DicomWebSource(url, DicomWebConfig(patience=HASTY), {}).list_parcels())
