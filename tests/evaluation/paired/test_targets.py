import numpy as np

from medssl.data.store import CropStore
from medssl.evaluation.paired.prompts import Question
from medssl.evaluation.paired.targets import finding_targets, true_answers
from medssl.reports.pairs import Pair
from tests.evaluation.paired.bright_studies import write_store


def pair(labels, keys=("v000",)):
    return Pair(
        study_key="s", patient_key="p", split="test", volume_keys=keys, sections=(), labels=labels
    )


def test_what_is_uncertain_or_not_mentioned_is_not_known():
    pairs = [pair({"effusion": value}) for value in (1, 0, -1)] + [pair({})]
    found = finding_targets(pairs, "effusion", "unknown")
    np.testing.assert_array_equal(found, [1, 0, np.nan, np.nan])
    found = finding_targets(pairs, "effusion", "absent")
    np.testing.assert_array_equal(found, [1, 0, np.nan, 0])


def test_an_answer_is_the_only_label_that_is_present(tmp_path):
    write_store(tmp_path, 1)
    question = Question(name="region", answers={"head": ("a",), "chest": ("b",)})
    pairs = [
        pair({"chest": 1, "head": 0, "effusion": 1}),
        pair({"chest": 1, "head": 1}),
        pair({"effusion": 1}),
        pair({"head": -1}),
    ]
    assert true_answers(pairs, question, CropStore(tmp_path)).tolist() == [1, -1, -1, -1]


def test_the_store_knows_the_modality(tmp_path):
    store = write_store(tmp_path, 2)
    question = Question(name="m", truth="modality", answers={"CT": ("a",), "MR": ("b",)})
    pairs = [pair({}, keys) for keys in (("v000",), ("v001",), ("v000", "v001"))]
    assert true_answers(pairs, question, store).tolist() == [0, 1, -1]
    other = Question(name="m", truth="modality", answers={"PT": ("a",), "MR": ("b",)})
    assert true_answers(pairs[:1], other, store).tolist() == [-1]
