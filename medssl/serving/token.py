"""The secret that callers of the service must know."""

import hmac
import os
import stat
from pathlib import Path

from medssl.errors import InputError
from medssl.serving.serve_config import ServeConfig

VARIABLE = "MEDSSL_SERVE_TOKEN"
LEAST_LETTERS = 16


def read_token(config: ServeConfig) -> str:
    """Return the token; "" where none is needed and none was given.

    Raises:
        InputError: There is none where one is needed, it is too short, others can read its file.
    """
    if config.token_file is not None:
        token = _from_file(config.token_file)
    else:
        token = os.environ.get(VARIABLE, "").strip()
    if not token:
        if config.is_local and config.token_file is None:
            return ""
        raise InputError(
            "a service that other machines can reach needs a token, and there is none",
            hint=f"write one into a file (openssl rand -hex 24) and name it as token_file, or set "
            f"{VARIABLE}",
        )
    if len(token) < LEAST_LETTERS:
        raise InputError(
            f"the token has fewer than {LEAST_LETTERS} letters, and could be guessed",
            hint="make one with: openssl rand -hex 24",
        )
    return token


def knows(token: str, sent: str | None) -> bool:
    """Return whether the header ``Authorization`` that was sent holds ``token``.

    It takes as long however much of it is right.
    """
    scheme, _, secret = (sent or "").partition(" ")
    right = hmac.compare_digest(secret.strip().encode(), token.encode())
    return not token or (right and scheme.lower() == "bearer")


def _from_file(path: Path) -> str:
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise InputError(
            f"the token cannot be read from {path}", hint="name a text file of one line"
        ) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InputError(f"others than its owner may read {path}", hint=f"chmod 600 {path}")
    return text.strip()
