"""Pieces of words: negations stay whole, numbers are one, and names get none."""

import pytest

pytest.importorskip("tokenizers")

from medssl.models.wordpiece import NUMBER, WordPieceConfig, learn_pieces

TEXTS = [
    *(f"The nodule in the left upper lobe measures {n}.5 mm." for n in range(40)),
    *("Pleural effusion on the right side was noted again.",) * 40,
    "Without change, not seen.",
    "Kein Erguss beim Patienten Überlingen.",
]


def words(tokenizer, text):
    spans = tokenizer.encode([text], 64).spans_NL2[0].tolist()
    return [text[start:end] for start, end in spans if end > start]


@pytest.fixture(scope="module")
def tokenizer():
    return learn_pieces(TEXTS, WordPieceConfig(pieces=200))


@pytest.mark.parametrize("word", ["without", "not", "Kein"])
def test_a_negation_is_never_divided_however_rare(tokenizer, word):
    assert words(tokenizer, f"{word} nodule")[0] == word
    assert tokenizer.token_id(word.lower()) is not None


def test_only_whole_words_are_negations(tokenizer):
    assert "not" not in words(tokenizer, "noted")
    assert words(tokenizer, "nothing")[0] != "not" or len(words(tokenizer, "nothing")) > 1


def test_words_that_do_not_occur_take_no_place(tokenizer):
    assert tokenizer.token_id("senza") is None


def test_numbers_are_one_word_but_those_within_a_word_stay(tokenizer):
    one, other = (tokenizer.encode([f"measures {n} mm"], 64).ids_NL for n in ("3", "41.25"))
    assert one.tolist() == other.tolist()
    assert tokenizer.token_id(NUMBER) in one[0].tolist()
    sequence = tokenizer.encode(["T2"], 64).ids_NL[0].tolist()
    assert tokenizer.token_id(NUMBER) not in sequence
    plain = learn_pieces(TEXTS, WordPieceConfig(pieces=200, equal_numbers=False))
    one, other = (plain.encode([f"measures {n} mm"], 64).ids_NL for n in ("3", "4"))
    assert one.tolist() != other.tolist()


def test_a_rare_word_has_no_piece_of_its_own(tokenizer):
    assert len(words(tokenizer, "Patienten")) > 1
    assert tokenizer.token_id("patienten") is None
    assert tokenizer.size <= 200 + 3  # the negations come on top


def test_capitals_count_where_asked():
    kept = learn_pieces(TEXTS, WordPieceConfig(pieces=200, lower_case=False))
    one, other = (kept.encode([text], 64).ids_NL.tolist() for text in ("the", "The"))
    assert one != other


def test_equal_texts_make_equal_pieces():
    once, again = (learn_pieces(TEXTS, WordPieceConfig(pieces=150))._rust.get_vocab() for _ in "ab")
    assert once == again
