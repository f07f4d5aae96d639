"""The search finds what is there, wherever and however it is written, and tells nobody what."""

import base64
import bz2
import errno
import gzip
import html
import io
import json
import lzma
import os
import sqlite3
import tarfile
import unicodedata
import zipfile
from datetime import date

import blosc2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image, PngImagePlugin
from typer.testing import CliRunner

from medssl.cli.main import app
from medssl.errors import InputError, MedSSLError
from medssl.privacy import audit as module
from medssl.privacy import search as search_module
from medssl.privacy.audit import AuditRequest, audit
from medssl.privacy.common_words import says_something
from medssl.privacy.identifiers import Identifier
from medssl.privacy.search import Search
from tests import canaries, phantoms

TEXT = "Quillfeather-Ida"


@pytest.fixture
def listed(tmp_path):
    path = tmp_path / "identifiers.txt"
    path.write_text(f"{TEXT}\n19470311\nMüller-Lüdenscheidt\n1234567\nO'Brannigan & Sons\n")
    return path


@pytest.fixture
def place(tmp_path):
    folder = tmp_path / "searched"
    folder.mkdir()
    return folder


def _zip(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"x" * 1000 + TEXT.encode())


def _nested(path):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", gzip.compress(TEXT.encode()))
    path.write_bytes(gzip.compress(inner.getvalue()))


def _sqlite(path):
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE t (a TEXT, b INTEGER)")
    database.execute("INSERT INTO t VALUES (?, 1)", (TEXT,))
    database.commit()
    database.close()


def _npz(path):
    with path.open("wb") as file:
        np.savez_compressed(file, a=np.array([TEXT]))


def _png(path):
    notes = PngImagePlugin.PngInfo()
    notes.add_text("note", f"of {TEXT}", zip=True)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(path, "PNG", pnginfo=notes)


def _blosc2(path):
    array = blosc2.zeros((4,), urlpath=str(path))
    array.schunk.vlmeta["slices"] = [TEXT]


def _blosc2_chunk(path):
    blosc2.asarray(np.frombuffer(TEXT.encode() * 4000, np.uint8), urlpath=str(path))


def _tar_of_packed(path):
    with tarfile.open(path, "w") as archive:
        content = gzip.compress(TEXT.encode())
        info = tarfile.TarInfo("a.gz")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))


def _base64(text=TEXT):
    return base64.b64encode(f"<p>the patient is {text}, who was born".encode() * 3)


def _wrapped(path):
    lines = base64.encodebytes(b"x" * 50 + TEXT.encode() + b"y" * 50).replace(b"\n", b"\r\n")
    path.write_bytes(b"Content-Transfer-Encoding: base64\r\n\r\n" + lines)


def _notebook(path):
    packed = base64.encodebytes(gzip.compress(b"0" * 60 + TEXT.encode())).decode()
    path.write_text(json.dumps({"image/png": packed}))


