import importlib.util
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from medssl.errors import InputError
from medssl.export.formats import onnx as format_onnx
from medssl.export.formats.onnx import TOLERANCE, Onnx
from medssl.export.verify import VerificationError
from medssl.runs.folder import read_json
from medssl.training.task_model import load_task_model
from tests.export.encoders import exported, run_and_artefact, write_run
from tests.finetuned import finetuned


def form(**options):
    return Onnx.Config(**options).build()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return run_and_artefact(tmp_path_factory.mktemp("onnx"), form())


def session(folder):
    return onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])


def test_a_graph_takes_any_whole_strides(written):
    run, folder = written
    assert {path.name for path in folder.iterdir()} == {"model.onnx", "config.json"}
    found = form().verify(run, folder)
    assert set(found["relative_difference"]) == {
        "1x1x8x8x8", "2x1x8x12x8", "3x1x12x8x8", "1x1x12x8x12", "2x1x12x12x12",
    }  # fmt: skip
    assert max(found["relative_difference"].values()) <= TOLERANCE
    assert found["opset"] >= 18
    assert found["ir_version"] >= 8
    assert found["opened_by"] == f"onnxruntime {onnxruntime.__version__}, CPUExecutionProvider"
    told = read_json(folder / "config.json")
    assert told["onnx"]["opset"] == found["opset"]
    assert told["input"]["space"] == {"multiple_of": [4, 4, 4], "at_least": [8, 8, 8]}
    assert told["intensity"] == {"mr": {"name": "mr"}}


def test_inputs_and_outputs_have_the_names_that_are_told(written):
    _, folder = written
    told, opened = read_json(folder / "config.json"), session(folder)
    assert [entry.name for entry in opened.get_inputs()] == [told["input"]["name"]]
    assert [entry.name for entry in opened.get_outputs()] == [o["name"] for o in told["outputs"]]
    x_BCIJK = np.zeros((1, 1, 16, 8, 8), np.float32)
    embedding, *maps = opened.run(None, {"image": x_BCIJK})
    assert embedding.shape == (1, told["embedding_length"])
    assert maps[0].shape == (1, told["maps"]["map_0"]["channels"], 4, 2, 2)


def test_other_weights_are_noticed(tmp_path, written):
    other = write_run(tmp_path / "other", "vit", seed=6)
    with pytest.raises(VerificationError, match="other numbers than the network: they differ by"):
        form().verify(other, written[1])


@pytest.mark.parametrize("kept", [0, 0.5])
def test_a_truncated_file_is_noticed(tmp_path, written, kept):
    run, folder = written
    copy = shutil.copytree(folder, tmp_path / "copy")
    content = (copy / "model.onnx").read_bytes()
    (copy / "model.onnx").write_bytes(content[: int(kept * len(content))])
    with pytest.raises(VerificationError, match="cannot be read back as a graph"):
        form().verify(run, copy)


def test_a_graph_without_an_output_is_noticed(tmp_path, written):
    run, folder = written
    copy = shutil.copytree(folder, tmp_path / "copy")
    model = onnx.load(copy / "model.onnx")
    del model.graph.output[1:]
    onnx.save(model, copy / "model.onnx")
    with pytest.raises(VerificationError, match=r"cannot run the graph on \[1, 1, 8, 8, 8\]"):
        form().verify(run, copy)


def test_a_lacking_package_is_named(written, monkeypatch):
    def find(name):
        return None if name == "onnxscript" else importlib.util.find_spec(name)

    monkeypatch.setattr(format_onnx, "find_spec", find)
    with pytest.raises(InputError, match=r"needs onnxscript.*\n  hint: pip install 'medssl\[onnx"):
        form().digests(written[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unet", "segresnet", "swin_unetr"])
def test_every_encoder_can_be_exported(tmp_path, name):
    folder = exported(write_run(tmp_path / "run", name), tmp_path / "out", "onnx")
    space = read_json(folder / "config.json")["input"]["space"]
    assert ("fixed" in space) == (name == "swin_unetr")
    differences = read_json(folder / "provenance.json")["verified"]["relative_difference"]
    assert len(differences) == 5
    assert max(differences.values()) <= TOLERANCE


@pytest.mark.slow
def test_a_task_model_gives_its_logits_for_a_patch_and_for_a_volume(tmp_path):
    run = finetuned() / "pretrained"
    folder = exported(run, tmp_path / "out", "onnx")
    told, network = read_json(folder / "config.json"), load_task_model(run).network
    assert told["labels"] == ["background", "shell", "kernel"]
    assert told["patch_voxels"] == [16, 16, 16]
    for shape in ((1, 1, 16, 16, 16), (1, 1, 24, 20, 16)):
        x_BCIJK = torch.rand(shape, generator=torch.Generator().manual_seed(2))
        (theirs,) = session(folder).run(["logits"], {"image": x_BCIJK.numpy()})
        with torch.no_grad():
            assert np.allclose(network(x_BCIJK).numpy(), theirs, atol=1e-3, rtol=1e-4)
    assert "onnxruntime" in (folder / "README.md").read_text()
