"""A multipart body taken apart while it arrives: no part is ever in memory as a whole."""

from collections.abc import Iterable, Iterator
from email.message import Message

from medssl.io.sources.base import SourceError
from medssl.io.sources.retrieval import TryAgainError

_LONGEST_HEADER = 2**16


def media_type(header: str) -> tuple[str, str | None]:
    """Return the media type a Content-Type header names, and its boundary if it has one."""
    message = Message()
    message["Content-Type"] = header
    return message.get_content_type(), message.get_boundary()


class Multipart:
    """Reads ``chunks`` once, part by part."""

    def __init__(self, chunks: Iterable[bytes], boundary: str) -> None:
        self._chunks = iter(chunks)
        self._mark = b"\r\n--" + boundary.encode("latin-1")
        self._buffer = bytearray(b"\r\n")  # the first boundary needs no line break before it

    def parts(self) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Yield the media type of every part and its content in pieces.

        Raises:
            TryAgainError: the body ended early.
            SourceError: it is no multipart body.
        """
        for _ in self._until(self._mark):
            pass
        while self._take(2) != b"--":
            body = self._after(self._header())
            yield body
            for _ in body[1]:  # what the caller left
                pass

    def _after(self, header: bytes) -> tuple[str, Iterator[bytes]]:
        lines = header.decode("latin-1").split("\r\n")
        types = [
            line.partition(":")[2] for line in lines if line.lower().startswith("content-type:")
        ]
        return (media_type(types[0])[0] if types else "", self._until(self._mark))

    def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._more()
        return bytes(self._buffer[:count])

    def _header(self) -> bytes:
        header = b""
        for piece in self._until(b"\r\n\r\n"):
            header += piece
            if len(header) > _LONGEST_HEADER:
                raise SourceError("the archive's answer is no multipart message")
        return header

    def _until(self, mark: bytes) -> Iterator[bytes]:
        """Yield what comes before ``mark``, and leave the buffer behind it."""
        while (at := self._buffer.find(mark)) < 0:
            safe = len(self._buffer) - len(mark) + 1
            if safe > 0:
                yield bytes(self._buffer[:safe])
                del self._buffer[:safe]
            self._more()
        yield bytes(self._buffer[:at])
        del self._buffer[: at + len(mark)]

    def _more(self) -> None:
        chunk = next(self._chunks, None)
        if chunk is None:
            raise TryAgainError("the archive's answer broke off")
        self._buffer += chunk
