"""A text encoder described: sizes, negation and sides, by their definition."""

import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("transformers")

from medssl.cli.text import in_words
from medssl.errors import InputError
from medssl.evaluation.text_check import FINDINGS, check_text_encoder, open_text_encoder
from tests.text_folders import write_text_folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return open_text_encoder(str(write_text_folder(tmp_path_factory.mktemp("text") / "tiny")))


def cosine(encoder, one, other):
    return float(F.cosine_similarity(*encoder.embed([one, other]).double(), dim=0))


def test_facts_are_those_of_the_encoder(encoder):
    found = check_text_encoder(encoder)
    assert (found.encoder, found.network, found.blocks) == ("hf_folder", "BertModel", 1)
    assert (found.width, found.max_tokens) == (16, 64)
    assert found.parameters == sum(weight.numel() for weight in encoder.parameters())
    assert found.tokens_per_word > 1  # it knows few words
    assert found.sentences_per_s > 0


def test_cosines_by_definition(encoder):
    found = check_text_encoder(encoder)
    there = [f"There is {finding}." for finding in FINDINGS]
    row = found.negations[1]
    assert row.finding == "a pneumothorax"
    assert row.cosine == pytest.approx(
        cosine(encoder, there[1], "There is no pneumothorax."), abs=1e-4
    )
    nearest = max(cosine(encoder, there[1], other) for other in there if other != there[1])
    assert row.nearest == pytest.approx(nearest, abs=1e-4)
    sides = [
        cosine(encoder, f"There is {x} on the left.", f"There is {x} on the right.")
        for x in FINDINGS
    ]
    assert found.side_cosine == pytest.approx(sum(sides) / len(sides), abs=1e-4)


def test_it_is_told_in_words(encoder):
    found = check_text_encoder(encoder)
    told = "\n".join(in_words(found))
    assert "hf_folder (BertModel)" in told
    assert all(finding in told for finding in FINDINGS)
    confused = sum(row.cosine > row.nearest for row in found.negations)
    assert f"For {confused} of 10 findings" in told


def test_what_holds_no_encoder_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        open_text_encoder("bert-base-uncased")
    with pytest.raises(InputError, match="lacking its description"):
        open_text_encoder(str(tmp_path))


def test_a_training_is_opened_as_one(encoder, tmp_path):
    write_text_folder(tmp_path / "text")
    opened = open_text_encoder(str(tmp_path))
    assert opened.config.name == "scratch"
    assert torch.equal(opened.embed(["no mass"]), encoder.embed(["no mass"]))
