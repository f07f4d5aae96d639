"""Images and texts in one space: poolings, places, sentences, and a folder that is enough."""

import json
import math
import shutil
import socket

import pytest
import torch
from torch import nn

pytest.importorskip("transformers")

from medssl.data.report_text import ReportTextConfig
from medssl.errors import InputError
from medssl.models.encoders.base import Encoder
from medssl.models.encoders.segresnet import SegResNetEncoder
from medssl.models.encoders.unet import UNetEncoder
from medssl.models.encoders.vit import ViTEncoder
from medssl.models.image_text import ImageTextConfig
from medssl.models.image_text_folder import load_image_text, save_image_text
from medssl.models.weights import load_encoder
from tests.text_folders import tiny_text, write_text_folder

ENCODERS = {
    "vit": ViTEncoder.Config.tiny(),
    "segresnet": SegResNetEncoder.Config(width=4, blocks=(1, 1)),
    "unet": UNetEncoder.Config.tiny(),
    "unet_2d": UNetEncoder.Config.tiny().model_copy(update={"dims": 2}),
}
REPORT = "No mass. Large effusion on the left."


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_text_folder(tmp_path_factory.mktemp("text") / "tiny")


def model(folder, encoder="segresnet", text=None, **options):
    torch.manual_seed(0)
    config = ImageTextConfig(
        text=tiny_text(folder, **(text or {})), dim=8, places_stride=2, **options
    )
    return config.build(ENCODERS[encoder].build()).eval()


def images(made, count):
    draw = torch.Generator().manual_seed(1)
    return torch.randn(count, 1, *(16,) * made.encoder.dims, generator=draw)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_mean_over_places_is_the_images_own_projection(folder, encoder):
    made = model(folder, encoder)
    features = made.image_features(images(made, 2), places=True)
    side = features.shape[-1]
    assert features.shape == (1, *(side,) * made.encoder.dims)
    assert features.places_BPD.shape == (2, side**made.encoder.dims, 8)
    assert features.present_BP.all()
    mean_BD = features.places_BPD.mean(1)
    torch.testing.assert_close(mean_BD, made.image_head(features.global_BE), rtol=1e-4, atol=1e-5)


class Averages(Encoder):
    """Its maps are means of the image over 1, 2 and 4 pixels."""

    class Config(Encoder.Config):
        pass

    dims, channels, strides = 2, (1, 1, 1), (1, 2, 4)

    def __init__(self, config):
        super().__init__()
        self.config = config

    def features(self, x_BCIJK):
        return [nn.functional.avg_pool2d(x_BCIJK, stride) for stride in self.strides]