WRITTEN = {
    "plain": lambda p: p.write_bytes(b"\0\1" + TEXT.encode() + b"\xff"),
    "upper": lambda p: p.write_text(TEXT.upper()),
    "utf16": lambda p: p.write_text(TEXT, encoding="utf-16"),
    "date-1": lambda p: p.write_text("born 1947-03-11"),
    "date-2": lambda p: p.write_text("born 11.03.1947"),
    "latin-1": lambda p: p.write_bytes("MÜLLER-LÜDENSCHEIDT".encode("latin-1")),
    "utf-8": lambda p: p.write_text("müller-lüdenscheidt"),
    "json": lambda p: p.write_text(json.dumps(["Müller-Lüdenscheidt"])),
    "url": lambda p: p.write_text("?n=M%C3%BCller-L%C3%BCdenscheidt&x=1"),
    "number": lambda p: p.write_text("id 1234567, old"),
    "gz": lambda p: p.write_bytes(gzip.compress(TEXT.encode())),
    "bz2": lambda p: p.write_bytes(bz2.compress(TEXT.encode())),
    "xz": lambda p: p.write_bytes(lzma.compress(TEXT.encode())),
    "zip": _zip,
    "zip in gz": _nested,
    "pt": lambda p: torch.save({"note": TEXT}, p),
    "npz": _npz,
    "parquet": lambda p: pq.write_table(pa.table({"a": ["x", TEXT]}), p, compression="zstd"),
    "parquet schema": lambda p: pq.write_table(
        pa.table({"a": [1]}).replace_schema_metadata({"note": TEXT}), p
    ),
    "sqlite": _sqlite,
    "png": _png,
    "tar": _tar_of_packed,
    "parquet date": lambda p: pq.write_table(pa.table({"a": [[date(1947, 3, 11)]]}), p),
    "parquet bytes": lambda p: pq.write_table(pa.table({"a": ["Müller-Lüdenscheidt".encode()]}), p),
    "page": lambda p: p.write_bytes(b'<img src="data:text/html;base64,' + _base64() + b'">'),
    "token": lambda p: p.write_bytes(
        b"Authorization: Basic " + base64.b64encode(b"u:" + TEXT.encode())
    ),
    "mail": _wrapped,
    "notebook": _notebook,
    "base64 of URLs": lambda p: p.write_bytes(
        base64.urlsafe_b64encode(b"\xff\xfe" * 40 + TEXT.encode())
    ),
    "decomposed": lambda p: p.write_text(unicodedata.normalize("NFD", "Müller-Lüdenscheidt")),
    "html": lambda p: p.write_text(html.escape("of O'Brannigan & Sons")),
    "xml": lambda p: p.write_bytes("Müller-Lüdenscheidt".encode("ascii", "xmlcharrefreplace")),
    "python": lambda p: p.write_text(ascii("Müller-Lüdenscheidt")),
    "blosc2 meta": _blosc2,
    "blosc2 chunk": _blosc2_chunk,
}


@pytest.mark.parametrize("how", WRITTEN)
def test_an_identifier_is_found_however_it_is_written(how, place, listed):
    WRITTEN[how](place / "file")
    report = audit(AuditRequest(place, identifiers=listed))
    assert report.findings, how
    assert not report.is_clean
    assert {finding.file.split("!")[0] for finding in report.findings} == {"file"}
    shown = json.dumps(report.as_json()).lower()
    for line in listed.read_text().splitlines():
        assert line.lower() not in shown


def test_file_and_folder_names_are_searched_and_masked(place, listed):
    (place / f"x-{TEXT.lower()}").mkdir()
    (place / f"x-{TEXT.lower()}" / "a.txt").write_text("nothing")
    (place / "empty 1947-03-11").mkdir()
    report = audit(AuditRequest(place, identifiers=listed))
    assert {(f.file, f.offset) for f in report.findings} == {("x-***/a.txt", -1), ("empty ***", -1)}


def test_nothing_is_found_where_nothing_is(place, listed):
    (place / "a.bin").write_bytes(np.random.default_rng(0).bytes(3_000_000))
    (place / "b.txt").write_text("x1234567 12345678 0.1234567e5 Quillfeather 194703")
    report = audit(AuditRequest(place, identifiers=listed))
    assert report.is_clean
    assert (report.files, report.identifiers) == (2, 5)
    assert report.bytes > 3_000_000


@pytest.mark.parametrize("window", [1, 7, 64, 1000])
def test_windows_neither_lose_nor_double_a_match(window, monkeypatch):
    monkeypatch.setattr(search_module, "_WINDOW_BYTES", window)
    rng = np.random.default_rng(window)
    content = bytearray(rng.bytes(5000))
    starts = [0, 61, 62 + 16, 500, 999, 3001, 5000 - 16]
    for start in starts:
        content[start : start + 16] = TEXT.encode()
    hits, size = Search([Identifier(TEXT, "k")]).in_stream(io.BytesIO(content))
    assert size == len(content)
    assert [(hit.offset, hit.times) for hit in hits] == [(0, len(starts))]


