import json
import shutil

import pytest
import torch

from medssl.errors import InputError
from medssl.training.task_model import load_task_model
from tests.finetuned import finetuned


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("model.safetensors", "model.json"):
        shutil.copy(finetuned() / "pretrained" / name, folder)
    return folder


def edit(folder, **changes):
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_it_loads_to_the_same_network_twice_in_evaluation_mode(model):
    one, other = load_task_model(model), load_task_model(model)
    x = torch.rand(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    assert not one.network.training
    assert torch.equal(one.network(x), other.network(x))
    assert one.description.labels == ("background", "shell", "kernel")


def test_its_description_holds_no_path_of_this_machine(model):
    assert str(finetuned().parent) not in (model / "model.json").read_text()


def test_replaced_weights_are_noticed(model):
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match="is not the file that"):
        load_task_model(model)


@pytest.mark.parametrize("name", ["os", "os.path", "tests.finetuned", "nothing", "../segresnet"])
@pytest.mark.parametrize("part", ["encoder", "task"])
def test_a_model_from_elsewhere_names_no_module_to_import(model, part, name):
    edit(model, **{part: {"name": name}})
    with pytest.raises(InputError, match="does not have"):
        load_task_model(model)


def test_what_is_missing_or_foreign_is_explained(model, tmp_path):
    with pytest.raises(InputError, match=r"there is no model\.safetensors"):
        load_task_model(tmp_path)
    edit(model, format_version=2)
    with pytest.raises(InputError, match="cannot be read"):
        load_task_model(model)


def test_options_of_another_version_are_explained(model):
    edit(model, encoder={"name": "segresnet", "depth": 3})
    with pytest.raises(InputError, match="do not fit this version"):
        load_task_model(model)


def test_weights_of_another_network_are_refused(model):
    edit(model, encoder={"name": "segresnet", "width": 8, "blocks": [1, 1, 1]})
    with pytest.raises(InputError, match="do not fit the network"):
        load_task_model(model)
