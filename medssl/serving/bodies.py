"""The body of a request, to a file of this machine; never more of it than is allowed."""

from collections.abc import AsyncGenerator
from pathlib import Path

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from medssl.serving.refusals import BAD_REQUEST, RefusalError, too_large
from medssl.serving.serve_config import ServeLimits

_PIECE_BYTES = 2**20
_HEADER_BYTES = 348
_MAGIC_AT = 344
_ZIP, _GZIP, _NIFTI = b"PK", b"\x1f\x8b", (b"n+1\0", b"ni1\0")
_NIFTI_2 = (540).to_bytes(4, "little"), (540).to_bytes(4, "big")


class _TooLargeError(MultiPartException):
    """Has the parser close its files."""


async def save_body(request: Request, folder: Path, limits: ServeLimits) -> Path:
    """Write the scan that ``request`` brings into ``folder``, under a name of our own.

    Raises:
        RefusalError: It is too large, empty, or no form where it says so.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limits.body_bytes:
        raise too_large(limits.most_body_mib)
    raw = folder / "body"
    try:
        if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            await _save_form(request, raw, limits)
        else:
            with raw.open("wb") as file:
                async for piece in _limited(request, limits):
                    file.write(piece)
    except _TooLargeError:
        raise too_large(limits.most_body_mib) from None
    return raw.rename(folder / _named(raw))


async def _save_form(request: Request, raw: Path, limits: ServeLimits) -> None:
    try:
        parser = MultiPartParser(
            request.headers, _limited(request, limits), max_files=1, max_fields=0
        )
        form = await parser.parse()
    except _TooLargeError:
        raise
    except (MultiPartException, KeyError):
        raise _no_form() from None
    try:
        uploads = [part for _, part in form.multi_items() if not isinstance(part, str)]
        if len(uploads) != 1:
            raise _no_form()
        await _copy(uploads[0], raw)
    finally:
        await form.close()


async def _copy(upload: UploadFile, raw: Path) -> None:
    with raw.open("wb") as file:
        while piece := await upload.read(_PIECE_BYTES):
            file.write(piece)


async def _limited(request: Request, limits: ServeLimits) -> AsyncGenerator[bytes]:
    left = limits.body_bytes
    async for piece in request.stream():
        left -= len(piece)
        if left < 0:
            raise _TooLargeError("")
        yield piece


def _named(path: Path) -> str:
    """Return a name that readers know the kind by; it follows from the content alone."""
    with path.open("rb") as file:
        start = file.read(_HEADER_BYTES)
    if not start:
        hint = "send a NIfTI file, or a zip of DICOM files"
        raise RefusalError(BAD_REQUEST, "empty", "the request has no body", hint=hint)
    if start[:2] == _ZIP:
        return "scan.zip"
    if start[:4] in _NIFTI_2 or start[_MAGIC_AT:] in _NIFTI:
        return "scan.nii"
    return "scan.nii.gz" if start[:2] == _GZIP else "scan.dcm"


def _no_form() -> RefusalError:
    hint = "send a form of one file, or the file itself as the body"
    return RefusalError(BAD_REQUEST, "no_form", "the form is not one file", hint=hint)
