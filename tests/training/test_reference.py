"""What is usual for a model, on vectors whose law is known and on a small finetuning."""

import numpy as np
import pytest
import torch

from medssl.errors import InputError
from medssl.export.formats.monai_bundle import MonaiBundle
from medssl.export.model_card import CardConfig
from medssl.inference.predictor import Predictor
from medssl.io.volume import Volume
from medssl.models.encoders.segresnet import SegResNetEncoder
from medssl.models.encoders.unet import UNetEncoder
from medssl.runs.folder import read_json, write_json
from medssl.training.finetune import finetune
from medssl.training.reference import (
    REFERENCE,
    fit_reference,
    load_reference,
    save_reference,
    scan_vector,
)
from medssl.training.task_model import DESCRIPTION, load_task_model
from medssl.training.task_package import package_of
from tests.finetuned import affine, config, phantom, write_dataset

LAW = np.diag([1.0, 4.0, 0.25, 1.0])
CPU = torch.device("cpu")


def draws(count, seed=0):
    return np.random.default_rng(seed).multivariate_normal([5, 0, -3, 1], LAW, count)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finetuning on enough phantoms to know what is usual."""
    root = tmp_path_factory.mktemp("reference")
    encoder = {"name": "segresnet", "width": 4, "blocks": [1, 1]}
    dataset = write_dataset(root / "balls", cases=20)
    finetune(config(dataset, root / "run", encoder=encoder))
    return root / "run" / "scratch"


def distance(predictor, array_IJK):
    volume = Volume(array_IJK=array_IJK, affine_ras=affine(), modality="MR")
    return predictor.distance(predictor.see(volume))


def test_the_distance_is_that_of_mahalanobis():
    reference, away = fit_reference(draws(5000)), np.array([1.0, 2.0, 0.5, 0.0])
    expected = np.sqrt(away @ np.linalg.inv(LAW) @ away)
    assert reference.distance(np.array([5, 0, -3, 1]) + away) == pytest.approx(expected, rel=0.05)
    assert reference.distance(reference.mean_D) == 0


def test_new_draws_are_as_far_as_those_that_were_left_out():
    reference = fit_reference(draws(200))
    distances = np.array([reference.distance(vector) for vector in draws(1000, seed=1)])
    shares = np.array([reference.share_closer(distance) for distance in distances])
    assert shares.mean() == pytest.approx(0.5, abs=0.06)
    assert (distances > reference.limit).mean() < 0.01
    assert reference.distance(np.array([5, 0, -3, 9])) > reference.limit


def test_fewer_scans_than_dimensions_are_shrunk_and_a_constant_direction_harms_nothing():
    wide = np.random.default_rng(2).normal(size=(8, 50))
    wide[:, 0] = 7.0
    reference = fit_reference(wide)
    assert np.isfinite(reference.distances_N).all()
    assert reference.distance(wide[0]) < reference.distance(wide[0] + 10)


def test_of_too_few_scans_nothing_is_said():
    assert fit_reference(draws(3)) is None
    assert fit_reference(draws(4)) is not None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_of_vectors_that_are_not_finite_nothing_is_said(value):
    vectors = draws(6)
    vectors[3, 1] = value
    assert fit_reference(vectors) is None


def test_it_is_read_back_bit_by_bit_and_only_if_it_is_the_one_described(tmp_path):
    reference = fit_reference(draws(20))
    digest = save_reference(tmp_path, reference)
    again = load_reference(tmp_path, digest)
    assert again.distance(np.ones(4)) == reference.distance(np.ones(4))
    assert np.array_equal(again.distances_N, reference.distances_N)
    assert load_reference(tmp_path, "") is None
    (tmp_path / REFERENCE).write_bytes(b"damaged")
    with pytest.raises(InputError, match="not the file that the model's description names"):
        load_reference(tmp_path, digest)


@pytest.mark.parametrize("shape", [(8, 8, 8), (5, 20, 8), (30, 17, 9)])
def test_a_vector_is_the_mean_over_windows_in_the_corners(shape):
    encoder = SegResNetEncoder.Config(width=4, blocks=(1, 1)).build().eval()
    image = torch.rand((1, *shape), generator=torch.Generator().manual_seed(0))
    padded = torch.zeros((1, *np.maximum(shape, 8)))
    before = [(max(8 - side, 0)) // 2 for side in shape]
    padded[0][tuple(slice(b, b + n) for b, n in zip(before, shape, strict=True))] = image[0]
    i, j, k = (sorted({0, side - 8}) for side in padded.shape[1:])
    with torch.no_grad():
        vectors = [
            encoder.embed(padded[None, :, a : a + 8, b : b + 8, c : c + 8])[0].numpy()
            for a in i for b in j for c in k
        ]  # fmt: skip
    found = scan_vector(encoder, image, (8, 8, 8), CPU)
    assert found == pytest.approx(np.mean(vectors, axis=0), abs=1e-5)


def test_a_flat_encoder_sees_slices():
    encoder = UNetEncoder.Config(dims=2, channels=(4, 8), depths=(1, 1)).build().eval()
    image = torch.rand((1, 8, 8, 3), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = encoder.embed(torch.stack([image[..., k] for k in range(3)])).mean(0)
    found = scan_vector(encoder, image, (8, 8, 3), CPU)
    assert found == pytest.approx(expected.numpy(), abs=1e-6)


def test_a_scan_like_those_it_was_trained_on_is_usual_and_others_are_far_out(run):
    predictor = Predictor.load(run)
    limit, rng = predictor.reference.limit, np.random.default_rng(0)
    alike = [distance(predictor, phantom(seed)[0]) for seed in range(100, 106)]
    noise = rng.normal(0, 300, (20, 22, 18)).astype(np.int16)
    other = (1000 - phantom(100)[0]).astype(np.int16)  # bright where those are dark
    assert max(alike) <= limit
    assert distance(predictor, noise) > 3 * limit
    assert distance(predictor, other) > 3 * limit


def test_the_file_is_described_and_holds_no_scan(run):
    about = read_json(run / DESCRIPTION)
    assert len(about["reference_digest"]) == 64
    reference = load_reference(run, about["reference_digest"])
    assert reference.precision_DD.shape == (len(reference.mean_D),) * 2
    assert (run / REFERENCE).stat().st_size < 100_000


def test_a_model_of_before_has_none_and_opens(run, tmp_path):
    for path in run.glob("model.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    about = read_json(run / DESCRIPTION)
    del about["reference_digest"]
    write_json(tmp_path / DESCRIPTION, about)
    model = load_task_model(tmp_path)
    assert model.reference is None
    assert distance(Predictor(model), phantom(1)[0]) is None


def test_registries_and_bundles_take_it_along(run, tmp_path):
    assert REFERENCE in package_of(run).files
    (tmp_path / "bundle").mkdir()
    MonaiBundle.Config().build().write(run, tmp_path / "bundle", CardConfig())
    bundled = load_task_model(tmp_path / "bundle")
    assert bundled.reference.limit == load_task_model(run).reference.limit
