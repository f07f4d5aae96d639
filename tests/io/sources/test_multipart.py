"""Multipart bodies, cut into chunks anywhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medssl.io.sources.base import SourceError
from medssl.io.sources.multipart import Multipart, media_type


def body(parts, boundary="b", preamble=b""):
    joined = b"".join(
        b"\r\n--%s\r\nContent-Type: application/dicom\r\n\r\n%s" % (boundary.encode(), part)
        for part in parts
    )
    return preamble + joined + b"\r\n--%s--\r\n" % boundary.encode()


def taken_apart(chunks, boundary="b"):
    parts = Multipart(chunks, boundary).parts()
    return [(kind, b"".join(content)) for kind, content in parts]


@given(
    st.lists(st.binary(max_size=60).filter(lambda part: b"\r\n--b" not in part), max_size=4),
    st.integers(1, 70),
)
def test_parts_come_back_as_they_were_whatever_the_chunks(parts, size):
    text = body(parts)
    if not parts:
        text = b"--b--"
    chunks = [text[at : at + size] for at in range(0, len(text), size)]
    assert taken_apart(chunks) == [("application/dicom", part) for part in parts]


def test_no_more_than_a_chunk_is_held_at_a_time():
    part = bytes(2**20)
    text = body([part])
    chunks = (text[at : at + 1000] for at in range(0, len(text), 1000))
    reading = Multipart(chunks, "b").parts()
    _, content = next(reading)
    assert max(map(len, content)) <= 1000 + 10


def test_a_body_that_ends_early_is_not_taken_for_whole():
    text = body([b"x" * 50, b"y" * 50])
    for end in range(len(text) - 4):
        with pytest.raises(SourceError, match="broke off"):
            taken_apart([text[:end]])


def test_parts_that_are_not_read_are_passed_over():
    text = body([b"one", b"two"], preamble=b"ignored")
    assert [kind for kind, _ in Multipart([text], "b").parts()] == ["application/dicom"] * 2


def test_an_endless_header_is_refused():
    with pytest.raises(SourceError, match="no multipart"):
        taken_apart([b"--b\r\n", *[b"x" * 10_000] * 10])


def test_media_types_are_read_with_and_without_quotes():
    assert media_type('multipart/related; type="a/b"; boundary="x y"') == (
        "multipart/related",
        "x y",
    )
    assert media_type("Multipart/Related;boundary=x") == ("multipart/related", "x")
    assert media_type("text/html") == ("text/html", None)
