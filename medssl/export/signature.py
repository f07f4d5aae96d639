"""Ed25519 signatures of an artefact: who vouches for the digests in its ``SHA256SUMS``.

Keys are PEM files and the signature is 64 bytes over the list, so OpenSSL checks it as well::

    openssl pkeyutl -verify -pubin -inkey KEY.pub -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig
"""

import os
from pathlib import Path
from typing import Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from medssl.errors import InputError
from medssl.export.checksums import SIGNATURE, SUMS
from medssl.runs.digest import digest_bytes
from medssl.runs.folder import atomic_path

SIGNER = "signer.pub"
"""The public key in an artefact; only one that came another way says whose signature it is."""

Signed = Literal["valid", "valid, by the key beside it", "absent", "by another key", "wrong"]
_MOST_BYTES = 10_000
_MAKE = "`medssl verify --new-key FILE` makes FILE, to sign with, and FILE.pub, to give away"


def make_key(path: Path) -> Path:
    """Write a new private key for its owner alone, and ``path`` + ``.pub``; return the latter.

    Raises:
        InputError: One of the files is there, or cannot be written.
    """
    public = path.with_name(f"{path.name}.pub")
    for file in (path, public):
        if file.exists() or file.is_symlink():
            raise InputError(
                f"{file}: it exists, and a key is never replaced",
                hint="choose another name; what an old key signed is checked with the old key",
            )
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_once(path, private, mode=0o600)
        _write_once(public, _pem(key.public_key()), mode=0o644)
    except OSError as error:
        raise InputError(f"{path}: the key cannot be written ({error.strerror})") from None
    return public


def sign(folder: Path, private_key: Path) -> None:
    """Sign ``SHA256SUMS`` of ``folder``, whose ``SIGNER`` it lists.

    Raises:
        InputError: As in ``read_private_key``.
    """
    signature = read_private_key(private_key).sign((folder / SUMS).read_bytes())
    with atomic_path(folder / SIGNATURE) as partial:
        partial.write_bytes(signature)


def write_signer(folder: Path, private_key: Path) -> None:
    """Put the public key of a signature to come into ``folder``."""
    with atomic_path(folder / SIGNER) as partial:
        partial.write_bytes(_pem(read_private_key(private_key).public_key()))


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Return the key that ``path`` holds.

    Raises:
        InputError: It is missing, others can read it, or it is no Ed25519 key without a password.
    """
    _check_there(path)
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise InputError(
            f"{path}: others can read this private key",
            hint=f"chmod 600 {path}; if others may have had it, make a new one",
        )
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _no_key(path, "private") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(path, "private")
    return key


def read_public_key(path: Path) -> Ed25519PublicKey:
    """Return the key that ``path`` holds.

    Raises:
        InputError: It is missing, or no Ed25519 key.
    """
    _check_there(path)
    try:
        key = load_pem_public_key(path.read_bytes())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _no_key(path, "public") from error
    if not isinstance(key, Ed25519PublicKey):
        raise _no_key(path, "public")
    return key


def fingerprint(key: Ed25519PublicKey) -> str:
    """Return what two people can read to each other: 16 digits of the key's SHA-256."""
    return digest_bytes(key.public_bytes(Encoding.Raw, PublicFormat.Raw))[:16]


def check_signature(folder: Path, trusted: Ed25519PublicKey | None = None) -> tuple[Signed, str]:
    """Return whether the signature is good, and the fingerprint of the key that made it, or "".

    Args:
        folder: An artefact.
        trusted: The key that it should be by; None: the one beside it, which says only that list
            and signature belong together.
    """
    path, listed = folder / SIGNATURE, (folder / SUMS).read_bytes()
    if not path.is_file() or path.is_symlink() or path.stat().st_size > _MOST_BYTES:
        return ("absent" if not path.exists() else "wrong"), ""
    signature = path.read_bytes()
    if trusted is not None and _is_by(trusted, signature, listed):
        return "valid", fingerprint(trusted)
    try:
        beside = read_public_key(folder / SIGNER)
    except InputError:
        return "wrong", ""
    if not _is_by(beside, signature, listed):
        return "wrong", ""
    return ("by another key" if trusted else "valid, by the key beside it"), fingerprint(beside)


def _is_by(key: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _pem(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _write_once(path: Path, content: bytes, *, mode: int) -> None:
    """Write a file that appears whole, and only where there is none."""
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(partial, path)  # unlike a rename, it fails where there is one by now
    finally:
        partial.unlink()


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise InputError(
            f"{path}: there is no such key", hint="`medssl verify --new-key FILE` makes a pair"
        )


def _no_key(path: Path, kind: str) -> InputError:
    return InputError(
        f"{path}: this is no {kind} Ed25519 key in PEM, without a password",
        hint=_MAKE,
    )
