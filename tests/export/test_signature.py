import shutil
import stat
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from medssl.errors import InputError
from medssl.export.checksums import write_checksums
from medssl.export.signature import (
    SIGNER,
    check_signature,
    fingerprint,
    make_key,
    read_private_key,
    read_public_key,
    sign,
    write_signer,
)


@pytest.fixture
def key(tmp_path):
    make_key(tmp_path / "keys" / "ours")
    return tmp_path / "keys" / "ours"


def signed(folder, key):
    folder.mkdir()
    (folder / "weights").write_bytes(b"12")
    write_signer(folder, key)
    write_checksums(folder)
    sign(folder, key)
    return folder


def public(key):
    return read_public_key(key.with_name(f"{key.name}.pub"))


def test_a_key_is_its_owners_alone_and_never_replaced(key):
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert {path.name for path in key.parent.iterdir()} == {"ours", "ours.pub"}
    before = key.read_bytes()
    with pytest.raises(InputError, match="a key is never replaced"):
        make_key(key)
    (key.parent / "other.pub").write_text("a public key without its private one")
    with pytest.raises(InputError, match=r"other\.pub: it exists"):
        make_key(key.parent / "other")
    assert key.read_bytes() == before
    assert not (key.parent / "other").exists()


def test_a_signature_is_valid_only_by_its_key(tmp_path, key):
    folder = signed(tmp_path / "artefact", key)
    make_key(tmp_path / "theirs")
    known = fingerprint(public(key))
    assert check_signature(folder, public(key)) == ("valid", known)
    assert check_signature(folder) == ("valid, by the key beside it", known)
    assert check_signature(folder, public(tmp_path / "theirs")) == ("by another key", known)
    (folder / "SHA256SUMS").write_bytes((folder / "SHA256SUMS").read_bytes() + b"\n")
    assert check_signature(folder, public(key)) == ("wrong", "")
    (folder / "SHA256SUMS.sig").unlink()
    assert check_signature(folder, public(key)) == ("absent", "")


def test_a_key_put_beside_does_not_make_a_signature_valid(tmp_path, key):
    folder = signed(tmp_path / "artefact", key)
    make_key(tmp_path / "theirs")
    write_signer(folder, tmp_path / "theirs")
    write_checksums(folder)
    sign(folder, tmp_path / "theirs")
    state, _ = check_signature(folder, public(key))
    assert state == "by another key"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_checks_the_signature_too(tmp_path, key):
    folder = signed(tmp_path / "artefact", key)
    done = subprocess.run(
        ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", SIGNER, "-rawin",
         "-in", "SHA256SUMS", "-sigfile", "SHA256SUMS.sig"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Signature Verified Successfully" in done.stdout, done.stderr


def test_keys_that_others_can_read_or_of_another_kind_are_refused(tmp_path, key):
    key.chmod(0o644)
    with pytest.raises(InputError, match=r"others can read this private key\n  hint: chmod 600"):
        read_private_key(key)
    with pytest.raises(InputError, match="there is no such key"):
        read_private_key(tmp_path / "none")
    other = ec.generate_private_key(ec.SECP256R1())
    path = tmp_path / "ec"
    path.touch(mode=0o600)
    path.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(InputError, match="no private Ed25519 key"):
        read_private_key(path)
    with pytest.raises(InputError, match="no public Ed25519 key"):
        read_public_key(path)
