"""Files of other programs: whatever is wrapped around tensors is taken off, no code is run."""

import argparse
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from medssl.errors import InputError
from medssl.models.foreign import read_weights
from medssl.models.weights import DECODER, save_encoder
from tests.models import layouts
from tests.models.layouts import check_equal, load, saved, swin, unet

WRAPPED = {
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "network_weights": lambda state: {"network_weights": state},
    "net": lambda state: {"net": state},
    "student": lambda state: {"student": state},
    "teacher": lambda state: {"teacher": state},
    "model": lambda state: {"model": state, "optimizer": {"state": {0: {"step": torch.ones(1)}}}},
    "ema": lambda state: {"ema": state},
    "module.": lambda state: prefixed(state, "module."),
    "backbone.": lambda state: prefixed(state, "backbone."),
    "_orig_mod.": lambda state: prefixed(state, "_orig_mod."),
    "inside": lambda state: {
        k.replace("encoder1.", "encoder1._orig_mod."): v for k, v in state.items()
    },
    "module.student.": lambda state: prefixed(state, "module.student."),
    "several": lambda state: {"state_dict": prefixed(state, "_orig_mod.module.model.")},
    "swin_vit": lambda state: {k.replace("swinViT", "swin_vit"): v for k, v in state.items()},
    "half": lambda state: {k: v.half() if v.is_floating_point() else v for k, v in state.items()},
    "parameters": lambda state: {
        k: torch.nn.Parameter(v) if v.is_floating_point() else v for k, v in state.items()
    },
}  # fmt: skip


def prefixed(state, before):
    return OrderedDict((before + name, value) for name, value in state.items())


@pytest.mark.parametrize("wrapper", WRAPPED)
def test_whatever_is_wrapped_around_a_network_is_taken_off(tmp_path, wrapper):
    held, encoder = layouts.voco(), swin()
    report, _ = load(saved(tmp_path, WRAPPED[wrapper](held)), encoder)
    assert len(report.loaded) == 145
    if wrapper == "half":
        held = {k: v.half().float() if v.is_floating_point() else v for k, v in held.items()}
    check_equal(encoder, held)


def test_safetensors_are_read(tmp_path):
    held, encoder = layouts.voco(), swin()
    save_file(held, tmp_path / "model.safetensors")
    load(tmp_path / "model.safetensors", encoder)
    check_equal(encoder, held)


def test_a_file_from_before_zip_is_read(tmp_path):
    held, encoder = layouts.voco(), swin()
    torch.save(held, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    load(tmp_path / "old.pt", encoder)
    check_equal(encoder, held)


def test_what_training_programs_leave_beside_weights_is_passed_over(tmp_path):
    held = layouts.voco()
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([weight], amsgrad=True)
    weight.sum().backward()
    optimizer.step()
    path = saved(
        tmp_path,
        {
            "state_dict": held,
            "optimizer": optimizer,  # as VoCo's first code saves it: the object
            "args": argparse.Namespace(lr=1e-4),
            "best": np.float64(0.5),
            "where": Path("runs"),
        },
    )
    encoder = swin()
    load(path, encoder)
    check_equal(encoder, held)


class Harmful:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_with_code_is_refused_unopened(tmp_path, zipped):
    held = {"state_dict": layouts.voco(), "hook": Harmful(tmp_path / "ran")}
    torch.save(held, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=r"would run code when opened|cannot be read as weights"):
        read_weights(tmp_path / "w.pt")
    assert not (tmp_path / "ran").exists()


def test_code_behind_a_name_that_is_passed_over_is_not_run(tmp_path):
    class Disguised:
        def __reduce__(self):
            return np.save, (str(tmp_path / "ran"), [1])

    read_weights(saved(tmp_path, {"state_dict": layouts.voco(), "hook": Disguised()}))
    assert not list(tmp_path.glob("ran*"))


def test_a_whole_pickled_model_is_refused_with_words(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"would run code.*torch\.nn\.modules[^Z]*state_dict\(\)"):
        read_weights(tmp_path / "model.pt")


@pytest.mark.parametrize(
    "content", [b"", b"not weights", b"PK\x03\x04 cut off", pickle.dumps({"a": 1})]
)
@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_what_holds_no_weights_is_an_input_error(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=r"cannot be read as weights|holds no tensors"):
        read_weights(tmp_path / name)


def test_no_file_and_no_tensors_are_input_errors(tmp_path):
    with pytest.raises(InputError, match="no weights there"):
        read_weights(tmp_path)
    with pytest.raises(InputError, match="holds no tensors"):
        read_weights(saved(tmp_path, {"epoch": 3, "state_dict": {}}))


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")  # torch.jit's
def test_torchscript_is_refused_with_words(tmp_path):
    traced = torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2))
    traced.save(str(tmp_path / "model.ts"))
    with pytest.raises(InputError, match="TorchScript"):
        read_weights(tmp_path / "model.ts")


