"""The last net before a log line is shown or kept: what looks like an identifier is taken out."""

import logging
import re
from collections.abc import Iterable

_UID = r"\b[0-2](?:\.(?:0|[1-9]\d*)){5,}\b"
_PERSON_NAME = r"\b[^\W\d_][\w'-]*\^[\w'^=-]*"  # DICOM: FAMILY^GIVEN^MIDDLE
_MARK = "<redacted>"


class Redaction(logging.Filter):
    """Replaces DICOM UIDs, DICOM person names and given ``identifiers`` in every record.

    Code never logs an identifier on purpose; a library's message about a damaged header may.
    """

    def __init__(self, identifiers: Iterable[str] = ()) -> None:
        super().__init__()
        known = sorted((re.escape(word) for word in identifiers if word), key=len, reverse=True)
        self._pattern = re.compile("|".join([*known, _UID, _PERSON_NAME]))

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite ``record`` in place; it is always let through."""
        record.msg, record.args = self.clean(record.getMessage()), None
        if record.exc_info:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
            record.exc_info = None  # a handler would show its text anew, and unredacted
        if record.exc_text:
            record.exc_text = self.clean(record.exc_text)
        return True

    def clean(self, text: str) -> str:
        """Return ``text`` with what looks like an identifier replaced by ``<redacted>``."""
        return self._pattern.sub(_MARK, text)
