"""Object stores: a real S3 server of moto on loopback, and fsspec's own store in memory."""

import json

import fsspec
import pytest

from medssl.io.sources.archive import ArchiveConfig
from medssl.io.sources.base import SourceError
from medssl.io.sources.remote import RemoteConfig, RemoteSource

boto3 = pytest.importorskip("boto3", reason="needs moto[server] and s3fs")
moto_server = pytest.importorskip("moto.server", reason="needs moto[server] and s3fs")
pytest.importorskip("s3fs", reason="needs moto[server] and s3fs")

CONTENT = {"a/1.dcm": b"one", "a/2.dcm": b"two" * 100_000, "b/c/3.dcm": b"3", "top": b""}
IMPATIENT = RemoteConfig(tries=2, first_wait_s=0)


@pytest.fixture(scope="module")
def endpoint():
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "canary-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    client = boto3.client("s3", endpoint_url=endpoint)
    client.create_bucket(Bucket="scans")
    for name, content in CONTENT.items():
        client.put_object(Bucket="scans", Key=f"archive/{name}", Body=content)
    yield client
    for row in client.list_objects_v2(Bucket="scans").get("Contents", ()):
        client.delete_object(Bucket="scans", Key=row["Key"])
    client.delete_bucket(Bucket="scans")
    client.close()


def opened(url="s3://scans/archive"):
    return RemoteSource(url, IMPATIENT, ArchiveConfig())


def test_the_folders_of_a_bucket_are_parcels_and_arrive_whole(bucket, tmp_path):
    source = opened()
    parcels = {parcel.name: parcel for parcel in source.list_parcels()}
    assert {name: (p.files, p.bytes) for name, p in parcels.items()} == {
        "a": (2, 300_003),
        "b/c": (1, 1),
        ".": (1, 0),
    }
    for number, (name, parcel) in enumerate(parcels.items()):
        folder = tmp_path / str(number)
        assert list(source.fetch(parcel, folder)) == []
        found = {file.name: file.read_bytes() for file in folder.iterdir()}
        inside = "" if name == "." else f"{name}/"
        assert found == {
            key.removeprefix(inside): content
            for key, content in CONTENT.items()
            if key.rpartition("/")[0] == inside.rstrip("/")
        }


def test_a_stamp_changes_with_the_content_only(bucket):
    before = {parcel.name: parcel.stamp for parcel in opened().list_parcels()}
    assert before == {parcel.name: parcel.stamp for parcel in opened().list_parcels()}
    bucket.put_object(Bucket="scans", Key="archive/a/1.dcm", Body=b"eno")
    after = {parcel.name: parcel.stamp for parcel in opened().list_parcels()}
    assert {name for name in before if before[name] != after[name]} == {"a"}


def test_what_an_interrupted_run_brought_is_not_brought_again(bucket, tmp_path):
    source = opened()
    parcel = next(p for p in source.list_parcels() if p.name == "a")
    source.fetch(parcel, tmp_path)
    before = (tmp_path / "2.dcm").stat().st_ino
    (tmp_path / "1.dcm").unlink()
    source.fetch(parcel, tmp_path)
    assert (tmp_path / "2.dcm").stat().st_ino == before
    assert (tmp_path / "1.dcm").read_bytes() == b"one"


def test_an_object_that_is_gone_is_an_error_in_words(bucket, tmp_path):
    source = opened()
    parcel = next(p for p in source.list_parcels() if p.name == "a")
    bucket.delete_object(Bucket="scans", Key="archive/a/2.dcm")
    with pytest.raises(SourceError, match="only in part, or not at all") as caught:
        source.fetch(parcel, tmp_path)
    assert "2.dcm" not in str(caught.value)
    assert "canary" not in str(caught.value)
    assert not list(tmp_path.glob("*.part"))


def test_a_bucket_that_is_not_there_is_an_error_in_words(bucket):
    with pytest.raises(SourceError, match=r"s3://nowhere"):
        list(opened("s3://nowhere/x").list_parcels())


def test_no_credentials_in_label_or_repr(bucket):
    source = opened()
    assert source.label == "s3://scans/archive"
    texts = json.dumps([source.label, repr(source), repr(list(source.list_parcels()))])
    assert "canary" not in texts
    assert "1.dcm" not in texts


def test_an_object_whose_name_no_file_can_have_is_a_row_and_stops_nothing(memory, tmp_path):
    memory.pipe({f"/x/{'n' * 300}": b"1", "/x/a.part": b"2", "/x/a": b"3"})
    source = opened("memory://x")
    (parcel,) = source.list_parcels()
    (refused,) = source.fetch(parcel, tmp_path / "in")
    assert (refused.name, refused.error.code) == ("n" * 300, "unsafe_member")
    found = {path.name: path.read_bytes() for path in (tmp_path / "in").iterdir()}
    assert found == {"a.part": b"2", "a": b"3"}


@pytest.fixture
def memory():
    store = fsspec.filesystem("memory")
    yield store
    store.rm("/", recursive=True)


def test_a_single_file_is_a_source_too(memory, tmp_path):
    memory.pipe("/x/y/scan.nii", b"voxels")
    source = opened("memory://x/y/scan.nii")
    (parcel,) = source.list_parcels()
    source.fetch(parcel, tmp_path)
    assert (tmp_path / "scan.nii").read_bytes() == b"voxels"


def test_an_object_cut_short_is_asked_for_again(memory, tmp_path, monkeypatch):
    memory.pipe("/x/a", b"whole content")
    source = opened("memory://x")
    (parcel,) = source.list_parcels()
    copy, tries = source._copy, []

    def cut(path, part):
        tries.append(path)
        if len(tries) == 1:
            part.write_bytes(b"whole")
        else:
            copy(path, part)

    monkeypatch.setattr(source, "_copy", cut)
    source.fetch(parcel, tmp_path)
    assert (tmp_path / "a").read_bytes() == b"whole content"
    assert len(tries) == 2


def test_an_address_of_an_unknown_kind_is_a_mistake():
    with pytest.raises(SourceError, match="not installed"):
        opened("nonsense://x")


def test_a_store_that_does_not_answer_is_an_error_in_words():
    with pytest.raises(SourceError, match=r"ftp://127.0.0.1:1/x cannot be reached") as caught:
        opened("ftp://me:secret@127.0.0.1:1/x")
    assert "secret" not in str(caught.value)


def test_an_empty_store_is_a_mistake(memory):
    memory.mkdir("/void")
    with pytest.raises(SourceError, match="holds no files"):
        list(opened("memory://void").list_parcels())
