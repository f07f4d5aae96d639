"""Sending DICOM objects to an archive on the web (STOW-RS, PS3.18 10.5)."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from medssl.io.sources.base import SourceError
from medssl.io.sources.dicomweb import DicomWebConfig, open_session
from medssl.io.sources.retrieval import persist
from medssl.io.sources.web import WebSession

_DICOM = "application/dicom"
_STORED, _FAILED, _REASON = "00081199", "00081198", "00081197"
_REASONS: Mapping[int, str] = {
    0x0110: "a processing failure there",
    0x0122: "it does not take this kind of object",
    0xA700: "it has no room left",
    0xA900: "it says that the object and its kind do not fit",
    0xC000: "it cannot understand the object",
}
"""What failure reasons mean (PS3.18 table 10.5.3-2 and PS3.4 B.2.3)."""


class WebStore:
    """An archive on the web that objects are sent to."""

    def __init__(self, url: str, config: DicomWebConfig) -> None:
        """Prepare to send; nothing is sent yet.

        Args:
            url: ``dicomweb+https://host/path``; the path of the service, as in /dicom-web.
            config: who we are, whom we believe, and for how long to try.

        Raises:
            SourceError: the address, the token or a certificate cannot be used.
        """
        self._web, self._patience = open_session(url, config), config.patience

    def send(self, path: Path) -> None:
        """Send one file; return when the archive says that it has it.

        Raises:
            SourceError: it does not take it, or cannot be reached; the message names no patient.
        """
        answer = persist(partial(_post, self._web, path.read_bytes()), self._patience)
        if isinstance(answer, list):
            answer = answer[0] if answer else {}
        failed = _items(answer, _FAILED)
        if failed or not _items(answer, _STORED):
            raise SourceError(f"the archive did not keep it: {_reason(failed)}")


def _post(web: WebSession, content: bytes) -> Any:
    boundary = uuid4().hex
    head = f"--{boundary}\r\nContent-Type: {_DICOM}\r\n\r\n".encode()
    body = head + content + f"\r\n--{boundary}--\r\n".encode()
    return web.post("studies", body, f'multipart/related; type="{_DICOM}"; boundary={boundary}')


def _items(answer: Any, tag: str) -> list[Any]:
    found = answer.get(tag, {}) if isinstance(answer, dict) else {}
    items = found.get("Value") if isinstance(found, dict) else None
    return items if isinstance(items, list) else []


def _reason(failed: list[Any]) -> str:
    for item in failed:
        for code in _items(item, _REASON):
            if isinstance(code, int):
                return _REASONS.get(code, f"failure reason {code:#06x}")
    return "it gives no reason"
