"""Every method keeps the promises of medssl.methods.base; new files are picked up by name."""

import copy

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from medssl.config.choice import available, find
from medssl.data.views import Labelled, Texts
from medssl.methods.base import ReportMethod
from medssl.models.encoders.segresnet import SegResNetEncoder
from tests.regions import sample_of

METHODS = available("medssl.methods")


@pytest.fixture(params=METHODS)
def method(request):
    torch.manual_seed(0)
    encoder = SegResNetEncoder.Config.tiny().build()
    return find("medssl.methods", request.param).Config.tiny().build(encoder=encoder)


def anatomy(rng, shape):
    """Blobs some crops wide: like anatomy, and unlike noise, each place looks its own way."""
    field = gaussian_filter(rng.standard_normal(shape), 5)
    return ((field - field.min()) / np.ptp(field)).astype(np.float32)


@pytest.fixture
def batch(method):
    rng = np.random.default_rng(0)
    views = method.views.collate([sample_of(method.views, rng, anatomy) for _ in range(2)])
    texts = reports(method) if isinstance(method, ReportMethod) else None
    return views._replace(labelled=labelled(rng, method.config.labelled_patches), texts=texts)


def reports(method):
    """Two reports of two sentences, for a method that reads any."""
    tokenizer = method.config.tokenizer()
    said = ["No effusion on the left.", "A nodule in the right upper lobe.", "Normal.", "A mass."]
    ids_NL, mask_NL, _ = tokenizer.encode(said, 16)
    numbers = torch.arange(4).view(2, 2)
    return Texts(
        token_BSL=ids_NL[numbers],
        token_mask_BSL=mask_NL[numbers],
        sentence_BS=numbers,
        study_B=torch.arange(2),
        text_B=torch.arange(2),
        normal_B=torch.zeros(2, dtype=torch.int8),
        label_BF=torch.tensor([[1, 0], [-2, 1]], dtype=torch.int8),
    )


def labelled(rng, wanted):
    """Patches whose classes are bands of grey, for a method that wants any."""
    if wanted is None:
        return None
    shape = (wanted.patch_voxels,) * 3
    image = np.stack([anatomy(rng, shape)[None] for _ in range(2 * wanted.per_sample)])
    label = np.minimum(image[:, 0] * wanted.classes, wanted.classes - 1).astype(np.int64)
    return Labelled(torch.from_numpy(image), torch.from_numpy(label))


def test_loss_is_one_finite_number_and_its_parts_are_scalars(method, batch):
    output = method.loss(batch, progress=0.0)
    assert output.total.shape == ()
    assert output.total.isfinite()
    assert all(value.shape == () for value in {**output.parts, **output.scores}.values())


def test_gradients_reach_the_encoder(method, batch):
    method.loss(batch, progress=0.0).total.backward()
    for name, weight in method.encoder.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name


def test_mixed_precision_leaves_the_loss_in_float32(method, batch):
    def loss():
        torch.manual_seed(0)
        return method.loss(batch, progress=0.0)

    whole = float(loss().total.detach())
    with torch.autocast("cpu", torch.bfloat16):
        mixed = loss()
    assert all(value.dtype == torch.float32 for value in (mixed.total, *mixed.parts.values()))
    assert float(mixed.total.detach()) == pytest.approx(whole, rel=0.1)


def test_a_dozen_steps_lower_the_loss(method, batch):
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW((p for p in method.parameters() if p.requires_grad), lr=3e-4)
    method.eval()
    before = float(method.loss(batch, progress=0.0).total.detach())
    method.train()
    for step in range(12):
        method.before_step(progress=step / 12)
        optimizer.zero_grad()
        method.loss(batch, progress=step / 12).total.backward()
        optimizer.step()
    method.eval()
    assert float(method.loss(batch, progress=1.0).total.detach()) < before


def test_the_same_seed_gives_the_same_loss_and_the_state_restores_it(method, batch):
    def loss(of):
        torch.manual_seed(3)
        return of.loss(batch, progress=0.5).total

    other = copy.deepcopy(method)
    for weight in other.parameters():
        weight.data.add_(0.1)
    other.load_state_dict(method.state_dict())
    assert torch.equal(loss(method), loss(method))
    assert torch.equal(loss(other), loss(method))


def test_a_constant_bound_names_a_part_of_the_loss(method, batch):
    parts = method.loss(batch, progress=0.0).parts
    assert set(method.constant_loss(batch)) <= set(parts)
