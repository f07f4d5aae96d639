import pytest
import torch

from medssl.config.load import validate
from medssl.errors import InputError
from medssl.evaluation.frozen.subjects import digests, load_subjects
from medssl.training.pretrain import PretrainConfig, pretrain
from tests.evaluation.frozen.sets import write_encoder
from tests.training.stores import write_store
from tests.training.test_pretrain import tree


def load(paths, fed=None, seed=0):
    return load_subjects(paths, fed or {}, trust_names=False, seed=seed)


def weights(subject):
    return torch.cat([p.flatten() for p in subject.encoder.parameters()])


def test_encoders_of_one_kind_share_a_twin_that_never_learned(tmp_path):
    paths = {name: write_encoder(tmp_path / name, seed=n) for n, name in enumerate("ab", start=5)}
    a, b, twin = load(paths)
    assert (a.twin, b.twin, twin.twin) == ("random_a", "random_a", None)
    assert twin.name == "random_a"
    assert not torch.equal(weights(a), weights(twin))
    assert torch.equal(weights(load(paths)[2]), weights(twin))
    assert not torch.equal(weights(load(paths, seed=1)[2]), weights(twin))


def test_an_encoder_of_another_grid_has_a_twin_of_its_own(tmp_path):
    paths = {"a": write_encoder(tmp_path / "a"),
             "b": write_encoder(tmp_path / "b", spacing_mm=[2, 2, 2])}  # fmt: skip
    assert [subject.name for subject in load(paths)] == ["a", "b", "random_a", "random_b"]
    assert len(load(paths, {"spacing_mm": [3, 3, 3]})) == 3


def test_a_checkpoint_of_a_pretraining_is_an_encoder_too(tmp_path):
    store = write_store(tmp_path / "store")
    values = tree(store, tmp_path / "run")
    run = pretrain(validate(PretrainConfig, values, where="test")).folder
    last = max((run / "checkpoints").glob("step-*.ckpt"))
    kept, saved, _ = load({"kept": run, "saved": last})
    assert torch.equal(weights(kept), weights(saved))
    assert kept.grid == saved.grid
    assert digests({"saved": last}).keys() == {"saved"}
    last.write_bytes(b"nothing")
    with pytest.raises(InputError, match="the checkpoint cannot be read"):
        load({"saved": last})


def test_what_is_no_encoder_is_explained(tmp_path):
    with pytest.raises(InputError, match="there is no encoder here"):
        digests({"a": tmp_path})
    lonely = tmp_path / "checkpoints" / "step-1.ckpt"
    lonely.parent.mkdir()
    lonely.write_bytes(b"")
    with pytest.raises(InputError, match=r"there is no config\.yaml in"):
        load({"a": lonely})


def test_how_an_encoder_is_fed_must_be_known(tmp_path):
    from medssl.models.encoders.segresnet import SegResNetEncoder
    from medssl.models.weights import save_encoder

    save_encoder(tmp_path, SegResNetEncoder.Config(width=4, blocks=(1, 1)).build())
    with pytest.raises(InputError, match="does not say with which spacing_mm and intensity"):
        load({"a": tmp_path})
    fed = {"spacing_mm": [1.5, 1, 1], "intensity": {"ct": {"window_hu": [-100, 300]}}}
    subject = load({"a": tmp_path}, fed)[0]
    assert subject.grid.spacing_mm == (1.5, 1, 1)
    assert subject.grid.intensity.ct.window_hu == (-100, 300)
