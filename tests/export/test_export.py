import pytest
import torch

from medssl.config.load import validate
from medssl.errors import ConfigError, InputError
from medssl.export.checksums import read_checksums
from medssl.export.export import ExportConfig, export
from medssl.export.formats.encoder_folder import EncoderFolder
from medssl.export.verify import VerificationError
from medssl.models.weights import load_encoder
from medssl.runs.digest import digest_file
from medssl.runs.folder import read_json
from tests.export.bundles import QUIET, config
from tests.finetuned import config as finetune_config
from tests.finetuned import finetuned, write_encoder


@pytest.fixture
def encoder(tmp_path):
    return write_encoder(tmp_path / "encoder", seed=3)


def encoder_config(run, out, **changes):
    return config(out, run=run, format={"name": "encoder_folder"}, **changes)


def test_an_exported_encoder_gives_the_same_bits(tmp_path, encoder):
    result = export(encoder_config(encoder, tmp_path / "out"))
    folder = tmp_path / "out" / "encoder_folder"
    assert {path.name for path in folder.iterdir()} == {
        "encoder.safetensors", "config.json", "README.md", "LICENSE", "provenance.json",
        "SHA256SUMS",
    }  # fmt: skip
    original, about = load_encoder(encoder)
    reloaded, same = load_encoder(folder)
    assert about == same
    x = torch.rand(1, 1, 16, 8, 12, generator=torch.Generator().manual_seed(1))
    assert torch.equal(original.embed(x), reloaded.embed(x))
    digests = read_checksums(folder)
    assert digests["encoder.safetensors"] == digest_file(encoder / "encoder.safetensors")
    assert result.look_at["model card"] == "encoder_folder/README.md"
    assert str(encoder) not in (folder / "README.md").read_text()


def test_finetuning_takes_an_exported_encoder(tmp_path, encoder):
    export(encoder_config(encoder, tmp_path / "out"))
    from medssl.labelled.read import read_labelled
    from medssl.training.finetune import make_plan

    dataset = finetuned().parent / "balls" / "dataset.json"
    folder = tmp_path / "out" / "encoder_folder"
    make_plan(finetune_config(dataset, tmp_path, encoder_from=folder), read_labelled(dataset))


def test_an_artefact_that_differs_leaves_nothing(tmp_path, encoder, monkeypatch):
    original = EncoderFolder.write

    def damaged(self, run, folder, card):
        original(self, run, folder, card)
        write_encoder(tmp_path / "other", seed=4)
        weights = (tmp_path / "other" / "encoder.safetensors").read_bytes()
        (folder / "encoder.safetensors").write_bytes(weights)

    monkeypatch.setattr(EncoderFolder, "write", damaged)
    with pytest.raises(VerificationError, match=r"differs in \d+ of \d+ numbers"):
        export(encoder_config(encoder, tmp_path / "out"))
    assert not list((tmp_path / "out").glob("*encoder_folder*"))
    assert read_json(tmp_path / "out" / "manifest.json")["status"] == "failed"


def test_a_damaged_artefact_leaves_nothing(tmp_path, encoder, monkeypatch):
    original = EncoderFolder.write

    def damaged(self, run, folder, card):
        original(self, run, folder, card)
        (folder / "encoder.safetensors").write_bytes(b"nothing")

    monkeypatch.setattr(EncoderFolder, "write", damaged)
    with pytest.raises(VerificationError, match="cannot be read back"):
        export(encoder_config(encoder, tmp_path / "out"))
    assert not list((tmp_path / "out").glob("*encoder_folder*"))


def test_the_same_again_is_handed_back(tmp_path, encoder):
    assert not export(encoder_config(encoder, tmp_path / "out")).skipped
    assert export(encoder_config(encoder, tmp_path / "out")).skipped


def test_the_licence_is_what_was_stated_and_never_invented(tmp_path, encoder):
    (tmp_path / "terms.txt").write_text("Ask first.")
    export(encoder_config(encoder, tmp_path / "a", card={"licence_file": tmp_path / "terms.txt"}))
    assert (tmp_path / "a" / "encoder_folder" / "LICENSE").read_text() == "Ask first."
    export(encoder_config(encoder, tmp_path / "b"))
    assert "No licence was stated" in (tmp_path / "b" / "encoder_folder" / "LICENSE").read_text()


def test_what_cannot_be_exported_is_explained(tmp_path, encoder):
    with pytest.raises(InputError, match="not a task model") as error:
        export(config(tmp_path / "out", run=encoder))
    assert "formats that fit this run: encoder_folder, onnx, torch_export" in error.value.hint
    with pytest.raises(InputError, match="not an encoder folder"):
        export(encoder_config(tmp_path, tmp_path / "out"))
    with pytest.raises(InputError, match=r"gone/metrics\.json: there is no such file"):
        export(encoder_config(encoder, tmp_path / "out", card={"evaluation": tmp_path / "gone"}))
    tree = {"run": "r", "out": "o", "format": {"name": "monai_bundel"}, "tracking": QUIET}
    with pytest.raises(ConfigError, match=r"Did you mean 'monai_bundle'"):
        validate(ExportConfig, tree, where="test")
    with pytest.raises(ConfigError, match="name"):
        validate(
            ExportConfig, tree | {"format": {"name": "encoder_folder"}, "name": "../up"}, where="x"
        )


def test_what_was_verified_may_be_lists_and_sections(tmp_path, encoder, monkeypatch):
    original = EncoderFolder.verify

    def more(self, run, folder):
        return {**original(self, run, folder), "sizes": [8, 16], "parts": {"a": None}}

    monkeypatch.setattr(EncoderFolder, "verify", more)
    result = export(encoder_config(encoder, tmp_path / "out"))
    assert result.summary["sizes"] == "[8, 16]"
    assert result.summary["parts"] == '{"a": null}'
    assert "- sizes: [8, 16]\n" in (result.folder / "encoder_folder" / "README.md").read_text()
