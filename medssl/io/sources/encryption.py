"""TLS between this machine and an archive: whom to believe, and how to prove who we are."""

import ssl
from pathlib import Path
from typing import Self

from pydantic import model_validator

from medssl.config.base import Config
from medssl.io.sources.base import SourceError


class TlsFiles(Config):
    """Certificates, as files in PEM format."""

    ca_file: Path | None = None
    """Certificates of the authorities to believe; default: those of this machine."""
    certificate: Path | None = None
    """Our own certificate, where the archive wants to know who we are."""
    certificate_key: Path | None = None
    """The private key of `certificate`."""

    @model_validator(mode="after")
    def _come_in_pairs(self) -> Self:
        if (self.certificate is None) != (self.certificate_key is None):
            raise ValueError("certificate and certificate_key go together")
        return self

    def check(self) -> None:
        """Raise SourceError when a file that is named is not there."""
        for path in (self.ca_file, self.certificate, self.certificate_key):
            if path is not None and not path.is_file():
                raise SourceError(f"there is no certificate file {path}")

    def for_client(self) -> ssl.SSLContext:
        """Return how we call: the other side must prove its name."""
        return self._filled(ssl.Purpose.SERVER_AUTH)

    def for_server(self) -> ssl.SSLContext:
        """Return how we are called: with a ``ca_file`` only by those it vouches for."""
        if self.certificate is None:
            raise SourceError(
                "images that come over TLS need a certificate of this machine",
                hint="set certificate and certificate_key",
            )
        context = self._filled(ssl.Purpose.CLIENT_AUTH)
        if self.ca_file is not None:
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _filled(self, purpose: ssl.Purpose) -> ssl.SSLContext:
        self.check()
        try:
            context = ssl.create_default_context(purpose, cafile=self.ca_file)
        except (ssl.SSLError, OSError):
            raise SourceError(f"{self.ca_file} holds no certificate") from None
        try:
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.certificate_key)
        except (ssl.SSLError, OSError):
            raise SourceError(
                f"{self.certificate} and {self.certificate_key} are no certificate and its key"
            ) from None
        return context
