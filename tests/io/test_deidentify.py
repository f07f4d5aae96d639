import base64
import hashlib
import hmac
import re
import stat

import pytest

from medssl.errors import InputError
from medssl.io.deidentify import Pseudonymizer, body_part, image_type

SECRET = bytes(range(32))


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "key"
    path.write_text(SECRET.hex())
    path.chmod(0o600)
    return path


def test_a_pseudonym_is_a_keyed_hash_of_128_bits(key_file):
    found = Pseudonymizer.from_key_file(key_file).patient_key(" 123 ", "HOSPITAL")
    slow = hmac.new(SECRET, b"patient|8:HOSPITAL|3:123", hashlib.sha256).digest()[:16]
    assert found == base64.b32encode(slow).decode().strip("=").lower()
    assert re.fullmatch("[a-z2-7]{26}", found)


def test_kinds_parts_and_keys_never_collide(key_file):
    one, other = Pseudonymizer.from_key_file(key_file), Pseudonymizer.ephemeral()
    keys = {
        one.patient_key("1"),
        one.study_key("1"),
        one.series_key("1"),
        one.instance_key("1"),
        one.frame_key("1"),
        one.file_key("1"),
        one.volume_key("1"),
        one.content_key("1"),
        one.patient_key("c", "ab"),
        one.patient_key("bc", "a"),
        other.patient_key("1"),
        one.key_id,
        other.key_id,
    }
    assert len(keys) == 13
    assert one.frame_key("") == ""
    assert one.file_key("caf\udce9.dcm")  # a file name that is no valid text


def test_the_key_never_shows(key_file):
    pseudonymizer = Pseudonymizer.from_key_file(key_file)
    assert SECRET.hex() not in repr(pseudonymizer)
    assert str(SECRET) not in repr(pseudonymizer)


def test_a_key_is_made_only_when_allowed_and_only_for_its_owner(tmp_path):
    path = tmp_path / "new" / "key"
    with pytest.raises(InputError, match="create_key=true"):
        Pseudonymizer.from_key_file(path)
    made = Pseudonymizer.from_key_file(path, create=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Pseudonymizer.from_key_file(path, create=True).key_id == made.key_id


def test_a_key_others_can_read_is_refused(key_file):
    key_file.chmod(0o644)
    with pytest.raises(InputError, match="chmod 600"):
        Pseudonymizer.from_key_file(key_file)


@pytest.mark.parametrize("content", ["", "not hexadecimal", "00ff"])
def test_a_file_that_is_no_key_is_refused(content, key_file):
    key_file.write_text(content)
    with pytest.raises(InputError, match="not a medssl key file"):
        Pseudonymizer.from_key_file(key_file)


def test_words_of_a_header_pass_only_through_a_vocabulary():
    assert body_part("CHEST") == body_part(" chest ") == "chest"
    assert body_part("L-SPINE") == "spine"
    assert body_part("SMITH, JOHN") == ""
    assert image_type(("ORIGINAL", "primary", "SMITH^JOHN", "AXIAL")) == "ORIGINAL/PRIMARY/AXIAL"


def test_uids_and_day_shifts_are_keyed_valid_and_stable(key_file):
    one, other = Pseudonymizer.from_key_file(key_file), Pseudonymizer.ephemeral()
    uid = one.uid("1.2.840.1")
    assert re.fullmatch(r"2\.25\.[1-9]\d{0,38}", uid)
    assert uid == Pseudonymizer.from_key_file(key_file).uid("1.2.840.1")
    assert len({uid, one.uid("1.2.840.2"), other.uid("1.2.840.1")}) == 3
    shifts = {one.day_shift(str(number)) for number in range(200)}
    assert all(-3650 <= shift <= -1 for shift in shifts)
    assert len(shifts) > 150
    assert one.day_shift("7") == one.day_shift("7") != other.day_shift("7")
