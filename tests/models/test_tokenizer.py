"""Texts as numbers: padding, cutting, places of characters, and copies for other processes."""

import pickle

import pytest
import torch

from medssl.errors import InputError
from medssl.models.tokenizer import Tokenizer
from tests.text_folders import write_text_folder

pytest.importorskip("tokenizers")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_text_folder(tmp_path_factory.mktemp("text") / "tiny") / "tokenizer.json"


@pytest.fixture
def tokenizer(path):
    return Tokenizer.read(path)


def test_texts_are_padded_to_the_longest(tokenizer):
    ids, mask, spans = tokenizer.encode(["no mass", "a large mass in the left lung"], 64)
    assert ids.shape == mask.shape == (2, 9)
    assert ids.dtype == torch.int64
    assert mask.sum(1).tolist() == [4, 9]  # with the marks of begin and end
    assert (ids[0, 4:] == 0).all()
    assert spans.shape == (2, 9, 2)
    assert tokenizer.lengths(["no mass", "a large mass in the left lung"]) == [4, 9]


def test_spans_are_characters_of_the_text(tokenizer):
    text = "No näme, left mass"
    spans = tokenizer.encode([text], 64).spans_NL2[0].tolist()
    words = [text[start:end].lower() for start, end in spans if end > start]
    assert words[0] == "no"
    assert words[-2:] == ["left", "mass"]
    assert spans[0] == spans[-1] == [0, 0]


def test_long_texts_are_cut_and_lengths_are_not(tokenizer):
    text = "mass " * 30
    for most in (5, 12):
        ids, mask, _ = tokenizer.encode([text], most)
        assert mask.sum() == most
        assert ids[0, -1] == tokenizer.token_id("[SEP]")
        assert tokenizer.lengths([text]) == [32]


def test_a_copy_and_what_is_read_back_divide_alike(tokenizer, tmp_path):
    tokenizer.write(tmp_path / "tokenizer.json")
    texts = ["no mass", "effusion on the right, 3 nodules"]
    for other in (
        pickle.loads(pickle.dumps(tokenizer)),  # noqa: S301 - its own bytes
        Tokenizer.read(tmp_path / "tokenizer.json"),
    ):
        for mine, theirs in zip(tokenizer.encode(texts, 64), other.encode(texts, 64), strict=True):
            assert torch.equal(mine, theirs)
    assert tokenizer.token_id("no such token") is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no tokenizer can be read"),
        ("{}", "no tokenizer can be read"),
        ('{"padding": {"pad_token": "[PAD]"}}', "cannot be read"),
    ],
)
def test_what_is_no_tokenizer_is_said(tmp_path, content, words):
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(InputError, match=words):
        Tokenizer.read(tmp_path / "tokenizer.json")


def test_a_tokenizer_that_cannot_pad_is_refused(path):
    with pytest.raises(InputError, match=r"no token '<pad>'"):
        Tokenizer(path.read_text(), "<pad>")
