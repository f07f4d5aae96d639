"""Asking a web archive: who we are, whom we believe, and what its refusals mean."""

import base64
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlencode, urlsplit

import requests
from requests.auth import AuthBase
from urllib3.exceptions import NewConnectionError

from medssl.io.sources.base import SourceError
from medssl.io.sources.encryption import TlsFiles
from medssl.io.sources.retrieval import TryAgainError, UnreachableError

Login = Literal["bearer", "basic"]
_AS_WRITTEN = "*?,:/"
"""Allowed in a query as they are; Orthanc 1.10 takes %2A for three letters, and finds nothing."""
_MAY_PASS = frozenset({408, 425, 429})
_UNACCEPTABLE = frozenset({400, 406, 415})
_LEAST_SERVER_ERROR = 500
_JSON = "application/dicom+json"
_STORED_OR_TOLD = frozenset({200, 202, 409})
"""Stored, or not all of it, or none: the body says what and why (PS3.18 10.5.3.1)."""
_LONGEST_JSON_BYTES, _PIECE_BYTES = 2**28, 2**16


class UnacceptableError(SourceError):
    """The archive does not give what it has in the form asked for."""


class TokenFile(AuthBase):
    """A secret from a file, kept out of everything that could be printed."""

    def __init__(self, path: Path, login: Login) -> None:
        self._path, self._login, self._header = path, login, ""
        self.read()

    def __repr__(self) -> str:
        return "TokenFile()"

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the secret to ``request``."""
        request.headers["Authorization"] = self._header
        return request

    def read(self) -> bool:
        """Read the file again; return whether the secret is another one now.

        Raises:
            SourceError: when it is missing, empty, or open to others than its owner.
        """
        if not self._path.is_file():
            raise SourceError(f"there is no token file {self._path}")
        if os.name == "posix" and self._path.stat().st_mode & 0o077:
            raise SourceError(
                f"the token file {self._path} can be read by others than its owner",
                hint=f"chmod 600 {self._path}",
            )
        secret = self._path.read_bytes().strip()
        if len(secret.splitlines()) != 1:
            raise SourceError(f"the token file {self._path} should hold one line")
        if self._login == "basic":
            header = f"Basic {base64.b64encode(secret).decode()}"
        else:
            header = f"Bearer {secret.decode('latin-1')}"
        before, self._header = self._header, header
        return before != header


class WebSession:
    """Requests to one web archive; every failure comes out as a SourceError in plain words."""

    def __init__(
        self, url: str, *, tls: TlsFiles, token: TokenFile | None, timeout_s: float
    ) -> None:
        # Its lines hold the address of every request, and with it the UIDs of patients' studies.
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
        parts = urlsplit(url)
        loopback = parts.hostname in {"localhost", "127.0.0.1", "::1"}
        if token is not None and parts.scheme != "https" and not loopback:
            raise SourceError(
                "a token is sent over an encrypted connection only",
                hint="write the address with https",
            )
        tls.check()
        self._url, self._token, self._timeout_s = url, token, timeout_s
        self._session = requests.Session()
        self._session.auth = token or _without_login
        self._session.trust_env = not loopback  # what stays on this machine goes to no proxy
        self._verify = True if tls.ca_file is None else str(tls.ca_file)
        if tls.certificate is not None:
            self._session.cert = (str(tls.certificate), str(tls.certificate_key))

    def json(self, path: str, parameters: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return the rows that the archive answers with.

        Raises:
            TryAgainError: a failure that may pass.
            SourceError: any other.
        """
        with self.get(path, _JSON, parameters) as answer:
            if answer.status_code == requests.codes.no_content:
                return []
            try:
                rows = json.loads(_whole(answer))
            except ValueError:
                raise unexpected(answer) from None
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise unexpected(answer)
            return rows

    @contextmanager
    def get(
        self, path: str, accept: str, parameters: Mapping[str, str] | None = None
    ) -> Iterator[requests.Response]:
        """Yield the answer to a request, its body not yet read; failures inside are explained."""
        answer = self._send(path, {"Accept": accept}, parameters)
        with answer, _explained(self._url):
            _check_status(answer)
            yield answer

    def post(self, path: str, body: bytes, content_type: str) -> Any:
        """Send ``body``; return the JSON that the archive answers with, also where it refuses it.

        Raises:
            TryAgainError: a failure that may pass.
            SourceError: any other.
        """
        answer = self._send(path, {"Accept": _JSON, "Content-Type": content_type}, body=body)
        with answer, _explained(self._url):
            if answer.status_code not in _STORED_OR_TOLD:
                _check_status(answer)
            try:
                return json.loads(_whole(answer) or b"{}")
            except ValueError:
                raise unexpected(answer) from None

    def _send(
        self,
        path: str,
        headers: Mapping[str, str],
        parameters: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> requests.Response:
        """Send a request; once more if the token was refused and is another one by now."""
        answer = self._send_once(path, headers, parameters, body)
        if answer.status_code == requests.codes.unauthorized and self._token and self._token.read():
            answer.close()
            answer = self._send_once(path, headers, parameters, body)
        return answer

    def _send_once(
        self,
        path: str,
        headers: Mapping[str, str],
        parameters: Mapping[str, str] | None,
        body: bytes | None,
    ) -> requests.Response:
        with _explained(self._url):
            return self._session.request(
                "GET" if body is None else "POST",
                f"{self._url}/{path}",
                params=urlencode(parameters or {}, quote_via=quote, safe=_AS_WRITTEN),
                data=body,
                headers=dict(headers),
                timeout=self._timeout_s,
                stream=True,
                verify=self._verify,  # on the session an environment variable would count more
                allow_redirects=False,  # a redirect could lead out of the encrypted connection
            )


def _without_login(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Add no secret; without this one, requests would send what ~/.netrc has for the host."""
    return request


def _whole(answer: requests.Response) -> bytes:
    content = bytearray()
    for piece in answer.iter_content(_PIECE_BYTES):
        content += piece
        if len(content) > _LONGEST_JSON_BYTES:
            raise SourceError(
                f"the archive's answer to a query is longer than {_LONGEST_JSON_BYTES} bytes",
                hint="lower dicomweb.page",
            )
    return bytes(content)


@contextmanager
def _explained(url: str) -> Iterator[None]:
    host = urlsplit(url).netloc
    try:
        yield
    except requests.exceptions.SSLError:
        raise SourceError(
            f"no encrypted connection to {host}: a certificate is not accepted",
            hint="set ca_file to the certificates of your hospital's authority",
        ) from None
    except requests.exceptions.Timeout:
        raise TryAgainError(f"{host} does not answer in time") from None
    except requests.exceptions.ConnectionError as error:
        refused = isinstance(getattr(error.args[0], "reason", None), NewConnectionError)
        kind = UnreachableError if refused else TryAgainError
        raise kind(
            f"the connection to {host} failed", hint="is the archive running, the address right?"
        ) from None
    except requests.exceptions.ChunkedEncodingError:
        raise TryAgainError(f"the connection to {host} broke off") from None
    except requests.exceptions.RequestException as error:
        raise SourceError(f"{host} cannot be asked ({type(error).__name__})") from None


def _check_status(answer: requests.Response) -> None:
    status = answer.status_code
    if status in {200, 204}:
        return
    said = f"the archive answers with HTTP status {status}"
    if status in _MAY_PASS or status >= _LEAST_SERVER_ERROR:
        raise TryAgainError(said)
    if status in _UNACCEPTABLE:
        raise UnacceptableError(said)
    if status in {401, 403}:
        raise SourceError(
            f"the archive refuses access (HTTP status {status})", hint="check token_file"
        )
    if answer.is_redirect:
        raise SourceError(f"{said}: it has another address", hint="give the address it leads to")
    raise SourceError(said, hint="is this the address of its DICOMweb service?")


def unexpected(answer: requests.Response) -> SourceError:
    """Return what to say of an answer that is no DICOM; its own words are not repeated."""
    found = answer.headers.get("Content-Type", "no type").split(";")[0]
    shown = found if found.isascii() and found.replace("/", "").isalnum() else "something unknown"
    return SourceError(
        f"the archive answered with {shown} where DICOM was expected",
        hint="is this the address of its DICOMweb service? Orthanc's ends in /dicom-web",
    )
