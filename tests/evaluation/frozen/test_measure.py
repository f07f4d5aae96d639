import numpy as np
import pytest

from medssl.evaluation.frozen.measure import Questions, measure
from medssl.evaluation.frozen.options import KnnOptions, RetrievalOptions, ScoreOptions
from medssl.evaluation.frozen.targets import Targets
from medssl.evaluation.intervals import Resampling

NONE = dict.fromkeys(ScoreOptions.model_fields) | {"rank": False}
HOW = Resampling(resamples=100)


def questions(labels, patients, copies=None, test=(0,)):
    rows = np.arange(len(labels))
    return Questions(
        targets=Targets(("a", "b"), np.eye(2)[labels], exclusive=True),
        patients=tuple(patients),
        copies=tuple(copies or [""] * len(labels)),
        parts={"test": np.array(test), "train": np.setdiff1d(rows, test), "val": rows[-1:]},
        seed=0,
    )


def rows(*embeddings):
    return [{"embedding": list(embedding)} for embedding in embeddings]


def mean(found, name):
    return found[name].estimate(HOW).mean


# The first row is of class a; nearest lies a row of class a, then one of class b.
ROWS = rows((1.0, 0.0), (1.0, 0.01), (0.8, 0.6), (0.0, 1.0))
LABELS = [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("patients", "copies", "right"),
    [
        ("pqrs", None, 1.0),
        ("ppqr", None, 0.0),  # the nearest is another scan of the patient: it is not asked
        ("pqrs", ["g", "g", "", ""], 0.0),  # the nearest is a copy
    ],
)
def test_neither_the_patient_nor_a_copy_is_asked(patients, copies, right):
    options = ScoreOptions(**NONE | {"knn": KnnOptions(k=(1,)), "retrieval": RetrievalOptions()})
    found = measure(ROWS, questions(LABELS, patients, copies), options)
    assert mean(found, "knn_accuracy@1") == right
    first = found["retrieval_hit@1"].values_N[0]
    assert first == 1 if right else np.isnan(first)  # nobody else is of class a


def test_other_scans_of_the_patient_can_be_what_is_sought():
    options = ScoreOptions(**NONE | {"retrieval": RetrievalOptions(same_patient="target", k=(1,))})
    found = measure(ROWS, questions(LABELS, "pprr"), options)
    assert found["retrieval_hit@1"].values_N.tolist() == [1, 1, 0, 1]
    assert mean(found, "retrieval_hit@1") == 0.75
    alone = measure(ROWS, questions(LABELS, "pprs"), options)["retrieval_hit@1"]
    assert np.isnan(alone.values_N[2:]).all()  # one scan each: they do not ask


def test_more_neighbours_than_there_are_cannot_be_asked():
    options = ScoreOptions(**NONE | {"knn": KnnOptions(k=(3, 4))})
    found = measure(ROWS, questions(LABELS, "pqrs"), options)
    assert {name.partition("@")[2] for name in found} == {"3"}


def test_scores_that_are_not_asked_for_are_not_there():
    assert measure(ROWS, questions(LABELS, "pqrs"), ScoreOptions(**NONE)) == {}


def test_the_spread_of_a_set_has_three_numbers():
    found = measure(ROWS, questions(LABELS, "pqrs"), ScoreOptions(**NONE | {"rank": True}))
    assert found.keys() == {"uniformity", "effective_rank", "participation_ratio"}
    z = np.array([row["embedding"] for row in ROWS])
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    pairs = [np.exp(-2 * np.sum((z[n] - z[m]) ** 2)) for n in range(4) for m in range(4) if n != m]
    assert mean(found, "uniformity") == pytest.approx(np.log(np.mean(pairs)))


def test_alignment_is_the_squared_distance_of_two_crops():
    seen = [
        {"embedding": [1.0], "view_0": [2.0, 0.0], "view_1": [0.0, 1.0], "dense_alignment_0": 0.5},
        {"embedding": [2.0], "view_0": [0.0, 3.0], "view_1": [0.0, 1.0],
         "dense_alignment_0": np.nan},
    ]  # fmt: skip
    options = ScoreOptions(**NONE | {"views": {}})
    found = measure(seen, questions([0, 1], "pq"), options)
    assert mean(found, "alignment") == pytest.approx(1)
    assert mean(found, "dense_alignment_0") == 0.5
    assert mean(found, "uniformity_of_crops") == pytest.approx(-4)
