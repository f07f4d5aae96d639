"""A real archive: what goes in comes out the same, also when one side dies in between."""

import shutil
import subprocess

import pytest
from dicomweb_client import DICOMwebClient
from pydicom import dcmread

from medssl.io.sources.base import SourceError
from medssl.io.sources.dicomweb import DicomWebConfig, DicomWebSource
from medssl.io.sources.dimse import DimseConfig, DimseSource
from medssl.io.sources.retrieval import Patience, SeriesFolder
from tests import orthanc, phantoms

WAYS = ("web", "move", "get")
HASTY = Patience(tries=3, first_wait_s=0.02, timeout_s=10)
JPEG_LS = "1.2.840.10008.1.2.4.80"
pytestmark = pytest.mark.filterwarnings(
    # pynetdicom 3.0.4 does not close a socket that could not be connected
    "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    with orthanc.running(tmp_path_factory.mktemp("orthanc")) as started:
        yield started


@pytest.fixture(scope="module")
def originals(archive, tmp_path_factory):
    """Send three series, each by another way; return data sets by their instance UID."""
    folder = tmp_path_factory.mktemp("scans")
    affine = phantoms.affine_ras((5, 4, 3))
    sent = {}
    for number, (name, modality) in enumerate([("ct", "CT"), ("mr", "MR"), ("raw", "CT")]):
        array = phantoms.phantom(affine, (40, 36, 9)) + number
        phantoms.write_dicom(folder / name, array, affine, modality=modality)
    (folder / "jpeg-ls").mkdir()
    for path in (folder / "raw").iterdir():
        target = folder / "jpeg-ls" / path.name
        subprocess.run([shutil.which("dcmcjpls"), path, target], check=True)
    archive.store(folder / "ct")
    archive.store(folder / "jpeg-ls", "-xt")
    web = DICOMwebClient(archive.web.removeprefix("dicomweb+"))
    web.store_instances([dcmread(path) for path in (folder / "mr").iterdir()])
    for name in ("ct", "jpeg-ls", "mr"):
        found = [dcmread(path) for path in (folder / name).iterdir()]
        sent |= {str(ds.SOPInstanceUID): ds for ds in found}
    assert archive.count() == len(sent) == 27
    return sent


def source(archive, way, query=None, **options):
    if way == "web":
        return DicomWebSource(archive.web, DicomWebConfig(patience=HASTY, **options), query or {})
    address = {"host": "127.0.0.1", "port": archive.receiver}
    config = DimseConfig(retrieve=way, patience=HASTY, **(address | options))
    return DimseSource(archive.dimse, config, query or {})


def files(folder):
    return {path.stem: dcmread(path) for path in folder.rglob("*.dcm")}


@pytest.mark.parametrize("way", WAYS)
def test_what_was_sent_comes_back_as_it_is_stored(way, archive, originals, tmp_path):
    asking = source(archive, way)
    parcels = list(asking.list_parcels())
    assert sorted(parcel.files for parcel in parcels) == [9, 9, 9]
    for number, parcel in enumerate(parcels):
        asking.fetch(parcel, tmp_path / str(number))
    got = files(tmp_path)
    assert got.keys() == originals.keys()
    for uid, ds in got.items():
        assert ds.PixelData == originals[uid].PixelData
        assert ds.file_meta.TransferSyntaxUID == originals[uid].file_meta.TransferSyntaxUID
    assert sum(ds.file_meta.TransferSyntaxUID == JPEG_LS for ds in got.values()) == 9


@pytest.mark.parametrize("way", ["web", "move"])
def test_a_query_is_understood(way, archive, originals):
    for query, count in [
        ({"Modality": "MR"}, 1),
        ({"PatientID": "P-*"}, 3),
        ({"Modality": "US"}, 0),
    ]:
        assert len(list(source(archive, way, query).list_parcels())) == count


@pytest.mark.parametrize("way", ["web", "move"])
def test_killed_in_mid_transfer_it_is_asked_for_the_rest_only(
    way, archive, originals, tmp_path, monkeypatch
):
    array = phantoms.phantom(phantoms.affine_ras(), (512, 512, 40))
    paths = phantoms.write_dicom(tmp_path / "new", array, phantoms.affine_ras(), seed=3)
    series = str(dcmread(paths[0]).SeriesInstanceUID)
    archive.store(tmp_path / "new")
    asking = source(archive, way)
    (parcel,) = [p for p in asking.list_parcels() if p.name.endswith(f"/{series}")]
    add, added = SeriesFolder.add, []

    def add_and_kill(inbox, pieces):
        add(inbox, pieces)
        added.append(1)
        if len(added) == 7:
            archive.kill()

    monkeypatch.setattr(SeriesFolder, "add", add_and_kill)
    try:
        with pytest.raises(SourceError, match="connection") as raised:
            asking.fetch(parcel, tmp_path / "in")
    finally:
        archive.start()
    assert series not in str(raised.value)
    held = {path: path.stat().st_mtime_ns for path in (tmp_path / "in").iterdir()}
    assert {path.suffix for path in held} == {".dcm"}
    assert 7 <= len(held) < 40
    source(archive, way).fetch(parcel, tmp_path / "in")
    assert len(added) == len(files(tmp_path / "in")) == 40
    assert {path: path.stat().st_mtime_ns for path in held} == held


def test_an_archive_that_cannot_reach_us_says_so(archive, originals, tmp_path):
    asking = source(archive, "move", port=orthanc.free_port())
    parcel = next(iter(asking.list_parcels()))
    with pytest.raises(SourceError, match=r"(?s)cannot.*hint: can the archive reach port"):
        asking.fetch(parcel, tmp_path / "in")


def test_an_archive_that_does_not_know_us_is_asked_on_our_own_connection(
    archive, originals, tmp_path
):
    asking = source(archive, "auto", ae_title="STRANGER")
    parcel = next(iter(asking.list_parcels()))
    asking.fetch(parcel, tmp_path / "in")
    assert len(files(tmp_path / "in")) == parcel.files


def test_a_password_is_taken_from_a_file(tmp_path):
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    with orthanc.running(tmp_path / "orthanc", users={"ida": "right-horse"}) as archive:
        secret.write_text("ida:wrong-horse")
        asking = source(archive, "web", token_file=secret, login="basic")
        with pytest.raises(SourceError, match="refuses access") as raised:
            list(asking.list_parcels())
        assert "horse" not in str(raised.value)
        secret.write_text("ida:right-horse")
        assert list(asking.list_parcels()) == []