def test_the_embedding_of_a_place_by_definition(folder):
    config = ImageTextConfig(text=tiny_text(folder), dim=3, places_stride=2)
    made = config.build(Averages.Config().build()).eval()
    x = torch.randn(2, 1, 8, 12)
    features = made.image_features(x, places=True)
    assert features.shape == (1, 4, 6)
    found = features.places_BPD.view(2, 4, 6, 3)
    for b in range(2):
        for i in range(4):
            for j in range(6):
                near = x[b, 0, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean()
                far = x[b, 0, i // 2 * 4 : i // 2 * 4 + 4, j // 2 * 4 : j // 2 * 4 + 4].mean()
                expected = made.image_head(torch.stack((near, near, far)))
                torch.testing.assert_close(found[b, i, j], expected)


@pytest.mark.parametrize("side", [17, 18, 20, 23])
@pytest.mark.parametrize("encoder", ["segresnet", "unet", "unet_2d"])
def test_the_shape_is_that_of_the_places_where_strides_do_not_divide_an_image(
    folder, encoder, side
):
    made = model(folder, encoder)
    features = made.image_features(torch.randn(2, 1, *(side,) * made.encoder.dims), places=True)
    assert features.places_BPD.shape[:2] == features.present_BP.shape
    assert math.prod(features.shape) == features.present_BP.shape[1]


@pytest.mark.parametrize("encoder", ["segresnet", "unet_2d"])
def test_padding_among_images_counts_for_nothing(folder, encoder):
    made = model(folder, encoder)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    x = images(made, 6)
    there = x[mask.flatten()]
    padded, compact = made.embed_images(x, mask), made.embed_images(there, mask)
    torch.testing.assert_close(padded, compact)
    torch.testing.assert_close(compact[1:], made.embed_images(there[2:]))
    torch.testing.assert_close(compact.norm(dim=1), torch.ones(2))
    features = made.image_features(there, mask, places=True)
    assert torch.equal(
        features.present_BP, mask.repeat_interleave(features.present_BP.shape[1] // 3, dim=1)
    )
    assert features.places_BPD[~features.present_BP].abs().max() == 0


def test_a_mask_of_other_images_is_refused(folder):
    made = model(folder)
    mask = torch.tensor([[True, True], [True, False]])
    with pytest.raises(ValueError, match="2 images, but the mask tells of 3 among 4"):
        made.image_features(images(made, 2), mask)


def test_positions_reach_the_pooling(folder):
    made = model(folder, image_pooling={"name": "position_attention"})
    x, mask = images(made, 3), torch.ones(1, 3, dtype=torch.bool)
    positions = torch.tensor([[0.0, 5.0, 10.0]])
    near, far = (made.embed_images(x, mask, scale * positions) for scale in (1, 10))
    assert not torch.allclose(near, far, atol=1e-5)


def test_sentences_are_pooled_and_absent_ones_are_not_read(folder):
    made = model(folder)
    ids, mask, _ = made.text.tokenizer.encode(
        ["no mass", "large effusion on the left", "normal"], 64
    )
    token_BSL = torch.stack((ids[:2], torch.stack((ids[2], torch.zeros_like(ids[2])))))
    mask_BSL = torch.stack((mask[:2], torch.stack((mask[2], torch.zeros_like(mask[2])))))
    features = made.text_features(token_BSL, mask_BSL)
    assert features.present_BS.tolist() == [[True, True], [True, False]]
    assert features.tokens_BSLE.shape == (2, 2, ids.shape[1], 16)
    assert features.sentences_BSE[1, 1].abs().max() == 0
    vectors = made.text.embed(["no mass", "large effusion on the left", "normal"])
    expected = made.text_head(torch.stack((vectors[:2].mean(0), vectors[2])))
    expected = expected / expected.norm(dim=1, keepdim=True)
    found = made.embed_text_states(token_BSL, mask_BSL)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_texts_are_read_as_the_model_was_trained(folder):
    by_sentence = model(folder)
    whole = model(folder, reading=ReportTextConfig(by_sentence=False))
    again = by_sentence.embed_texts(["Large effusion on the left. No mass."])
    torch.testing.assert_close(by_sentence.embed_texts([REPORT]), again, rtol=1e-4, atol=1e-5)
    turned = whole.embed_texts(["Large effusion on the left. No mass."])
    assert not torch.allclose(whole.embed_texts([REPORT]), turned, atol=1e-4)


def test_texts_of_any_length_and_number(folder):
    made = model(folder, reading=ReportTextConfig(max_sentences=2)).train()
    texts = [REPORT, "", "mass " * 300, REPORT + " Normal heart."]
    unit = made.embed_texts(texts, batch_size=2)
    assert made.training
    assert unit.shape == (4, 8)
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(unit[0], unit[3])  # only its first two sentences are read
    torch.testing.assert_close(unit[:1], made.embed_texts(texts[:1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("projection", ["linear", "mlp"])
@pytest.mark.parametrize("train", ["frozen", "lora"])
def test_gradients_reach_everything_that_trains(folder, projection, train):
    pooling = {"name": "gated_attention"}
    made = model(
        folder,
        text={"train": train},
        projection=projection,
        image_pooling=pooling,
        sentence_pooling=pooling,
        first_bias=-10.0,
    ).train()
    ids, mask, _ = made.text.tokenizer.encode(["no mass", "large effusion"] * 2, 64)
    texts = made.embed_text_states(ids.view(2, 2, -1), mask.view(2, 2, -1))
    found = made.embed_images(images(made, 4), torch.ones(2, 2, dtype=torch.bool))
    logits = made.scale * found @ texts.T + made.bias
    nn.functional.cross_entropy(logits, torch.arange(2)).backward()
    lacking = {n for n, p in made.named_parameters() if p.requires_grad and p.grad is None}
    assert not lacking
    assert not any(p.grad is not None for n, p in made.named_parameters() if not p.requires_grad)


def test_the_scale_begins_as_asked_and_keeps_its_limit(folder):
    made = model(folder, first_scale=10.0, most_scale=20.0)
    assert made.bias is None
    assert made.scale.item() == pytest.approx(10)
    with torch.no_grad():
        made.log_scale += 5
    made.limit_scale()
    assert made.scale.item() == pytest.approx(20)


@pytest.mark.parametrize("encoder", ["segresnet", "unet_2d"])
@pytest.mark.parametrize("train", ["frozen", "lora", "full"])
def test_a_folder_is_enough_and_scores_are_equal_bit_for_bit(
    folder, tmp_path, monkeypatch, encoder, train
):
    source = shutil.copytree(folder, tmp_path / "source")
    made = model(source, encoder, text={"train": train}, first_bias=-10.0)
    for weight in made.parameters():  # as if all of it had been trained
        nn.init.normal_(weight, std=0.1) if weight.requires_grad else None
    save_image_text(tmp_path / "model", made, spacing_mm=[1.0, 1.0, 1.0])
    shutil.rmtree(source)

    def refuse(*args, **kwargs):
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    again, about = load_image_text(tmp_path / "model")
    assert about["spacing_mm"] == [1.0, 1.0, 1.0]
    for name in ("encoder.json", "image_text.json"):
        assert str(source) not in (tmp_path / "model" / name).read_text()
    portable = made.text.portable_config()
    assert again.config == made.config.model_copy(update={"text": portable})
    assert not again.training
    x, mask = images(made, 3), torch.tensor([[True, True], [True, False]])
    score = made.scale * made.embed_images(x, mask) @ made.embed_texts([REPORT, ""]).T + made.bias
    other = again.scale * again.embed_images(x, mask) @ again.embed_texts([REPORT, ""]).T
    assert torch.equal(score, other + again.bias)
    alone, _ = load_encoder(tmp_path / "model")
    assert torch.equal(alone.embed(x), made.encoder.embed(x))


@pytest.fixture
def saved(folder, tmp_path):
    save_image_text(tmp_path, model(folder))
    return tmp_path


def test_another_folder_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no image_text\.json"):
        load_image_text(tmp_path)


@pytest.mark.parametrize(
    "name", ["encoder.safetensors", "text.safetensors", "heads.safetensors", "text/tokenizer.json"]
)
def test_files_of_another_run_are_noticed(saved, name):
    (saved / name).write_bytes(b"something else")
    with pytest.raises(InputError, match=f"{name} is not the file"):
        load_image_text(saved)
    (saved / name).unlink()
    with pytest.raises(InputError, match=f"{name} is missing"):
        load_image_text(saved)


def changed(saved, change):
    path = saved / "image_text.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))


@pytest.mark.parametrize("part", ["text", "image_pooling", "sentence_pooling"])
def test_a_description_cannot_have_a_module_imported(saved, part):
    changed(saved, lambda index: index["model"][part].update(name="antigravity.somewhere"))
    with pytest.raises(InputError, match=r"is built from 'antigravity\.somewhere'"):
        load_image_text(saved)


def test_another_format_and_other_options_are_explained(saved):
    changed(saved, lambda index: index["model"].update(dim=9))
    with pytest.raises(InputError, match="model cannot be read"):
        load_image_text(saved)
    changed(saved, lambda index: index.update(format_version=2))
    with pytest.raises(InputError, match="has format 2, this version of medssl reads format 1"):
        load_image_text(saved)
    (saved / "image_text.json").write_text("{")
    with pytest.raises(InputError, match="model cannot be read"):
        load_image_text(saved)
