"""Slab by slab gives the voxels that MONAI's own transforms give at once."""

import numpy as np
import pytest
import torch

from medssl.errors import RejectedFileError
from medssl.inference import budget, slabs
from medssl.inference.predictor import Predictor
from medssl.io.geometry import reorient
from medssl.io.volume import Volume
from medssl.models.encoders.segresnet import SegResNetEncoder
from medssl.tasks.segmentation import Segmentation
from medssl.training.task_model import ModelDescription, TaskModel
from tests.finetuned import affine, finetuned, phantom

OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = np.linalg.qr([[1, 0.2, -0.1], [-0.2, 1, 0.15], [0.1, -0.1, 1]])[0]
OBLIQUE[:3, :3] *= np.sign(np.diag(OBLIQUE))[:3]


def predictor(**options):
    return Predictor(untrained(**options))


def untrained(regions=(), spacing=(1.0, 1.0, 1.0), labels=("background", "a", "b", "c"), **options):
    """Return an untrained network, whose masks are noise: every voxel is close to a border."""
    torch.manual_seed(1)
    task = Segmentation.Config(regions=regions, **options).build(labels=labels)
    encoder = SegResNetEncoder.Config(width=4, blocks=(1, 1)).build()
    network, definition = task.network(encoder)
    specs = trained().preprocessing
    steps = tuple(s | {"pixdim": spacing} if s["_target_"] == "Spacingd" else s for s in specs)
    about = trained().model_copy(
        update={
            "task": task.config.model_dump(mode="json"),
            "labels": labels,
            "preprocessing": steps,
            "patch_voxels": (16, 16, 16),
            "inferer": task.inferer_spec((16, 16, 16)),
            "postprocessing": tuple(task.postprocessing_specs()),
            "network_def": definition,
        }
    )
    return TaskModel(network=network.eval(), task=task, description=about, encoder=encoder)


def trained() -> ModelDescription:
    return Predictor.load(finetuned() / "pretrained").description


def scan(shape=(33, 29, 21), axes="RAS", spacing_mm=(0.8, 1.3, 1.1), turn=OBLIQUE):
    image, _ = phantom(5, shape=shape)
    array, matrix = reorient(image, turn @ affine(spacing_mm, axes=(1, 1, 1)), axes)
    return Volume(array_IJK=array, affine_ras=matrix, modality="MR")


def assert_equal(model, volume):
    once, slabbed = model.segment_at_once(volume), model.segment(volume)
    assert slabbed.painted_IJK.shape == volume.shape
    assert len(np.unique(once.painted_IJK)) > 1
    assert np.array_equal(slabbed.stacked_CIJK, once.stacked_CIJK)
    return slabbed


@pytest.fixture
def _thin(monkeypatch):
    """Make every slab a row or two, whatever the memory."""
    monkeypatch.setattr(slabs, "rows_that_fit", lambda row_bytes: 2)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR", "SLA"])
@pytest.mark.usefixtures("_thin")
def test_the_voxels_are_those_of_the_plain_way_whatever_the_axes(axes):
    assert_equal(predictor(), scan(axes=axes))


@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.5, 0.75])
@pytest.mark.parametrize("at_once", [1, 3, 4])
@pytest.mark.usefixtures("_thin")
def test_windows_are_joined_as_monai_joins_them(overlap, at_once):
    assert_equal(predictor(overlap=overlap, patches_at_once=at_once), scan())


@pytest.mark.parametrize("shape", [(7, 9, 5), (40, 10, 6), (5, 40, 40), (17, 16, 15), (16, 16, 16)])
@pytest.mark.usefixtures("_thin")
def test_volumes_smaller_than_a_window_are_padded_alike(shape):
    assert_equal(predictor(), scan(shape=shape, spacing_mm=(1.0, 1.0, 1.0)))


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.5, 2.0, 3.0), (0.5, 0.6, 0.7)])
def test_any_spacing_and_thick_slabs(spacing):
    assert_equal(predictor(spacing=spacing), scan())


@pytest.mark.usefixtures("_thin")
def test_a_scan_on_the_networks_own_grid_is_not_resampled():
    assert_equal(predictor(), scan(spacing_mm=(1.0, 1.0, 1.0), turn=np.eye(4)))


@pytest.mark.usefixtures("_thin")
def test_regions_that_overlap_stay_apart():
    masks = assert_equal(predictor(regions=(("whole", (1, 2)), ("core", (2,)))), scan())
    assert masks.regions_CIJK.shape == (2, 33, 29, 21)


def test_a_trained_model_gives_the_same_as_well():
    assert_equal(Predictor.load(finetuned() / "pretrained"), scan())


def test_mirrored_windows_are_averaged_and_change_the_answer():
    model = untrained()
    plain = Predictor(model)
    mirrored = assert_equal(Predictor(model, mirror_axes=(0, 2)), scan())
    assert not np.array_equal(mirrored.painted_IJK, plain.segment(scan()).painted_IJK)


def test_windows_are_seen_in_parts_where_memory_is_short(monkeypatch):
    model, network = predictor(), predictor()._network
    sizes = []

    def short(x_BCIJK):
        sizes.append(len(x_BCIJK))
        if len(x_BCIJK) > 1:
            raise torch.OutOfMemoryError
        return network(x_BCIJK)

    expected = model.segment(scan()).painted_IJK
    monkeypatch.setattr(model, "_network", short)
    assert np.array_equal(model.segment(scan()).painted_IJK, expected)
    assert sizes[:3] == [4, 2, 1]


def test_a_window_that_fits_nowhere_is_a_refusal(monkeypatch):
    model = predictor()

    def never(x_BCIJK):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(model, "_network", never)
    with pytest.raises(RejectedFileError, match="more memory than there was"):
        model.segment(scan())
    monkeypatch.setattr(budget, "free_bytes", lambda device: 1000)
    with pytest.raises(RejectedFileError, match="more memory than there was"):
        predictor().segment(scan())