def test_an_old_file_with_options_beside_its_tensors_is_told_from_a_damaged_one(tmp_path):
    held = {"state_dict": layouts.voco(), "args": argparse.Namespace(lr=1e-4)}
    torch.save(held, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(InputError, match=r"hint: [^\n]*before 1\.6 [^\n]*argparse\.Namespace"):
        read_weights(tmp_path / "old.pt")
    (tmp_path / "w.safetensors").write_bytes(b"cut off")
    with pytest.raises(InputError) as caught:
        read_weights(tmp_path / "w.safetensors")
    assert "Namespace" not in str(caught.value)


@pytest.mark.parametrize("error", [struct.error("short"), zipfile.BadZipFile("bad magic number")])
def test_every_error_of_a_damaged_file_is_an_input_error(tmp_path, monkeypatch, error):
    def damaged(*_args, **_options):
        raise error

    path = saved(tmp_path, {"a": torch.ones(2)})
    monkeypatch.setattr(torch, "load", damaged)
    with pytest.raises(InputError, match=r"weights\.pt: cannot be read as weights"):
        read_weights(path)


def test_a_damaged_decoder_in_our_own_folder_is_named(tmp_path):
    source = unet(depths=(1, 1, 1))
    save_encoder(tmp_path, source, decoder=source.decoder())
    (tmp_path / DECODER).write_bytes(b"cut off")
    with pytest.raises(InputError, match=rf"{DECODER}: cannot be read as weights"):
        read_weights(tmp_path)


@pytest.mark.parametrize("form", ["sparse", "float8"])
def test_tensors_stored_in_other_forms_are_plain_once_read(tmp_path, form):
    held, encoder = layouts.voco(), swin(in_channels=2, window=5)
    change = {
        "sparse": lambda v: v.to_sparse() if v.ndim == 2 else v,
        "float8": lambda v: v.to(torch.float8_e4m3fn) if v.is_floating_point() else v,
    }[form]
    path = saved(tmp_path, {name: change(value) for name, value in held.items()})
    report, _ = load(path, encoder)
    assert report.share == 1
    assert not report.mismatched
    read = read_weights(path).tensors
    for name, value in held.items():
        stored = change(value)
        plain = stored.to_dense() if stored.is_sparse else stored
        assert torch.equal(read[name].float(), plain.float()), name


def test_tensors_without_values_are_refused(tmp_path):
    held = {name: value.to("meta") for name, value in layouts.voco().items()}
    with pytest.raises(InputError, match=r"proj\.weight has a shape but no values"):
        read_weights(saved(tmp_path, held))


@pytest.mark.parametrize(
    "together",
    [
        lambda one, other: {**one, **prefixed(other, "module.")},
        lambda one, other: {"model": one, "module": {"model": other}},
    ],
)
def test_two_networks_that_only_wrappers_tell_apart_are_not_merged(tmp_path, together):
    one, other = layouts.voco(seed=0), layouts.voco(seed=1)
    with pytest.raises(InputError, match=r"several copies[^Z]*module\.[^Z]*is one more"):
        read_weights(saved(tmp_path, together(one, other)))
    encoder = swin()
    load(saved(tmp_path, together(one, {k: v.clone() for k, v in one.items()})), encoder)
    check_equal(encoder, one)
