"""A text encoder from reports alone: it learns, resumes to the bit, and is read back."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("transformers")

from medssl.errors import InputError
from medssl.models.text.hf_folder import HFFolder
from medssl.models.text.scratch import Scratch
from medssl.reports.pairs import Pair, Section, write_pairs
from medssl.runs.tracking import TrackingConfig
from medssl.training import text_model
from medssl.training.schedule import ScheduleConfig
from medssl.training.text_model import (
    NetworkConfig,
    TrainTextConfig,
    hidden,
    read_corpus,
    train_text,
)

SIDES, FINDINGS = ("left", "right"), ("effusion", "nodule", "mass", "consolidation", "opacity")
PLACES = ("upper lobe", "lower lobe", "hilum", "pleura", "middle lobe", "apex")


def reports():
    """Sentences in which a side is told twice, so that hidden words can be guessed."""
    return [
        f"There is {word} {finding} in the {side} {place}, on the {side} side."
        for side in SIDES
        for finding in FINDINGS
        for place in PLACES
        for word in ("a", "no")
    ]


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "reports.txt"
    path.write_text("\n".join(reports()) + "\n")
    return path


def settings_of(corpus, out, steps=6, **options):
    return TrainTextConfig(
        corpus=corpus,
        out=out,
        network=NetworkConfig(width=16, blocks=1, heads=2, max_tokens=32),
        schedule=ScheduleConfig(steps=steps, warmup_steps=1),
        batch_size=8,
        keep_every=2,
        tracking=TrackingConfig(enabled=False),
        **options,
    )


def weights(out):
    return Scratch.Config(path=out).build().state_dict()


def test_hidden_words_are_learned(corpus, tmp_path):
    done = train_text(settings_of(corpus, tmp_path / "out", steps=60, lr=2e-2))
    facts = done.summary
    assert facts["held_out_loss"] < 0.6 * facts["held_out_loss_before"]
    assert facts["held_out_accuracy"] > 0.5
    assert facts["texts"] == 120
    assert facts["held_out_texts"] == 6


def test_what_is_left_is_read_by_both_kinds(corpus, tmp_path):
    train_text(settings_of(corpus, tmp_path / "out"))
    mine = Scratch.Config(path=tmp_path / "out").build().eval()
    theirs = HFFolder.Config(path=tmp_path / "out" / "text").build().eval()
    texts = ["There is no nodule, 3.5 mm.", "Sin derrame"]
    assert torch.equal(mine.embed(texts), theirs.embed(texts))
    assert mine.max_tokens == 32
    pieces = text_model.Tokenizer.read(tmp_path / "out" / "pieces.json")
    for one, other in zip(pieces.encode(texts, 32), mine.tokenizer.encode(texts, 32), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("step", [1, 3, 5])
def test_an_interrupted_training_ends_with_the_same_weights(corpus, tmp_path, monkeypatch, step):
    train_text(settings_of(corpus, tmp_path / "whole"))
    taken = []

    def interrupted(self, number, real=text_model._Trainer._step):
        taken.append(number)
        if len(taken) == step + 1:
            raise KeyboardInterrupt
        return real(self, number)

    monkeypatch.setattr(text_model._Trainer, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_text(settings_of(corpus, tmp_path / "parts"))
    train_text(settings_of(corpus, tmp_path / "parts"))
    assert taken[step + 1] == step // 2 * 2  # where it was last kept, not at the start
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert not (tmp_path / "parts" / "state.ckpt").exists()


def test_the_same_again_is_not_done_again(corpus, tmp_path):
    config = settings_of(corpus, tmp_path / "out")
    assert not train_text(config).skipped
    assert train_text(config).skipped


def test_without_a_schedule_weights_are_random(corpus, tmp_path):
    config = settings_of(corpus, tmp_path / "out").model_copy(update={"schedule": None})
    facts = train_text(config).summary
    assert facts["held_out_loss"] == facts["held_out_loss_before"]


def test_of_pairs_only_the_training_split_is_read(tmp_path):
    def pair(number, split, text):
        sections = (Section(name="findings", text=text),)
        return Pair(
            study_key=f"s{number:03}",
            patient_key=f"p{number}",
            split=split,
            volume_keys=("v",),
            sections=sections,
        )

    texts = [*reports(), "Kept aside."]
    pairs = [
        pair(n, "test" if n == len(texts) - 1 else "train", text) for n, text in enumerate(texts)
    ]
    write_pairs(tmp_path, pairs, ())
    assert read_corpus(tmp_path, by_sentence=True) == sorted(reports())


def test_a_report_is_read_by_sentence_or_whole(tmp_path):
    path = tmp_path / "reports.txt"
    path.write_text("\n".join(f"{text} Normal heart." for text in reports()))
    assert len(read_corpus(path, by_sentence=True)) == 121
    assert len(read_corpus(path, by_sentence=False)) == 120


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "neither pairs nor a text file"),
        (b"Erg\xfcsse", "byte 3 is not UTF-8"),
        (b"One line.\nOne line.\n", "1 different texts, too few"),
    ],
)
def test_what_is_no_corpus_is_explained(tmp_path, content, words):
    path = tmp_path / "reports.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        read_corpus(path, by_sentence=True)


def test_no_text_reaches_the_manifest(corpus, tmp_path):
    train_text(settings_of(corpus, tmp_path / "out"))
    assert "effusion" not in json.dumps((tmp_path / "out" / "manifest.json").read_text())


@settings(max_examples=30)
@given(rows=st.integers(1, 5), length=st.integers(3, 12), seed=st.integers(0, 10**6))
def test_marks_and_padding_are_never_asked_for(rows, length, seed):
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 50, (rows, length), generator=draw)
    ids[:, 0], ids[:, -1] = 2, 0
    shown, target = hidden(ids, 4, 5, 50, draw)
    asked = target != -100
    assert asked.any()
    assert not asked[ids < 5].any()
    assert torch.equal(target[asked], ids[asked])
    assert torch.equal(shown[~asked], ids[~asked])
    assert not torch.isin(shown[asked], torch.tensor([0, 1, 2, 3])).any()


def test_shares_of_hidden_words_are_those_of_the_paper():
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 5000, (400, 500), generator=draw)
    shown, target = hidden(ids, 4, 5, 5000, draw)
    asked = target != -100
    assert asked.float().mean().item() == pytest.approx(0.15, abs=0.005)
    assert (shown[asked] == 4).float().mean().item() == pytest.approx(0.8, abs=0.01)
    assert (shown[asked] == ids[asked]).float().mean().item() == pytest.approx(0.1, abs=0.01)


def test_heads_that_do_not_fit_are_explained():
    with pytest.raises(ValueError, match="width 30 is no multiple of 4 heads"):
        NetworkConfig(width=30)
