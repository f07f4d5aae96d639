"""Base64 is found and decoded wherever it stands, and however it is cut into lines and windows."""

import base64
import io
import json

import numpy as np
import pytest

from medssl.privacy import encoded
from medssl.privacy.containers import CannotLookInsideError
from medssl.privacy.encoded import decoded

CONTENT = np.random.default_rng(0).bytes(4000)


def pieces(text):
    return dict(decoded(io.BytesIO(text)))


def wrapped(width, line_break=b"\n"):
    letters = base64.b64encode(CONTENT)
    lines = [letters[at : at + width] for at in range(0, len(letters), width)]
    return line_break.join(lines)


HEAD = b"Content: base64\n\n"
WAYS = {
    "one line": wrapped(10_000),
    "lines": wrapped(76),
    "lines of Windows": wrapped(64, b"\r\n"),
    "indented": wrapped(64, b"\n    "),
    "in JSON": json.dumps(wrapped(76).decode()).encode(),
    "in JSON, of Windows": json.dumps(wrapped(76, b"\r\n").decode()).encode(),
    "for URLs": base64.urlsafe_b64encode(CONTENT),
    "without its padding": base64.b64encode(CONTENT).rstrip(b"="),
}


WINDOWS = [1, 50, 2**23]


@pytest.mark.parametrize("window", WINDOWS)
def test_an_escape_before_it_is_no_part_of_it(window, monkeypatch):
    monkeypatch.setattr(encoded, "_WINDOW_BYTES", window)
    mail = "Content: base64\r\n\r\n" + wrapped(76, b"\r\n").decode()
    mail = json.dumps(mail).encode()
    assert list(pieces(mail).values()) == [CONTENT]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("way", WAYS)
def test_it_is_decoded_as_it_was(way, window, monkeypatch):
    monkeypatch.setattr(encoded, "_WINDOW_BYTES", window)
    text = HEAD + WAYS[way]
    start = len(HEAD) + (way.startswith("in JSON"))
    assert pieces(text + b"; the end") == {start: CONTENT}


def test_short_pieces_come_together_and_long_words_are_only_noise():
    token = base64.b64encode(b"user:Quillfeather-Ida-of-the-ward")
    text = b"key 0123456789abcdef0123456789abcdef; " + token + b"; " + token + b" short QUJD"
    assert pieces(text) == {38: 2 * b"user:Quillfeather-Ida-of-the-ward\n"}


def test_what_is_packed_inside_of_a_short_piece_stands_alone():
    packed = b"\x1f\x8b\x08" + bytes(range(40))
    assert pieces(b"a " + base64.b64encode(packed)) == {2: packed}


def test_a_piece_without_end_is_told_and_a_picture_of_one_shade_is_none(monkeypatch):
    monkeypatch.setattr(encoded, "_WINDOW_BYTES", 1000)
    monkeypatch.setattr(encoded, "_LONGEST_BYTES", 5000)
    assert pieces(b"z" * 20_000 + b"; " + base64.b64encode(CONTENT[:3000])) == {
        20_002: CONTENT[:3000]
    }
    with pytest.raises(CannotLookInsideError, match="longer piece of base64"):
        pieces(b"Az" * 20_000)
