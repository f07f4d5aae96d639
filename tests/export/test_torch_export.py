import json
import shutil
import zipfile

import pytest
import torch

from medssl.errors import InputError
from medssl.export.formats.torch_export import TorchExport, pickles
from medssl.export.model_card import CardConfig
from medssl.export.verify import VerificationError
from medssl.models.weights import load_encoder
from medssl.runs.folder import read_json
from tests.export.encoders import exported, run_and_artefact, write_run
from tests.finetuned import finetuned


def form(**options):
    return TorchExport.Config(**options).build()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return run_and_artefact(tmp_path_factory.mktemp("torch_export"), form())


def test_a_program_takes_any_whole_strides_and_holds_no_pickle(written):
    run, folder = written
    found = form().verify(run, folder)
    assert found["largest_relative_difference"] <= 1e-5
    assert found["shapes"] == [
        [1, 1, 8, 8, 8], [2, 1, 8, 12, 8], [3, 1, 12, 8, 8], [1, 1, 12, 8, 12], [2, 1, 12, 12, 12],
    ]  # fmt: skip
    told = read_json(folder / "config.json")
    assert told["input"]["space"] == {"multiple_of": [4, 4, 4], "at_least": [8, 8, 8]}
    assert [output["name"] for output in told["outputs"]] == ["embedding", "map_0", "map_1"]
    assert told["intensity"] == {"mr": {"name": "mr"}}
    assert told["spacing_mm"] == [1.0, 1.5, 2.0]
    encoder, _ = load_encoder(run)
    x_BCIJK = torch.rand(4, 1, 16, 8, 20, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        embedding, *maps = torch.export.load(folder / "model.pt2").module()(x_BCIJK)
        assert torch.allclose(embedding, encoder.embed(x_BCIJK), atol=1e-5)
        for mine, theirs in zip(encoder.features(x_BCIJK), maps, strict=True):
            assert torch.allclose(mine, theirs, atol=1e-5)


def test_other_weights_are_noticed(tmp_path, written):
    other = write_run(tmp_path / "other", "vit", seed=6)
    with pytest.raises(VerificationError, match="other numbers than the network"):
        form().verify(other, written[1])


def test_no_two_constants_share_memory_and_what_torch_cannot_write_is_told(
    tmp_path, written, monkeypatch
):
    given = []

    def fail(program, path):
        given.extend(program.constants.values())
        raise RuntimeError("numel: integer multiplication overflow")

    traced = form().trace(written[0], form().open(written[0]))
    long = torch.arange(8.0)
    traced[0].constants.update({"one": long[1:3], "other": long[2:6]})
    monkeypatch.setattr(TorchExport, "trace", lambda *_: traced)
    monkeypatch.setattr(torch.export, "save", fail)
    with pytest.raises(VerificationError, match=r"cannot write the program \(RuntimeError\)"):
        form().write(written[0], tmp_path, CardConfig())
    assert len({c.untyped_storage().data_ptr() for c in given}) == len(given) >= 2
    assert all(c.untyped_storage().nbytes() == c.nbytes for c in given)


def repacked(path, change):
    """Write the archive again, with what ``change`` makes of its members."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def mark(members):
    name = next(name for name in members if name.endswith("_weights_config.json"))
    index = json.loads(members[name])
    next(iter(index["config"].values()))["use_pickle"] = True
    members[name] = json.dumps(index).encode()


def sample(members):
    root = next(iter(members)).split("/")[0]
    members[f"{root}/data/sample_inputs/model.pt"] = b"\x80\x02."


def custom(members):
    root = next(iter(members)).split("/")[0]
    members[f"{root}/data/constants/custom_obj_0"] = b"\x80\x02."


@pytest.mark.parametrize("change", [mark, sample, custom])
def test_a_pickle_in_the_archive_is_never_opened(tmp_path, written, change):
    run, folder = written
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert pickles(copy / "model.pt2") == []
    repacked(copy / "model.pt2", change)
    assert len(pickles(copy / "model.pt2")) == 1
    with pytest.raises(VerificationError, match=r"model\.pt2 holds a pickle"):
        form().verify(run, copy)


@pytest.mark.parametrize("kept", [0, 0.5])
def test_a_truncated_file_is_noticed(tmp_path, written, kept):
    run, folder = written
    copy = shutil.copytree(folder, tmp_path / "copy")
    content = (copy / "model.pt2").read_bytes()
    (copy / "model.pt2").write_bytes(content[: int(kept * len(content))])
    with pytest.raises(VerificationError, match="cannot be read back as a program"):
        form().verify(run, copy)


def test_a_grid_must_be_whole_strides(written):
    with pytest.raises(InputError, match=r"format\.voxels is \[6, 8, 8\]"):
        form(voxels=(6, 8, 8)).digests(written[0])
    with pytest.raises(InputError, match=r"format\.voxels is \[8, 8\]"):
        form(voxels=(8, 8)).digests(written[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unet", "segresnet", "swin_unetr"])
def test_every_encoder_can_be_exported(tmp_path, name):
    folder = exported(write_run(tmp_path / "run", name), tmp_path / "out", "torch_export")
    space = read_json(folder / "config.json")["input"]["space"]
    assert space == (
        {"fixed": [64, 64, 64]}
        if name == "swin_unetr"
        else {"multiple_of": [4, 4, 4], "at_least": [8, 8, 8]}
    )
    assert "holds no pickle" in (folder / "README.md").read_text()


@pytest.mark.slow
def test_a_task_model_gives_its_logits(tmp_path):
    folder = exported(finetuned() / "pretrained", tmp_path / "out", "torch_export")
    told = read_json(folder / "config.json")
    assert told["labels"] == ["background", "shell", "kernel"]
    assert [output["name"] for output in told["outputs"]] == ["logits"]
