"""What does not fit is said before a run leaves anything, and what fits is never refused."""

import pytest

from medssl.config.choice import available, find
from medssl.config.load import load, validate
from medssl.data.grid_views import GridViews
from medssl.errors import ConfigError
from medssl.methods.global_local import GlobalLocal
from medssl.methods.sequence_invariant import SequenceInvariant
from medssl.methods.simclr import SimCLR
from medssl.methods.voco_omni import VoCoOmni
from medssl.models.encoders.segresnet import SegResNetEncoder
from medssl.models.encoders.unet import UNetEncoder
from medssl.training import rehearsal
from medssl.training.pretrain import PretrainConfig, pretrain
from medssl.training.rehearsal import rehearse
from tests.training.test_plan import CONFIGS

ENCODER = SegResNetEncoder.Config(width=4, blocks=(1, 1))
FLAT = UNetEncoder.Config.tiny().model_copy(update={"dims": 2})


def global_local(**changes):
    return GlobalLocal.Config.model_validate(
        GlobalLocal.Config.tiny().model_dump(exclude={"name"}) | changes
    )


def simclr(**views):
    tiny = SimCLR.Config.tiny()
    return tiny.model_copy(update={"views": tiny.views.model_copy(update=views)})


@pytest.mark.parametrize("name", available("medssl.methods"))
def test_every_method_passes_without_a_second_look(name, monkeypatch):
    monkeypatch.setattr(rehearsal, "nullcontext", None)  # what a second look would begin with
    rehearse(find("medssl.methods", name).Config.tiny(), ENCODER, 4)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_passes_without_a_second_look(path, monkeypatch):
    monkeypatch.setattr(rehearsal, "nullcontext", None)  # what a second look would begin with
    config = load(PretrainConfig, path, ["store=store", "out=out"])
    rehearse(config.method, config.encoder, config.loader.volumes_per_batch)


PAIR = {"crop_voxels": 8, "partitions": (1, 1, 1)}


@pytest.mark.parametrize(
    ("method", "encoder", "message"),
    [
        (simclr(), FLAT, "method simclr cannot take a step with the encoder unet"),
        (simclr(dims=2), ENCODER, "`dims`"),
        (SequenceInvariant.Config.tiny(), FLAT, "cannot take a step"),
        (global_local(views={"crop_voxels": 13, "partitions": (1, 1, 2)}), ENCODER, "a multiple"),
        (global_local(local_contrast={"levels": 9}), ENCODER, "level 9 of the decoder's maps"),
        (
            global_local(
                views={
                    "crop_voxels": 6, "spread": 1, "partitions": (1, 1, 2),
                    "augment": {"flip_probability": 0, "rotate_probability": 0},
                },
                local_contrast={"strategy": "lr"},
            ),
            ENCODER,
            "too small for a lattice",
        ),
        (
            VoCoOmni.Config.tiny().model_copy(  # its decoder sees crops in the second half only
                update={
                    "views": GridViews(grid=(2, 2, 1), crop_voxels=9, random_crops=2),
                    "pseudo_label_start": 0.5,
                }
            ),
            ENCODER,
            "cannot take a step",
        ),
        (simclr(partitions=(1, 1, 1)), ENCODER, "finds nothing to compare in a batch of 1"),
        (SequenceInvariant.Config.tiny(), ENCODER, "raise loader.volumes_per_batch"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_in_words(method, encoder, message):
    with pytest.raises(ConfigError, match=message):
        rehearse(method, encoder, 1)


def test_what_only_the_rehearsal_cannot_do_is_no_reason(monkeypatch):
    def refuse(_):
        raise RuntimeError("no kernel for memory that was never written")

    monkeypatch.setattr(rehearsal, "without_computing", refuse)
    rehearse(SimCLR.Config.tiny(), ENCODER, 2)


def test_a_run_that_cannot_begin_leaves_nothing(tmp_path):
    method = simclr(dims=2).model_dump(mode="json")
    values = {"store": tmp_path / "store", "out": tmp_path / "run", "method": method}
    config = validate(
        PretrainConfig, values | {"encoder": ENCODER.model_dump(mode="json")}, where="test"
    )
    with pytest.raises(ConfigError, match="cannot take a step"):
        pretrain(config)
    assert not list(tmp_path.iterdir())
