"""Calling an archive: one connection, on which it agreed to what is asked of it."""

from collections.abc import Iterator
from contextlib import contextmanager

from pydicom import Dataset
from pynetdicom import AE, build_role
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from medssl.io.sources.base import SourceError
from medssl.io.sources.encryption import TlsFiles
from medssl.io.sources.receiver import LONGEST_PDU_BYTES, Peer, Receiver, tame_pynetdicom
from medssl.io.sources.retrieval import TryAgainError, UnreachableError

_DESTINATION_UNKNOWN, _PENDING = 0xA801, (0xFF00, 0xFF01)


class FailedError(TryAgainError):
    """The archive tried, and failed."""


class RefusedError(SourceError):
    """The archive does not do what was asked in this way; another may work."""


class Caller:
    """Calls one archive."""

    def __init__(
        self, archive: Peer, title: str, *, timeout_s: float, tls: TlsFiles | None
    ) -> None:
        """Prepare; nobody is called yet.

        Args:
            archive: whom to call.
            title: what we call ourselves.
            timeout_s: the longest silence.
            tls: certificates, where the connection is to be encrypted.
        """
        tame_pynetdicom()
        self._archive, self._title, self._timeout_s, self._tls = archive, title, timeout_s, tls
        self._where = f"{archive.title} at {archive.host}:{archive.port}"

    @contextmanager
    def connected(
        self,
        contexts: list[PresentationContext],
        silence_s: float | None = None,
        taker: Receiver | None = None,
    ) -> Iterator[Association]:
        """Yield a connection on which the archive agreed to the first of ``contexts``.

        Args:
            contexts: what we would like to do, and in which encodings.
            silence_s: the longest silence, where it differs from the usual.
            taker: takes what the archive sends on this connection in the other ``contexts``.

        Raises:
            UnreachableError: there is no connection.
            RefusedError: the archive does not do this.
            SourceError: it does not want to be called by us.
        """
        entity = AE(self._title)
        entity.acse_timeout = entity.connection_timeout = self._timeout_s
        entity.dimse_timeout = entity.network_timeout = silence_s or self._timeout_s
        taken = {str(context.abstract_syntax) for context in contexts[1:]} if taker else set()
        try:
            link = entity.associate(
                self._archive.host,
                self._archive.port,
                contexts=contexts,
                ae_title=self._archive.title,
                max_pdu=LONGEST_PDU_BYTES,
                ext_neg=[build_role(uid, scp_role=True) for uid in sorted(taken)],
                evt_handlers=taker.handlers if taker else [],
                tls_args=(self._tls.for_client(), self._archive.host) if self._tls else None,
            )
        except OSError:
            raise self._no_connection() from None
        self._check(link, contexts[0])
        try:
            yield link
        finally:
            if link.is_established:
                link.release()

    def _check(self, link: Association, needed: PresentationContext) -> None:
        if link.is_rejected:
            raise SourceError(
                f"{self._where} refuses to be called by {self._title}",
                hint="is its title right, and ours known to it (dimse.ae_title)?",
            )
        refused = {context.abstract_syntax for context in link.rejected_contexts}
        if needed.abstract_syntax in refused:
            if link.is_established:
                link.release()
            raise RefusedError(f"{self._where} does not offer what was asked of it")
        if not link.is_established:
            raise self._no_connection()

    def _no_connection(self) -> UnreachableError:
        return UnreachableError(
            f"no connection to {self._where}", hint="is the archive running, the address right?"
        )


def is_pending(status: Dataset, hint: str | None = None) -> bool:
    """Return whether more is to come.

    Raises:
        TryAgainError: the connection was lost.
        FailedError: the archive could not do it, now.
        RefusedError: the archive does not know where to send images to.
    """
    code = status.get("Status")
    if code in _PENDING:
        return True
    if code == 0:
        return False
    if code is None:
        raise TryAgainError("the connection to the archive broke off")
    if code == _DESTINATION_UNKNOWN:
        raise RefusedError(
            "the archive does not know where to send images to (status 0xA801)",
            hint="have it register dimse.ae_title with this machine's address and dimse.port, "
            "or set dimse.retrieve=get",
        )
    failed = status.get("NumberOfFailedSuboperations")
    what = "do what was asked" if not failed else f"send {failed} images of a series"
    raise FailedError(f"the archive cannot {what} (status 0x{code:04X})", hint=hint)
