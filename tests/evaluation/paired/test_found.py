import numpy as np
import pytest

from medssl.evaluation.intervals import Resampling
from medssl.evaluation.paired import found
from medssl.evaluation.paired.found import RetrievalOptions, reports_and_images, studies_alike
from medssl.evaluation.paired.studies import Embedded
from tests.evaluation.paired.bright_studies import pair

HOW = Resampling(resamples=100)
OPTIONS = RetrievalOptions(k=(1, 2, 50), percent=(50,))


def embedded(pairs, image_ND, text_ND):
    return Embedded(tuple(pairs), np.array(image_ND, float), np.array(text_ND, float), ())


def test_reports_of_the_same_words_count_as_found_but_not_strictly():
    pairs = [pair(number, "test") for number in range(4)]
    texts = [[1, 0], [0, 1], [1, 0], [0, 1]]  # two different reports
    found = reports_and_images(embedded(pairs, texts, texts), ("findings",), OPTIONS, HOW)
    assert (found["studies"], found["not_unique"]) == (4, 1.0)
    there = found["image_to_report"]
    assert there["same_words"]["recall@1"]["value"] == 1
    assert there["strict"]["recall@1"]["value"] == pytest.approx(0.5)
    assert there["strict"]["median_rank"]["value"] == pytest.approx(1.5)
    assert "recall@50" not in there["strict"]
    assert found["chance"]["strict"]["recall@2"]["value"] == pytest.approx(0.5)
    assert found["chance"]["same_words"]["recall@1"]["value"] == pytest.approx(0.5)


def test_both_ways_are_measured_and_silent_studies_take_no_part():
    pairs = [pair(number, "test") for number in (0, 1, 3)]
    images, texts = [[1, 0], [1, 0], [1, 0]], [[1, 0], [0, 1], [np.nan, np.nan]]
    found = reports_and_images(embedded(pairs, images, texts), ("findings",), OPTIONS, HOW)
    assert found["studies"] == 2
    assert found["image_to_report"]["strict"]["recall@1"]["value"] == pytest.approx(0.5)
    assert found["report_to_image"]["strict"]["reciprocal_rank"]["value"] == pytest.approx(0.75)
    one = embedded(pairs[:1], images[:1], texts[:1])
    assert reports_and_images(one, ("findings",), OPTIONS, HOW) is None


def test_studies_alike_have_the_same_findings_and_are_of_other_patients():
    pairs = [
        pair(number, "test") for number in (1, 3, 5, 7, 0)
    ]  # all but the last with an effusion
    pairs[1] = pairs[1].model_copy(update={"labels": {"nodule": 1}})
    pairs[3] = pairs[3].model_copy(update={"patient_key": pairs[2].patient_key})
    images = [[1, 0], [0, 1], [0.9, 0.1], [0.91, 0.1], [1, 0]]
    found = studies_alike(embedded(pairs, images, images), OPTIONS, HOW)
    assert found["studies"] == 4
    # patients 0 and 2 find an effusion first; patient 1, alone with a nodule, finds none
    assert found["image_to_image"]["overlap@1"]["value"] == pytest.approx(2 / 3)
    assert found["image_to_image"]["map@1"]["value"] == pytest.approx(1)
    assert found["chance"]["overlap@1"]["value"] < 2 / 3
    assert studies_alike(embedded(pairs[:1], images[:1], images[:1]), OPTIONS, HOW) is None


def test_blocks_of_queries_change_nothing(monkeypatch):
    pairs = [pair(number, "test") for number in range(9)]
    images, texts = np.random.default_rng(0).standard_normal((2, 9, 4))
    studies = embedded(pairs, images, texts)

    def told():
        return [
            reports_and_images(studies, ("findings",), OPTIONS, HOW),
            studies_alike(studies, OPTIONS, HOW),
        ]

    whole = told()
    monkeypatch.setattr(found, "AT_ONCE", 2)
    assert told() == whole
