"""Archives: what is unpacked, and what is refused, with the reason."""

import io
import struct
import tarfile
import zipfile

import pytest

from medssl.io.sources.archive import ArchiveConfig, ArchiveSource, is_archive, unpack

TAR_KINDS = ["w:", "w:gz", "w:bz2", "w:xz"]


def tar_of(path, members, mode="w:gz"):
    with tarfile.open(path, mode) as tar:
        for member, content in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def zip_of(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def unpacked(path, tmp_path, **limits):
    """Return {name: content} of what was written, and {name: code} of what was refused."""
    folder = tmp_path / "out"
    refused = unpack(path, folder, ArchiveConfig(**limits))
    written = {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }
    assert len({part.name for part in refused}) == len(refused)
    assert not written.keys() & {part.name for part in refused}
    assert {file.name for file in tmp_path.iterdir()} <= {"out", path.name}
    return written, {part.name: part.error.code for part in refused}


MEMBERS = [("a/1", b"one"), ("./a/2", b"two" * 1000), ("b", b"")]
CONTENT = {"a/1": b"one", "a/2": b"two" * 1000, "b": b""}


def test_a_zip(tmp_path):
    assert unpacked(zip_of(tmp_path / "a.zip", MEMBERS), tmp_path) == (CONTENT, {})


@pytest.mark.parametrize("mode", TAR_KINDS)
def test_a_tar_of_every_kind_whatever_its_name(mode, tmp_path):
    path = tar_of(tmp_path / "noname", MEMBERS, mode)
    assert is_archive(path)
    assert unpacked(path, tmp_path) == (CONTENT, {})


def test_a_scan_is_no_archive(tmp_path):
    (tmp_path / "a").write_bytes(bytes(1000))
    assert not is_archive(tmp_path / "a")
    assert not is_archive(tmp_path / "nowhere")


def test_what_an_interrupted_run_unpacked_is_kept(tmp_path):
    path = zip_of(tmp_path / "a.zip", MEMBERS)
    unpacked(path, tmp_path)
    before = (tmp_path / "out" / "a" / "1").stat().st_ino
    assert unpacked(path, tmp_path) == (CONTENT, {})
    assert (tmp_path / "out" / "a" / "1").stat().st_ino == before


UNSAFE = ["../outside", "/absolute", "a/../../outside", ".."]


@pytest.mark.parametrize("name", UNSAFE)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_member_that_would_leave_the_folder_is_refused_and_the_others_go_on(name, kind, tmp_path):
    make = zip_of if kind == "zip" else tar_of
    written, refused = unpacked(make(tmp_path / "a", [(name, b"x"), ("good", b"y")]), tmp_path)
    assert written == {"good": b"y"}
    assert list(refused.values()) == ["unsafe_member"]
    assert not (tmp_path.parent / "outside").exists()


def test_links_and_devices_of_a_tar_are_refused(tmp_path):
    kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
    members = []
    for index, kind in enumerate(kinds):
        info = tarfile.TarInfo(f"{index}")
        info.type, info.linkname = kind, "/etc/passwd"
        members.append((info, b""))
    written, refused = unpacked(tar_of(tmp_path / "a", [*members, ("good", b"y")]), tmp_path)
    assert written == {"good": b"y"}
    assert refused == dict.fromkeys("01234", "unsafe_member")


def test_a_link_in_a_zip_is_refused(tmp_path):
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    written, refused = unpacked(zip_of(tmp_path / "a", [(info, "/etc"), ("link/x", b"")]), tmp_path)
    assert written == {"link/x": b""}
    assert refused == {"link": "unsafe_member"}


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
@pytest.mark.parametrize("make", [zip_of, tar_of])
def test_the_second_of_two_members_of_one_name_is_refused(make, tmp_path):
    path = make(tmp_path / "a", [("x", b"1"), ("./x", b"2"), ("x", b"3"), ("x/y", b"4")])
    written, refused = unpacked(path, tmp_path)
    assert written == {"x": b"1"}
    assert refused == {
        "x (2)": "duplicate_member",
        "x (3)": "duplicate_member",
        "x/y": "unsafe_member",
    }


@pytest.mark.parametrize("make", [zip_of, tar_of])
def test_members_that_are_called_like_our_own_half_files_are_not_lost(make, tmp_path):
    members = {"x.part": b"1", "x": b"2", "y.part/z": b"3", "y": b"4"}
    assert unpacked(make(tmp_path / "a", list(members.items())), tmp_path) == (members, {})


def test_a_locked_member_is_refused(tmp_path):
    path = zip_of(tmp_path / "a", [("x", b"1"), ("y", b"2")])
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    assert unpacked(path, tmp_path) == ({"y": b"2"}, {"x": "encrypted_member"})


def test_an_archive_in_an_archive_is_not_opened(tmp_path):
    inner = zip_of(tmp_path / "inner", [("x", b"1")]).read_bytes()
    (tmp_path / "inner").unlink()
    path = zip_of(tmp_path / "a", [("in.ZIP", inner), ("in.tar.gz", b""), ("y", b"2")])
    expected = dict.fromkeys(["in.ZIP", "in.tar.gz"], "nested_archive")
    assert unpacked(path, tmp_path) == ({"y": b"2"}, expected)


def test_a_damaged_member_is_refused_and_the_others_go_on(tmp_path):
    path = tmp_path / "a"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", b"content of x")
        archive.writestr("y", b"content of y")
    path.write_bytes(path.read_bytes().replace(b"content of x", b"c0ntent of x"))
    assert unpacked(path, tmp_path) == ({"y": b"content of y"}, {"x": "damaged_member"})


@pytest.mark.parametrize("mode", ["zip", *TAR_KINDS])
def test_a_cut_archive_says_so_and_gives_what_came_before(mode, tmp_path):
    members = [(f"{n}", bytes([n]) * 50_000) for n in range(4)]
    if mode == "zip":
        path = zip_of(tmp_path / "a", members)
    else:
        path = tar_of(tmp_path / "a", members, mode)
    content = path.read_bytes()
    for cut in (1, len(content) // 2, len(content) - 30):
        path.write_bytes(content[:cut])
        written, refused = unpacked(path, tmp_path)
        assert "damaged_archive" in refused.values() or written == dict(members)
        assert all(written[name] == dict(members)[name] for name in written)


def test_a_tar_damaged_in_the_middle_is_not_taken_for_its_end(tmp_path):
    path = tar_of(tmp_path / "a", [(f"{n}", b"x" * 512) for n in range(3)], "w:")
    content = bytearray(path.read_bytes())
    content[1024 + 148 : 1024 + 156] = b"99999999"  # the checksum of the second header
    path.write_bytes(content)
    assert unpacked(path, tmp_path) == ({"0": b"x" * 512}, {"": "damaged_archive"})


@pytest.mark.parametrize("content", [b"", b"no archive", bytes(100_000), b"PK\x03\x04" * 100])
def test_what_is_no_archive_is_refused_as_a_whole(content, tmp_path):
    (tmp_path / "a.zip").write_bytes(content)
    written, refused = unpacked(tmp_path / "a.zip", tmp_path)
    assert written == {}
    assert refused == {"": "damaged_archive"}


def test_a_member_that_grows_too_much_is_refused(tmp_path):
    members = [("bomb", bytes(17 * 2**20)), ("y", b"2")]
    path = zip_of(tmp_path / "a", members)
    assert unpacked(path, tmp_path) == ({"y": b"2"}, {"bomb": "decompression_bomb"})
    path = tar_of(tmp_path / "b", [("x", b"1"), *members])
    path.rename(tmp_path / "a")
    written, refused = unpacked(tmp_path / "a", tmp_path)
    assert refused == {"": "decompression_bomb"}
    assert "bomb" not in written


def test_a_member_that_is_larger_than_it_says_is_refused(tmp_path):
    path = zip_of(tmp_path / "a", [("x", b"x" * 1000)])
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", 10)
    path.write_bytes(content)
    assert unpacked(path, tmp_path)[1] == {"x": "damaged_member"}


def test_members_that_share_bytes_are_refused(tmp_path):
    """The zip bomb of overlapping entries: one kernel of data, listed many times."""
    path = zip_of(tmp_path / "a", [("x", b"x" * 5000), ("y", b"y")])
    with zipfile.ZipFile(path) as archive:
        first, second = archive.infolist()
        start = archive.start_dir
    entries = bytearray(path.read_bytes()[start:])
    twin = bytearray(entries[: entries.index(b"PK\x01\x02", 4)])
    twin[46:47] = b"z"
    content = path.read_bytes()[:start] + bytes(twin) + bytes(entries)
    end = content.rindex(b"PK\x05\x06")
    size = len(content) - start - 22
    tail = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 3, 3, size, start, 0)
    path.write_bytes(content[:end] + tail)
    written, refused = unpacked(path, tmp_path)
    assert written == {"y": b"y"}
    assert set(refused) == {"x", "z"}
    assert set(refused.values()) <= {"decompression_bomb", "damaged_member"}
    assert second.filename == "y"
    assert first.filename == "x"


def test_limits_on_the_number_and_the_sum(tmp_path):
    path = zip_of(tmp_path / "a", [(f"{n}", b"x" * 1000) for n in range(5)])
    assert unpacked(path, tmp_path, most_members=4) == ({}, {"": "too_many_members"})
    written, refused = unpacked(path, tmp_path, most_gib=2500 / 2**30)
    assert len(written) == 2
    assert refused == dict.fromkeys("234", "archive_too_large")


def test_a_tar_header_that_announces_a_name_of_gigabytes_is_refused(tmp_path):
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 2**33
    header = info.tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "a").write_bytes(header + bytes(10_240))
    assert unpacked(tmp_path / "a", tmp_path) == ({}, {"": "damaged_archive"})


