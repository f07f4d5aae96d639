"""What a training runs on changes what it costs, and not what it computes."""

import copy
import functools
import logging
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from medssl.config.load import validate
from medssl.errors import ConfigError
from medssl.models.encoders.segresnet import SegResNetEncoder
from medssl.models.encoders.unet import UNetEncoder
from medssl.runs.folder import read_json, write_json
from medssl.runs.processes import decided_by_first
from medssl.training.checkpoint import FOLDER, latest
from medssl.training.engine import EngineConfig, quiet_lightning, seed_batch
from medssl.training.launch import Place, joined
from medssl.training.pretrain import PretrainConfig, pretrain
from medssl.training.recorder import read_metrics
from medssl.training.stages import (
    checkpoint_stages,
    compile_stages,
    keep_channels_last,
    memory_format,
)
from tests.training import configs
from tests.training.processes import together
from tests.training.stores import write_store
from tests.training.test_distributed import assert_alike, config_of

ENCODERS = [SegResNetEncoder, UNetEncoder]


def gradients(encoder, x):
    encoder.zero_grad()
    loss = encoder.embed(x).sin().sum()
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in encoder.named_parameters()}


def assert_same(one, other, tolerance):
    (loss, slopes), (same_loss, same_slopes) = one, other
    torch.testing.assert_close(same_loss, loss, rtol=tolerance, atol=tolerance)
    assert slopes.keys() == same_slopes.keys()
    for name, slope in slopes.items():
        difference = (same_slopes[name] - slope).abs().max() / slope.abs().max().clamp_min(1e-2)
        assert difference <= tolerance, name


@pytest.fixture(params=ENCODERS)
def encoder(request):
    torch.manual_seed(0)
    return request.param.Config.tiny().build()


def test_stages_computed_twice_give_the_same_gradients(encoder):
    x = torch.randn(2, 1, 8, 8, 8)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, id_of):
        plain = gradients(copy.deepcopy(encoder), x)
        kept = sum(saved)
        names = list(encoder.state_dict())
        checkpoint_stages(encoder)
        saved.clear()
        again = gradients(encoder, x)
    assert_same(plain, again, 1e-6)
    assert list(encoder.state_dict()) == names
    assert sum(saved) < kept or len(encoder.stages()) == 1
    with torch.no_grad():
        assert encoder.embed(x).shape == (2, encoder.embed_dim)


def id_of(tensor):
    return tensor


def test_stages_computed_twice_see_a_batch_once():
    torch.manual_seed(0)
    plain = SegResNetEncoder.Config(width=4, blocks=(1, 1), norm="batch").build()
    twice = copy.deepcopy(plain)
    checkpoint_stages(twice)
    for seed in range(2):
        x = torch.randn(2, 1, 8, 8, 8, generator=torch.Generator().manual_seed(seed))
        assert_same(gradients(plain, x), gradients(twice, x), 1e-6)
    buffers = dict(plain.named_buffers())
    assert any(name.endswith("num_batches_tracked") for name in buffers)
    for name, value in twice.named_buffers():
        torch.testing.assert_close(value, buffers[name])


def test_draws_inside_a_stage_are_the_same_both_times():
    class Dropping(SegResNetEncoder):
        class Config(SegResNetEncoder.Config):
            pass

        def stages(self):
            return [self.drop]

        def features(self, x_BCIJK):
            return [self.drop(x_BCIJK)]

    torch.manual_seed(0)
    encoder = Dropping(SegResNetEncoder.Config.tiny())
    encoder.drop = nn.Sequential(nn.Conv3d(1, 4, 3), nn.Dropout(0.5))
    x = torch.randn(2, 1, 4, 4, 4)

    def run(module):
        torch.manual_seed(3)
        features = module.features(x)[0]
        module.drop.zero_grad()
        features.square().sum().backward()
        return module.drop[0].weight.grad.clone()

    plain = run(encoder)
    checkpoint_stages(encoder)
    assert torch.equal(run(encoder), plain)


@pytest.mark.filterwarnings("ignore")  # what the compiler says of its own parts
@pytest.mark.slow  # the compiler takes its time
def test_a_compiled_encoder_gives_the_same_loss_under_the_same_names():
    torch.manual_seed(0)
    encoder = UNetEncoder.Config.tiny().build()
    x = torch.randn(2, 1, 8, 8, 8)
    plain, names = gradients(copy.deepcopy(encoder), x), list(encoder.state_dict())
    compile_stages(encoder)
    assert_same(plain, gradients(encoder, x), 1e-4)
    assert list(encoder.state_dict()) == names
    assert copy.deepcopy(encoder).state_dict().keys() == encoder.state_dict().keys()


@pytest.mark.parametrize("dims", [2, 3])
def test_channels_are_kept_innermost_in_two_and_three_dimensions(dims):
    encoder = UNetEncoder.Config.tiny().model_copy(update={"dims": dims}).build()
    x = torch.randn(2, 2, *[8] * dims)[:, :1].contiguous()
    encoder, x = encoder.double(), x.double()
    plain = gradients(copy.deepcopy(encoder), x)
    keep_channels_last(encoder)
    wide = next(p for p in encoder.parameters() if p.ndim > 2 and p.shape[1] > 1)
    layout = memory_format(wide, channels_last=True)
    assert layout is (torch.channels_last if dims == 2 else torch.channels_last_3d)
    assert wide.is_contiguous(memory_format=layout)
    assert_same(plain, gradients(encoder, x.contiguous(memory_format=layout)), 1e-10)
    assert memory_format(x, channels_last=False) is torch.contiguous_format
    assert memory_format(torch.zeros(2, 3), channels_last=True) is torch.contiguous_format


