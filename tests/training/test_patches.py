import numpy as np
import pytest
import torch

from medssl.training.patches import PatchAugmentConfig, PatchDataset

PLAIN = {"intensity_probability": 0.0}


def volumes(shapes=((20, 9, 14), (11, 17, 12), (16, 16, 16))):
    """Return volumes in which the label is the image's own value, to see that both move alike."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for shape in shapes:
        label = torch.randint(0, 3, (1, *shape), generator=generator, dtype=torch.uint8)
        found.append({"image": label.float(), "label": label})
    return found


def dataset(seed=0, **options):
    return PatchDataset(
        volumes(), PatchAugmentConfig(**options), (12, 12, 12), batch_size=2, seed=seed
    )


def test_a_patch_is_a_function_of_seed_and_index_whatever_was_asked_before():
    one, other = dataset(), dataset()
    for index in (5, 0, 3):
        other[index]
    assert torch.equal(one[4]["image"], other[4]["image"])
    assert not torch.equal(one[4]["image"], dataset(seed=1)[4]["image"])


def test_image_and_label_are_cut_and_flipped_together_and_small_volumes_padded():
    patches = dataset(**PLAIN)
    for index in range(12):
        patch = patches[index]
        assert patch["image"].shape == patch["label"].shape == (1, 12, 12, 12)
        assert torch.equal(patch["image"], patch["label"].float())


def test_the_volumes_themselves_never_change():
    patches = dataset()
    before = [volume["image"].clone() for volume in patches._volumes]
    for index in range(9):
        patches[index]
    assert all(torch.equal(a, b["image"]) for a, b in zip(before, patches._volumes, strict=True))


@pytest.mark.parametrize(("share", "expected"), [(1.0, 1.0), (0.0, 0.0)])
def test_patches_are_centred_as_asked(share, expected):
    label = torch.zeros(1, 24, 24, 24, dtype=torch.uint8)
    label[0, 12, 12, 12] = 1
    config = PatchAugmentConfig(foreground_share=share, flip_axes=(), intensity_probability=0)
    patches = PatchDataset(
        [{"image": label.float(), "label": label}], config, (7, 7, 7), batch_size=1, seed=0
    )
    centred = [float(patches[index]["label"][0, 3, 3, 3]) for index in range(6)]
    assert np.mean(centred) == expected


def centred(label, share, ignore_label):
    """Return the centres of many patches, and the patches."""
    config = PatchAugmentConfig(foreground_share=share, flip_axes=(), intensity_probability=0)
    places = torch.arange(label.numel()).view(label.shape)
    volume = {"image": places.float(), "label": label}
    patches = PatchDataset(
        [volume], config, (3, 3, 3), batch_size=1, seed=0, ignore_label=ignore_label
    )
    found = [patches[index] for index in range(40)]
    return {int(patch["label"][0, 1, 1, 1]) for patch in found}, found


def test_voxels_that_are_ignored_are_no_centres():
    label = torch.full((1, 12, 12, 12), 2, dtype=torch.uint8)
    label[0, 2:9, 2:9, 4:8], label[0, 3:6, 3:6, 5:7] = 0, 1
    assert centred(label, 1.0, 2)[0] == {1}
    assert centred(label, 0.0, 2)[0] == {0, 1}
    assert centred(label, 0.5, 2)[0] == {0, 1}
    assert centred(label, 1.0, None)[0] == {1, 2}


def test_where_nothing_is_ignored_patches_are_the_same():
    (volume, *_) = volumes()
    one, other = (centred(volume["label"], 0.6, ignored)[1] for ignored in (None, 9))
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(one, other, strict=True))


@pytest.mark.filterwarnings("ignore:Num foregrounds")
def test_a_volume_of_which_nothing_counts_still_gives_patches():
    label = torch.full((1, 6, 6, 6), 9, dtype=torch.uint8)
    assert centred(label, 0.7, 9)[0] == {9}
