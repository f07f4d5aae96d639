import numpy as np

from medssl.evaluation.paired.asking import Asking, every_prompt
from medssl.evaluation.paired.negation import negation_table
from medssl.evaluation.paired.prompts import Finding, PromptSet, Question, Template

PLAIN = {"plain": Template(present="{}", absent="no {}")}
TWO = tuple(Finding(name=name, words=(name,)) for name in ("effusion", "nodule"))


def asking(findings, rows):
    prompts = PromptSet(templates=PLAIN, findings=findings)
    vectors = dict(zip(every_prompt(prompts), np.array(rows, float), strict=True))
    return Asking(prompts=prompts, vectors=vectors, scale=1.0, bias=None)


def test_an_encoder_that_does_not_hear_no_is_found_out():
    deaf = negation_table(asking(TWO, [[1, 0], [1, 0], [0.6, 0.8], [-0.6, -0.8]]))
    assert deaf[0] == {
        "finding": "effusion",
        "absence": 1.0,
        "nearest": 0.6,
        "nearest_finding": "nodule",
        "heard": False,
    }
    assert deaf[1]["heard"]
    assert deaf[1]["absence"] == -1.0


def test_a_finding_alone_has_nothing_to_be_compared_with():
    (row,) = negation_table(asking(TWO[:1], [[1, 0], [0, 1]]))
    assert row["nearest"] is row["heard"] is None
    assert row["absence"] == 0


def test_where_no_finding_is_asked_for_there_is_no_table():
    question = Question(name="modality", answers={"CT": ("a CT",), "MR": ("an MRI",)})
    prompts = PromptSet(templates=PLAIN, questions=(question,))
    assert negation_table(Asking(prompts=prompts, vectors={}, scale=1.0, bias=None)) == []