def test_a_launcher_says_which_process_this_is(monkeypatch):
    assert EngineConfig().place == Place(rank=0, world=1, nodes=1)
    assert EngineConfig(devices=4).place == Place(rank=0, world=4, nodes=1)
    assert EngineConfig(accelerator="cpu", devices="auto").place.world == 1
    monkeypatch.setenv("LOCAL_RANK", "3")  # started by Lightning
    assert EngineConfig(devices=4).place == Place(rank=3, world=4, nodes=1)
    torchrun = {"WORLD_SIZE": 8, "LOCAL_WORLD_SIZE": 4, "RANK": 5, "TORCHELASTIC_RUN_ID": 1}
    with monkeypatch.context() as under:
        for name, value in torchrun.items():
            under.setenv(name, str(value))
        found = EngineConfig().place
        assert (found, found.devices) == (Place(rank=5, world=8, nodes=2), 4)
    srun = {"SLURM_STEP_NUM_TASKS": 6, "SLURM_STEP_NUM_NODES": 3, "SLURM_PROCID": 4}
    for name, value in srun.items():
        monkeypatch.setenv(name, str(value))
    found = EngineConfig().place
    assert (found, found.devices) == (Place(rank=4, world=6, nodes=3), 2)


def test_a_batch_that_processes_cannot_share_is_refused():
    assert EngineConfig(devices=2).own_share(8, "volumes") == 4
    with pytest.raises(ConfigError, match="volumes is 9, which 2 processes cannot share evenly"):
        EngineConfig(devices=2).own_share(9, "volumes")


def test_formats_that_cannot_be_shared_out_are_refused():
    with pytest.raises(ConfigError, match="fsdp works in 32-true and bf16-mixed, not in 16-mixed"):
        validate(EngineConfig, {"strategy": "fsdp", "precision": "16-mixed"}, where="here")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    ("engine", "message"),
    [({"accelerator": "gpu"}, "torch finds none here"), ({"precision": "16-mixed"}, "needs a GPU")],
)
def test_what_this_machine_cannot_do_is_said_before_anything_is_left(engine, message, tmp_path):
    values = configs.voco(tmp_path / "store", tmp_path / "run", engine=engine)
    with pytest.raises(ConfigError, match=message):
        pretrain(validate(PretrainConfig, values, where="test"))
    assert not list(tmp_path.iterdir())


def test_lightning_speaks_again_after_a_training_that_broke():
    logger = logging.getLogger("lightning.pytorch")
    before = logger.level

    def breaks():
        with quiet_lightning():
            assert logger.level == logging.ERROR
            raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        breaks()
    assert logger.level == before


def test_every_batch_and_process_draws_on_its_own():
    def drawn(*place):
        seed_batch(7, *place)
        return float(torch.rand(()))

    assert drawn(3) == drawn(3, 0)
    assert len({drawn(batch, rank) for batch in range(3) for rank in range(3)}) == 9


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("store") / "store", val=4)


def run(store, folder, name, **engine):
    options = {"accelerator": "cpu", "precision": "64-true", **engine}
    config = config_of("simclr", store, Path(folder) / name, engine=options)
    pretrain(validate(type(config), config.model_dump(mode="json"), where="test"))
    return Path(folder) / name


def test_recomputed_stages_train_alike(store, tmp_path):
    assert_alike(
        run(store, tmp_path, "plain"), run(store, tmp_path, "less", checkpoint_activations=True)
    )


def test_half_precision_trains_near_the_whole(store, tmp_path):
    whole, half = (
        read_metrics(run(store, tmp_path, precision, precision=precision) / "metrics.jsonl")
        for precision in ("32-true", "bf16-mixed")
    )
    assert half[0]["loss"] == pytest.approx(whole[0]["loss"], rel=0.1)
    assert half[0]["loss"] != whole[0]["loss"]
    assert all(torch.tensor(list(row.values())).isfinite().all() for row in half)


SHARDED = {"strategy": "fsdp", "precision": "32-true"}


@pytest.mark.slow  # two processes, twice
def test_weights_shared_out_over_two_processes_train_alike_and_are_saved_whole(store, tmp_path):
    together(2, __file__, store, tmp_path)
    plain = run(store, tmp_path, "plain", precision="32-true")
    assert_alike(plain, tmp_path / "sharded", tolerance=1e-5)


def lose_the_last_step(run):
    """Leave the folder as a training killed after its last but one checkpoint leaves it."""
    latest(run / FOLDER).path.unlink()
    manifest = read_json(run / "manifest.json")
    write_json(run / "manifest.json", manifest | {"status": "running"})
    (run / "encoder.safetensors").unlink()


if __name__ == "__main__":
    torch.set_num_threads(1)
    with joined(gpu=False):
        done = run(*sys.argv[1:3], "sharded", **SHARDED)
        decided_by_first(functools.partial(lose_the_last_step, done))
        run(*sys.argv[1:3], "sharded", **SHARDED)