def test_uids_are_found_by_their_ends(place, tmp_path):
    uid = "1.3.6.1.4.1.14519.5.2.1.7009.2401.145316947594944273484548406701"
    (tmp_path / "uids").write_text(uid)
    (place / "a.txt").write_text(f"series {uid}/1")
    (place / "b.txt").write_text(uid, encoding="utf-16")
    (place / "c.txt").write_text(uid[:-1])
    report = audit(AuditRequest(place, identifiers=tmp_path / "uids"))
    assert {finding.file for finding in report.findings} == {"a.txt", "b.txt"}


def test_what_cannot_be_looked_into_is_no_clean_result(place, listed, monkeypatch):
    (place / "a.7z").write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(100))
    (place / "cut.gz").write_bytes(gzip.compress(np.random.default_rng(0).bytes(10_000))[:5000])
    monkeypatch.setattr(module, "_LEAST_BUDGET_BYTES", 10**6)
    (place / "bomb.gz").write_bytes(gzip.compress(bytes(10**8)))
    notes = PngImagePlugin.PngInfo()
    notes.add_text("note", "x" * 2 * 10**6, zip=True)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(place / "a.png", pnginfo=notes)
    (place / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    report = audit(AuditRequest(place, identifiers=listed))
    assert not report.findings
    assert set(report.not_searched) == {"a.7z", "cut.gz", "bomb.gz", "a.png", "a.h5"}
    assert "bomb" in report.not_searched["bomb.gz"]
    assert report.bytes < 30 * 10**6
    assert not report.is_clean


def test_what_lies_elsewhere_or_cannot_be_listed_is_no_clean_result(
    place, listed, tmp_path, monkeypatch
):
    (tmp_path / "elsewhere.txt").write_text("x")
    (place / "near.txt").write_text("x")
    (place / "link").symlink_to("near.txt")
    assert audit(AuditRequest(place, identifiers=listed)).is_clean
    (place / "away").symlink_to(tmp_path / "elsewhere.txt")
    (place / "closed").mkdir()
    scandir = os.scandir

    def closed(path):
        if str(path).endswith("closed"):
            raise PermissionError(errno.EACCES, "closed", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    report = audit(AuditRequest(place, identifiers=listed))
    assert report.not_searched == {
        "away": "a link to a place outside",
        "closed": "cannot be read (PermissionError)",
    }


def test_a_search_that_finds_nothing_of_its_own_is_an_error(place, listed, monkeypatch):
    monkeypatch.setattr(Search, "in_stream", lambda _self, stream: ([], len(stream.read())))
    with pytest.raises(MedSSLError, match="worth nothing"):
        audit(AuditRequest(place, identifiers=listed))


def test_every_plant_of_a_source_is_collected_and_found(source, tmp_path):
    report = audit(AuditRequest(source, sources=(source,)))
    kinds = {finding.kind for finding in report.findings}
    keywords = {kind for kind in canaries.PLANTED if kind[0].isupper() and kind != "CodeMeaning"}
    assert keywords <= kinds
    assert {"CodeMeaning", "private element", "preamble", "after the pixels"} <= kinds
    assert {"file name", "folder name"} <= kinds
    for text in canaries.everything():
        (tmp_path / "one").mkdir(exist_ok=True)
        (tmp_path / "one" / "a.log").write_text(f"could not read {text}!")
        assert audit(AuditRequest(tmp_path / "one", sources=(source,))).findings, text


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_the_source_may_be_an_archive(source, tmp_path, place, kind):
    archive = tmp_path / f"HEATHERINGTON.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as packed:
            for path in source.rglob("*.dcm"):
                packed.write(path, path.relative_to(source))
            packed.writestr("inner-55012.zip", b"")
    else:
        with tarfile.open(archive, "w:gz") as packed:
            packed.add(source, ".")
    request = AuditRequest(place, (archive,))
    for text in canaries.everything() | {"HEATHERINGTON"}:
        (place / "a.log").write_text(f"could not read {text}!")
        assert audit(request).findings, text
    (place / "a.log").write_text("fine")
    report = audit(request)
    assert report.is_clean
    assert report.unread == (kind == "zip")


def test_nifti_headers_are_collected(tmp_path, place):
    affine = phantoms.affine_ras()
    path = phantoms.write_nifti(tmp_path / "in" / "v.nii.gz", phantoms.phantom(affine), affine)
    import nibabel as nib

    image = nib.load(path)
    image.header["descrip"] = b"of Mrs Quillfeather"
    nib.save(image, tmp_path / "in" / "w.nii.gz")
    (place / "log").write_text("read OF MRS QUILLFEATHER")
    report = audit(AuditRequest(place, sources=(tmp_path / "in",)))
    assert [finding.kind for finding in report.findings] == ["NIfTI header"]


def test_a_deidentified_folder_is_clean(source, clean, tmp_path):
    result, _ = clean(source)
    request = AuditRequest(result.folder, (source,), key_file=tmp_path / "key")
    found = audit(request)
    private = [f for f in found.findings if f.file == "private/config.yaml"]
    assert found.findings == private
    assert audit(AuditRequest(result.folder / "images", (source,))).is_clean


def test_a_date_that_is_also_a_shifted_date_is_explained_by_the_key(source, clean, tmp_path, place):
    import pydicom

    _, files = clean(source)
    moved = pydicom.dcmread(files[0]).StudyDate
    canaries.write(tmp_path / "second", edit=lambda ds, _: setattr(ds, "StudyDate", moved))
    (place / "a.txt").write_text(f"on {moved}")
    both = (source, tmp_path / "second")
    assert audit(AuditRequest(place, both)).findings
    assert audit(AuditRequest(place, both, key_file=tmp_path / "key")).is_clean


@pytest.mark.parametrize(
    ("text", "worth"),
    [
        ("Canary_Bob", True),
        ("MRN-771204", True),
        ("123456", True),
        ("A12345", True),
        ("CT CHEST with contrast", False),
        ("1-014", False),
        ("IM0001", False),
        ("t1_tse_tra", False),
        ("12345", False),
    ],
)
def test_which_texts_point_to_somebody(text, worth):
    assert says_something(text) is worth


@pytest.fixture
def command(monkeypatch):
    monkeypatch.setattr("medssl.cli.console.set_up", lambda **_: None)
    return lambda *words: CliRunner().invoke(app, ["privacy-audit", *map(str, words)])


def test_the_command_says_what_it_found_and_never_the_identifier(command, place, listed, tmp_path):
    (place / "a.txt").write_text("fine")
    result = command(place, "--identifiers", listed, "--out", tmp_path / "r.json")
    assert result.exit_code == 0, result.output
    assert "5 identifiers of 1 files searched in 1 files, 4 bytes: none found" in result.output
    assert json.loads((tmp_path / "r.json").read_text())["clean"] is True
    (place / f"{TEXT}.txt").write_text(f"about {TEXT}")
    result = command(place, "--identifiers", listed, "--out", tmp_path / "r.json")
    assert result.exit_code == 1
    assert "***.txt" in result.output
    assert TEXT.lower() not in (result.output + (tmp_path / "r.json").read_text()).lower()
    result = command(place, "--identifiers", listed, "--exempt", "*.txt")
    assert result.exit_code == 0
    assert "2 files were exempt" in result.output


def test_the_command_needs_something_to_search_for(command, place, tmp_path):
    assert command(place).exit_code == 1
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(InputError, match="nothing that could be searched"):
        audit(AuditRequest(place, identifiers=tmp_path / "empty"))
