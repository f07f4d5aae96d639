import shutil

import numpy as np
import pytest
import torch

from medssl.data.store import CropStore
from medssl.errors import InputError
from medssl.evaluation.paired import studies
from medssl.evaluation.paired.studies import embed_studies, embed_views, report_digests
from medssl.evaluation.paired.subject import load_subject
from medssl.reports.pairs import Section, read_pairs
from tests.evaluation.paired.bright_studies import write_store


@pytest.fixture
def store(bright):
    return CropStore(bright / "store")


@pytest.fixture
def pairs(bright):
    return read_pairs(bright / "pairs").pairs


def test_studies_and_reports_become_unit_vectors(subject, store, pairs, tmp_path):
    found = embed_studies(subject, store, pairs, tmp_path)
    assert found.pairs == pairs
    np.testing.assert_allclose(np.linalg.norm(found.image_ND, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found.text_ND, axis=1), 1, rtol=1e-5)
    alone = subject.embed_samples([subject.read(store, pairs[3])]).detach().numpy()
    np.testing.assert_allclose(found.image_ND[3], alone[0], atol=1e-5)
    words = subject.embed_words([pairs[3].text()])
    np.testing.assert_allclose(found.text_ND[3], words[0], atol=1e-5)


def test_what_was_embedded_is_not_embedded_again(subject, store, pairs, tmp_path, monkeypatch):
    first = embed_studies(subject, store, pairs, tmp_path)
    made = sorted(tmp_path.rglob("*.parquet"))
    assert len(made) == 2
    made[1].write_bytes(b"cut off")
    asked = []
    rows = studies._rows
    monkeypatch.setattr(
        studies, "_rows", lambda some, *a: asked.append(len(some)) or rows(some, *a)
    )
    again = embed_studies(subject, store, pairs, tmp_path)
    assert asked == [len(pairs) - studies.AT_ONCE]
    np.testing.assert_array_equal(again.image_ND, first.image_ND)
    embed_studies(subject, store, pairs[:5], tmp_path)
    assert asked[1:] == [5]


def test_a_study_that_cannot_be_read_is_left_out_with_the_reason(subject, pairs, tmp_path):
    store = write_store(tmp_path / "store", len(pairs))
    (tmp_path / "store/volumes/v002.b2nd").write_bytes(b"damaged")
    strange = pairs[4].model_copy(update={"volume_keys": ("nowhere",)})
    silent = pairs[5].model_copy(update={"sections": (Section(name="findings", text=" "),)})
    found = embed_studies(subject, store, [*pairs[:4], strange, silent], tmp_path / "cache")
    assert [pair.study_key for pair in found.pairs] == ["s000", "s001", "s003", "s005"]
    assert [row.study_key for row in found.left_out] == ["s002", "s004"]
    assert "damaged" in found.left_out[0].reason
    assert found.left_out[1].reason == "1 of 1 volumes are not in the store"
    assert [pair.study_key for pair in found.with_text().pairs] == ["s000", "s001", "s003"]
    with pytest.raises(InputError, match=r"none of the 1 studies .* not in the store"):
        embed_studies(subject, store, [strange], tmp_path / "cache")


def test_a_store_of_another_spacing_is_refused(bright, subject, pairs, tmp_path):
    shutil.copytree(bright / "store", tmp_path / "store")
    index = tmp_path / "store/index.json"
    index.write_text(index.read_text().replace("2.0", "1.5"))
    with pytest.raises(InputError, match="trained at"):
        embed_studies(subject, CropStore(tmp_path / "store"), pairs, tmp_path / "cache")


def test_more_images_than_in_training_can_be_shown(bright, subject, store, pairs):
    more = load_subject(bright / "model", torch.device("cpu"), images=3)
    assert len(more.read(store, pairs[0]).views_BCIJK[0]) == 3
    assert more.digest != subject.digest


def test_a_study_is_the_mean_of_several_looks_the_same_ones_every_time(
    bright, subject, store, pairs, tmp_path
):
    several = load_subject(bright / "model", torch.device("cpu"), looks=3)
    assert several.digest != subject.digest
    found = embed_studies(several, store, pairs[:3], tmp_path / "one").image_ND
    assert np.array_equal(
        found, embed_studies(several, store, pairs[:3], tmp_path / "two").image_ND
    )
    for row, pair in zip(found, pairs[:3], strict=True):
        looks = several.look(store, pair)
        assert np.array_equal(looks[0].views_BCIJK[0], subject.read(store, pair).views_BCIJK[0])
        assert not np.array_equal(looks[1].views_BCIJK[0], looks[2].views_BCIJK[0])
        with torch.inference_mode():
            alone = [several.embed_samples([look])[0].double().numpy() for look in looks]
        mean = sum(alone) / 3
        assert np.allclose(row, mean / np.linalg.norm(mean), atol=1e-6)


def test_a_folder_that_is_no_model_is_refused(bright, tmp_path):
    with pytest.raises(InputError, match="not the folder of an image-text model"):
        load_subject(tmp_path, torch.device("cpu"))
    shutil.copytree(bright / "model", tmp_path / "model")
    described = tmp_path / "model/encoder.json"
    described.write_text(described.read_text().replace("spacing_mm", "spacing"))
    with pytest.raises(InputError, match=r"encoder\.json is not the file|does not say"):
        load_subject(tmp_path / "model", torch.device("cpu"))


def test_reports_of_the_same_words_have_one_digest(pairs):
    digests = report_digests(pairs, ("findings",))
    assert len(set(digests)) == 2
    assert digests[0] == digests[2] != digests[1]


def test_views_are_the_volumes_of_studies_alone(subject, store, pairs, tmp_path):
    two = pairs[0].model_copy(update={"volume_keys": ("v000", "v003")})
    found = embed_studies(subject, store, [two, pairs[1]], tmp_path)
    views = embed_views(subject, store, found, tmp_path)
    assert views.study_V.tolist() == [0, 0, 1]
    expected = embed_studies(subject, store, [pairs[0], pairs[3], pairs[1]], tmp_path)
    np.testing.assert_allclose(views.image_VD, expected.image_ND, atol=1e-6)
    one_each = embed_studies(subject, store, pairs[:3], tmp_path)
    assert embed_views(subject, store, one_each, tmp_path).image_VD is one_each.image_ND