def test_a_name_that_no_file_can_have_is_refused(tmp_path):
    path = zip_of(tmp_path / "a", [("x" * 300, b"1"), ("y", b"2")])
    assert unpacked(path, tmp_path) == ({"y": b"2"}, {"x" * 300: "unsafe_member"})


def test_each_archive_is_a_parcel_whose_stamp_changes_with_it(tmp_path):
    path = zip_of(tmp_path / "a.zip", MEMBERS)
    source = ArchiveSource("in", {"sub/a.zip": path}, ArchiveConfig())
    (parcel,) = source.list_parcels()
    assert parcel.name == "sub/a.zip!"
    assert "a.zip" not in repr(parcel)
    assert source.fetch(parcel, tmp_path / "out") == []
    zip_of(path, MEMBERS[:1])
    (changed,) = source.list_parcels()
    assert changed.stamp != parcel.stamp


def test_an_archive_that_is_gone_is_a_row_and_stops_nothing(tmp_path):
    (tmp_path / "gone.zip").symlink_to(tmp_path / "nowhere")
    source = ArchiveSource("in", {"gone.zip": tmp_path / "gone.zip"}, ArchiveConfig())
    (parcel,) = source.list_parcels()
    (refused,) = source.fetch(parcel, tmp_path / "out")
    assert (refused.name, refused.error.code) == ("", "unreadable_file")


def test_a_member_without_a_name_is_damage_and_no_crash(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr("x", b"1")
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at + 28 : at + 30] = b"\0\0"  # the length of the name
    path.write_bytes(content)
    (refused,) = unpack(path, tmp_path / "out", ArchiveConfig())
    assert refused.error.code == "damaged_archive"
