"""Our own storage server: other machines call it to hand over images (DICOM C-STORE)."""

import logging
import re
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from socketserver import BaseServer, TCPServer
from types import TracebackType
from typing import Annotated, Any, Self

from pydantic import Field
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from pynetdicom.transport import AssociationSocket, ThreadedAssociationServer

from medssl.config.base import Config
from medssl.io.sources.base import SourceError
from medssl.io.sources.encryption import TlsFiles

AE_TITLE = r"[A-Za-z0-9_.-]{1,16}"
SUCCESS, DISK_FULL, NOT_ASKED_FOR = 0x0000, 0xA700, 0xA900
LONGEST_PDU_BYTES = 2**16
_LOOK_S = 0.1
"""How often a server looks whether it shall stop: half a second by default, for every series."""
_URL = re.compile(rf"[a-z]+://(?P<title>{AE_TITLE})@(?P<host>[^@/]+):(?P<port>\d{{1,5}})/?")
_LAST_PORT = 65535


@dataclass(frozen=True)
class Peer:
    """A DICOM application: its title, and where it listens."""

    title: str
    host: str
    port: int

    @classmethod
    def of_url(cls, url: str) -> "Peer":
        """Return what an address such as dimse://ARCHIVE@10.0.0.5:104 names.

        Raises:
            SourceError: when it is written otherwise.
        """
        found = _URL.fullmatch(url)
        if found is None or int(found["port"]) > _LAST_PORT:
            raise SourceError(
                "an address of a DICOM application is not understood",  # it may hold a password
                hint="write AE title, host and port, as in dimse://ARCHIVE@10.0.0.5:104",
            )
        return cls(found["title"], found["host"].strip("[]"), int(found["port"]))


class ReceiverConfig(Config):
    """Whose images are taken, and how many at a time."""

    senders: tuple[str, ...] = ()
    """AE titles of the machines that may send; empty: any."""
    associations: Annotated[int, Field(ge=1)] = 8
    """How many may send at once; each holds one image in memory."""
    encrypted: bool = False
    """Take images over TLS only, with `tls.certificate`."""
    tls: TlsFiles = TlsFiles()
    """Certificates; with a ca_file, senders must prove themselves."""
    timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """A sender that stays silent for so long is cut off."""


Deliver = Callable[[bytes, Association], None]
"""Takes one DICOM file, and the connection it came over."""


class _Server(ThreadedAssociationServer):
    daemon_threads = True  # to stop need not wait for a handshake

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        """Accept a caller; a handshake is left to its own thread, since it may never come."""
        caller, address = TCPServer.get_request(self)
        if self.ssl_context is not None:
            caller = self.ssl_context.wrap_socket(
                caller, server_side=True, do_handshake_on_connect=False
            )
        return caller, address

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Begin to listen to a caller."""
        if isinstance(request, ssl.SSLSocket):
            request.settimeout(self.ae.acse_timeout)
            request.do_handshake()
            request.settimeout(None)
        super().finish_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a caller that could not be understood."""

    def shutdown(self) -> None:
        """Stop listening; one that AE.start_server did not start is unknown to its AE."""
        BaseServer.shutdown(self)
        self.server_close()


class Receiver:
    """Listens for images while it is open and hands each on as the bytes that were sent."""

    def __init__(self, address: Peer, config: ReceiverConfig, deliver: Deliver) -> None:
        """Prepare to listen.

        Args:
            address: the title we are called by, and where to listen.
            config: whom to listen to.
            deliver: called by one thread at a time. A SourceError it raises refuses the image,
                an OSError tells the sender that the disk is full.
        """
        self._address, self._config, self._deliver = address, config, deliver
        self._lock = threading.Lock()
        self._server: ThreadedAssociationServer | None = None
        self.handlers: list[evt.EventHandlerType] = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_DATA_SENT, _acknowledge_at_once),
        ]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listen.

        Raises:
            SourceError: the port is taken, or a certificate missing.
        """
        tame_pynetdicom()
        entity = AE(self._address.title)
        entity.maximum_pdu_size = LONGEST_PDU_BYTES
        entity.maximum_associations = self._config.associations
        entity.network_timeout = self._config.timeout_s
        entity.acse_timeout = entity.dimse_timeout = self._config.timeout_s
        entity.require_called_aet = True
        entity.require_calling_aet = list(self._config.senders)
        entity.add_supported_context(Verification)
        context = self._config.tls.for_server() if self._config.encrypted else None
        try:
            server = entity.make_server(
                (self._address.host, self._address.port),
                ssl_context=context,
                evt_handlers=self.handlers,
                server_class=_Server,
            )
        except OSError:
            raise SourceError(
                f"cannot listen at {self._address.host}, port {self._address.port}",
                hint="is the port taken, by another medssl perhaps?",
            ) from None
        threading.Thread(target=server.serve_forever, args=(_LOOK_S,), daemon=True).start()
        self._server = server

    def stop(self) -> None:
        """Stop listening; who is still connected is cut off."""
        if self._server is not None:
            self._server.shutdown()
            for link in self._server.active_associations:
                link.abort()
            self._server = None

    def _store(self, event: evt.Event) -> int:
        """Return the DICOM status that tells the sender what became of its image."""
        try:
            with self._lock:
                self._deliver(event.encoded_dataset(), event.assoc)
        except SourceError:
            return NOT_ASKED_FOR
        except OSError:
            return DISK_FULL
        return SUCCESS


def _acknowledge_at_once(event: evt.Event) -> None:
    """Spare the 40 ms that Linux would otherwise wait before it acknowledges half an image.

    Many senders wait for that before they send the other half. The option holds until the next
    packet is sent, so it is set after each.
    """
    connection = event.assoc.dul.socket
    if connection is not None and connection.socket is not None:
        with suppress(AttributeError, OSError):  # another system, or closed in this moment
            connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def tame_pynetdicom() -> None:
    """Keep pynetdicom from logging what it carries, refusing images and leaving sockets open.

    Without the second, an object of a private or newer kind would make its series incomplete.
    """
    _config.LOG_HANDLER_LEVEL = "none"
    _config.UNRESTRICTED_STORAGE_SERVICE = True
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    AssociationSocket._shutdown_socket = _shut  # type: ignore[method-assign,assignment]


def _shut(connection: AssociationSocket) -> None:
    """Close a socket whose other side is gone, too, which pynetdicom 3.0.4 leaves open."""
    opened = connection.socket
    if opened is not None:
        with suppress(OSError):
            opened.shutdown(socket.SHUT_RDWR)
        opened.close()
