"""Texts in small letters without accents, letter for letter, so that places stay what they were."""

import unicodedata


def plain(text: str) -> str:
    """Return ``text`` in small letters without accents, exactly as long as it was."""
    return text.lower() if text.isascii() else "".join(map(_plain_letter, text))


def _plain_letter(letter: str) -> str:
    small = unicodedata.normalize("NFD", letter)[:1].lower()
    return small if len(small) == 1 else letter
