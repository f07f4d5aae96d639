import pickle

import numpy as np
import pytest
import torch

from medssl.data.normalize import IntensityConfig
from medssl.data.pair_dataset import (
    NOT_SPOKEN_OF,
    Facts,
    PairCollate,
    PairDataset,
    Studies,
    text_numbers,
)
from medssl.data.report_text import ReportText, ReportTextConfig
from medssl.data.study_order import StudyOrder
from medssl.data.study_views import StudyViews
from medssl.reports.pairs import Pair, Section

TEXTS = ("No effusion. A nodule on the left.", "Normal.", "normal", "Large heart.")


@pytest.fixture
def pairs():
    return [
        Pair(
            study_key=f"s{n}",
            patient_key=f"p{n}",
            split="train",
            volume_keys=(f"v{n}",),
            sections=(Section(name="findings", text=text),),
            labels=({"nodule": 1}, {}, {}, {"heart": -1})[n],
            normal=(False, True, None, False)[n],
        )
        for n, text in enumerate(TEXTS)
    ]


@pytest.fixture
def store(make_store, noise):
    return make_store({f"v{n}": noise + n for n in range(4)})


def opened(store, pairs, *, views=None, training=True, seed=0):
    report = ReportText.of(pairs, ReportTextConfig())
    order = StudyOrder(text_numbers(pairs), [False] * 4, batch_size=2, most_normal=2, seed=seed)
    views = views or StudyViews(crop_voxels=8)
    studies = Studies(pairs, range(4), report)
    dataset = PairDataset(store, studies, views, IntensityConfig(), order=order, training=training)
    tokens = torch.arange(5).expand(len(report.sentences), 5)
    mask = torch.arange(5) < torch.arange(1, len(report.sentences) + 1)[:, None]
    facts = Facts.of(pairs, ("nodule", "heart"), tokens, mask)
    return dataset, PairCollate(views, facts), report


def test_a_sample_is_a_function_of_its_index(store, pairs):
    dataset, _, _ = opened(store, pairs)
    again = pickle.loads(pickle.dumps(dataset))  # noqa: S301  our own
    for index in (0, 5, 101):
        (sample, report), (same, as_well) = dataset[index], again[index]
        np.testing.assert_array_equal(sample.views_BCIJK[0], same.views_BCIJK[0])
        assert report.sentences.tolist() == as_well.sentences.tolist()


def test_images_and_words_of_a_sample_are_of_one_study(store, pairs):
    dataset, _, report = opened(store, pairs, training=False)
    for index in range(4):
        sample, shown = dataset[index]
        expected = dataset.views.read(store, pairs[shown.study], IntensityConfig())
        np.testing.assert_array_equal(sample.views_BCIJK[0], expected.views_BCIJK[0])
        assert shown.sentences.tolist() == report.report_S[shown.study].tolist()


def test_a_mirrored_study_has_mirrored_words(store, pairs):
    views = StudyViews(crop_voxels=8, mirror_probability=1.0)
    dataset, _, report = opened(store, pairs, views=views)
    seen = [shown for _, shown in (dataset[n] for n in range(4))]
    words = {shown.study: [report.sentences[n] for n in shown.sentences] for shown in seen}
    assert words[0] == ["No effusion.", "A nodule on the right."]


def test_a_batch_pads_sentences_and_knows_what_reports_say(store, pairs):
    dataset, collate, _ = opened(store, pairs, training=False)
    batch = collate([dataset[n] for n in range(4)])
    texts, study_B = batch.texts, batch.texts.study_B.tolist()
    there_BS = texts.sentence_BS >= 0
    assert there_BS.sum(1).tolist() == [2 if study == 0 else 1 for study in study_B]
    assert torch.equal(texts.token_mask_BSL.any(2), there_BS)
    assert not texts.token_BSL[~texts.token_mask_BSL.any(2)].any()
    by_study = dict(zip(study_B, texts.text_B.tolist(), strict=True))
    assert by_study[1] == by_study[2] != by_study[3]
    assert [texts.normal_B[study_B.index(n)].item() for n in range(4)] == [0, 1, -1, 0]
    assert texts.label_BF[study_B.index(0)].tolist() == [1, NOT_SPOKEN_OF]
    assert texts.label_BF[study_B.index(3)].tolist() == [NOT_SPOKEN_OF, -1]


def test_common_padding_of_tokens_is_cut_off(store, pairs):
    dataset, collate, report = opened(store, pairs, training=False)
    batch = collate([dataset[n] for n in range(2)])
    longest = max(
        collate.facts.token_mask_UL[n].sum()
        for n in batch.texts.sentence_BS.unique().tolist()
        if n >= 0
    )
    assert batch.texts.token_BSL.shape[2] == longest
    assert len(report.sentences) >= longest
