"""What is damaged between writing and reading is caught by every format, in words."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from medssl.config.choice import available, find
from medssl.export.model_card import CardConfig
from medssl.export.verify import VerificationError
from medssl.runs.folder import read_json, write_json
from tests.export.encoders import write_run
from tests.finetuned import finetuned

ENCODERS = {
    "encoder_folder": ("segresnet", {}, "encoder.safetensors", ""),
    "nnunet": ("unet", {}, "checkpoint_final.pth", "network_weights"),
    "swin_ssl": ("swin_unetr", {"use_v2": False}, "model_swinvit.pt", "state_dict"),
    "voco": ("swin_unetr", {}, "voco.pt", ""),
}
"""Encoder, its options, the file of tensors, and where in it they are."""
TENSORS = {**{form: parts[2:] for form, parts in ENCODERS.items()},
           "monai_bundle": ("models/model.pt", "")}  # fmt: skip
BY_NAME = [
    *ENCODERS,
    pytest.param("monai_bundle", marks=pytest.mark.slow),  # MONAI, in a process of its own
]
GRAPHS = {
    "onnx": "tests/export/test_onnx.py",
    "torch_export": "tests/export/test_torch_export.py",
    "image_text": "tests/export/test_image_text.py",
}
"""Formats that hold no tensors by name; their own tests damage them."""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return a function that writes a format once: (format, run, its folder)."""
    known = {}

    def write(name):
        if name not in known:
            root = tmp_path_factory.mktemp(name)
            form = find("medssl.export.formats", name).Config().build()
            run = finetuned() / "pretrained"
            if name in ENCODERS:
                encoder, options, *_ = ENCODERS[name]
                run = write_run(root / "run", encoder, **options)
            (root / "artefact").mkdir()
            form.write(run, root / "artefact", CardConfig())
            known[name] = form, run, root / "artefact"
        return known[name]

    return write


@pytest.fixture
def damaged(tmp_path, written):
    """Return a function that verifies a copy that ``damage`` was done to, and what was said."""

    def verify(name, damage):
        form, run, artefact = written(name)
        copy = tmp_path / artefact.name
        shutil.copytree(artefact, copy)
        damage(copy)
        with pytest.raises(VerificationError) as error:
            form.verify(run, copy)
        problem = error.value.problem
        assert len(problem) < 300, problem
        assert "\n" not in problem
        assert "Traceback" not in problem
        assert "nothing was kept" in error.value.hint
        return problem

    return verify


def change(form, edit):
    """Return what edits the dictionary of tensors in an artefact of ``form``."""
    name, inside = TENSORS[form]

    def damage(folder):
        path = folder / name
        safe = path.suffix == ".safetensors"
        held = load_file(path) if safe else torch.load(path, weights_only=True)
        edit(held[inside] if inside else held)
        if safe:
            save_file(held, path)
        else:
            torch.save(held, path)

    return damage


def first_kernel(tensors):
    return next(name for name, value in tensors.items() if value.ndim == 5)


def flip(tensors):
    tensors[first_kernel(tensors)].neg_()


def rename(tensors):
    name = first_kernel(tensors)
    tensors[f"{name}_"] = tensors.pop(name)


def shorten(tensors):
    name = first_kernel(tensors)
    tensors[name] = tensors[name][..., :1].clone()


def test_every_format_is_asked():
    assert set(available("medssl.export.formats")) <= TENSORS.keys() | GRAPHS.keys()


@pytest.mark.parametrize("form", BY_NAME)
def test_what_is_whole_passes(written, form):
    made, run, artefact = written(form)
    assert made.verify(run, artefact)


@pytest.mark.parametrize("form", BY_NAME)
def test_one_flipped_tensor(damaged, form):
    said = damaged(form, change(form, flip))
    assert "differ" in said
    if form != "monai_bundle":
        assert "numbers" in said
        assert ".weight" in said


@pytest.mark.parametrize("form", BY_NAME)
def test_one_renamed_tensor(damaged, form):
    said = damaged(form, change(form, rename))
    assert any(word in said for word in ("lacks", "missing", "do not fit", "cannot run", "Missing"))


@pytest.mark.parametrize("form", BY_NAME)
def test_one_tensor_of_another_shape(damaged, form):
    damaged(form, change(form, shorten))


@pytest.mark.parametrize("form", BY_NAME)
@pytest.mark.parametrize("kept", [0, 0.5])
def test_a_truncated_file(damaged, form, kept):
    def truncate(folder):
        path = folder / TENSORS[form][0]
        content = path.read_bytes()
        path.write_bytes(content[: int(kept * len(content))])

    said = damaged(form, truncate)
    assert "cannot be read back" in said or "cannot run the bundle" in said


@pytest.mark.parametrize("form", ENCODERS)
def test_a_file_that_is_gone(damaged, form):
    said = damaged(form, lambda folder: (folder / ENCODERS[form][2]).unlink())
    assert "cannot be read back" in said


@pytest.mark.parametrize("form", ENCODERS)
def test_a_tensor_that_no_output_shows(damaged, form):
    """A shift ahead of a norm changes no map, yet whoever trains on starts elsewhere."""

    def shift(tensors):
        names = [name for name in tensors if name.endswith("conv1.conv.bias")]
        quiet = names[0] if names else list(tensors)[-1]
        tensors[quiet].add_(1)

    assert "differs in" in damaged(form, change(form, shift))


def test_a_file_that_would_run_code(damaged):
    def poison(folder):
        torch.save({"network_weights": Poison()}, folder / "checkpoint_final.pth")

    said = damaged("nnunet", poison)
    assert said == "checkpoint_final.pth cannot be read back as tensors (UnpicklingError)"


class Poison:
    """What pickle would call a function for."""

    def __reduce__(self):
        return print, ("opened",)


@pytest.mark.parametrize("kind", ["beside", "inside"])
def test_a_plan_of_another_network(damaged, kind):
    def beside(folder):
        plan = read_json(folder / "adaptation_plan.json")
        plan["architecture_plans"]["arch_kwargs"]["n_stages"] = 7
        write_json(folder / "adaptation_plan.json", plan)

    def inside(folder):
        path = folder / "checkpoint_final.pth"
        held = torch.load(path, weights_only=True)
        held["nnssl_adaptation_plan"]["key_to_stem"] = "encoder"
        torch.save(held, path)

    said = damaged("nnunet", {"beside": beside, "inside": inside}[kind])
    where = {"beside": "adaptation_plan.json", "inside": "the checkpoint"}[kind]
    assert said == f"the adaptation plan in {where} differs"


def test_names_in_another_order(damaged):
    """VoCo's own scripts look at the first name to find out what the file is."""

    def turn(tensors):
        name = next(iter(tensors))
        tensors[name] = tensors.pop(name)

    assert "in its order" in damaged("voco", change("voco", turn))
