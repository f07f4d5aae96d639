"""Folders of the transformers library: read without a network, or refused in plain words."""

import json
import shutil

import pytest
import torch

pytest.importorskip("transformers")

from medssl.errors import InputError
from medssl.models.text_folder import check_text_folder, read_network, read_tokenizer
from tests.text_folders import write_text_folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_text_folder(tmp_path_factory.mktemp("text") / "tiny")


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copy")


def described(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("config.json", "lacking its description"),
        ("model.safetensors", "lacking its weights"),
        ("tokenizer.json", "lacking its tokenizer"),
    ],
)
def test_what_is_missing_is_named(folder, name, what):
    check_text_folder(folder)
    (folder / name).unlink()
    with pytest.raises(InputError, match=what):
        check_text_folder(folder)


def test_the_name_of_a_model_on_a_hub_is_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"no such folder[\s\S]*by its name on a hub"):
        check_text_folder(tmp_path / "bert-base-uncased")


def test_weights_of_tensors_alone_are_read_too(folder):
    expected = read_network(folder).state_dict()
    torch.save(expected, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    found = read_network(folder).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_weights_that_would_run_code_are_refused(folder, tmp_path):
    class Harmful:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    torch.save({"embeddings.LayerNorm.weight": Harmful()}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="weights cannot be read"):
        read_network(folder)
    assert not (tmp_path / "harm").exists()


def test_code_of_a_folder_is_never_run(folder, tmp_path):
    described(folder, auto_map={"AutoConfig": "harm.Config", "AutoModel": "harm.Model"})
    (folder / "harm.py").write_text(f"open({str(tmp_path / 'harm')!r}, 'w')\n")
    read_network(folder)
    read_tokenizer(folder)
    described(folder, model_type="harm")
    with pytest.raises(InputError, match="a network of kind 'harm'"):
        read_network(folder)
    assert not (tmp_path / "harm").exists()


def test_cxr_bert_is_read_as_bert_without_its_heads(folder):
    expected = read_network(folder).state_dict()
    described(folder, model_type="cxr-bert", architectures=["CXRBertModel"], projection_size=128)
    torch.save(
        {f"bert.{name}": value for name, value in expected.items()}
        | {"cls_projection_head.dense_to_hidden.weight": torch.zeros(2, 2)},
        folder / "pytorch_model.bin",
    )
    (folder / "model.safetensors").unlink()
    found = read_network(folder).state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_tensor_that_is_not_there_is_not_left_to_chance(folder):
    weights = read_network(folder).state_dict()
    weights.pop("encoder.layer.0.output.dense.weight")
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"1 tensors of the network .*layer\.0\.output\.dense"):
        read_network(folder)


def opened(folder):
    return read_tokenizer(folder), read_network(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_damaged_files_are_an_input_error(folder, name):
    (folder / name).write_bytes(b"{ nothing that can be read")
    with pytest.raises(InputError, match=r"cannot be read|does not describe a network"):
        opened(folder)


def test_an_encoder_with_a_decoder_is_refused(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(InputError, match="only encoders can be used"):
        read_network(folder)
