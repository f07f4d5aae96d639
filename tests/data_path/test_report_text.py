import numpy as np
import pytest

from medssl.data.report_text import ReportText, ReportTextConfig
from medssl.reports.pairs import Pair, Section


def pair(key, text, name="findings"):
    return Pair(
        study_key=key,
        patient_key=key,
        split="train",
        volume_keys=("v",),
        sections=(Section(name=name, text=text),) if text else (),
    )


def said(report, numbers):
    return [report.sentences[n] for n in numbers]


PAIRS = [
    pair("a", "No effusion. A nodule on the left."),
    pair("b", "No effusion. The heart is large."),
    pair("c", ""),
]


def test_equal_sentences_have_one_number():
    report = ReportText.of(PAIRS, ReportTextConfig())
    assert said(report, report.report_S[0]) == ["No effusion.", "A nodule on the left."]
    assert report.report_S[0][0] == report.report_S[1][0]
    assert len(report.report_S[2]) == 0


def test_a_mirrored_report_names_the_other_side():
    report = ReportText.of(PAIRS, ReportTextConfig())
    assert said(report, report.drawn(0, None, mirrored=True)) == [
        "No effusion.",
        "A nodule on the right.",
    ]
    assert report.drawn(1, None, mirrored=True).tolist() == report.drawn(1, None).tolist()


def test_as_one_text():
    report = ReportText.of(PAIRS, ReportTextConfig(by_sentence=False))
    assert said(report, report.report_S[0]) == ["No effusion. A nodule on the left."]


def test_only_the_named_sections_are_read():
    both = PAIRS[0].model_copy(
        update={"sections": (*PAIRS[0].sections, Section(name="history", text="Cough."))}
    )
    report = ReportText.of([both], ReportTextConfig())
    assert "Cough." not in report.sentences


@pytest.mark.parametrize(("keep", "most"), [(0.5, 48), (1.0, 2), (0.3, 2)])
def test_sentences_are_left_out_but_never_all_and_stay_in_order(keep, most):
    long = pair("a", "One here. Two here. Three here. Four here. Five here.")
    config = ReportTextConfig(keep_sentence=keep, max_sentences=most)
    report = ReportText.of([long], config)
    lengths = set[int]()
    for seed in range(60):
        drawn = report.drawn(0, np.random.default_rng(seed)).tolist()
        assert drawn == sorted(set(drawn))
        lengths.add(len(drawn))
    assert min(lengths) >= 1
    assert max(lengths) <= most
    assert keep == 1.0 or len(lengths) > 1


def test_shuffled_sentences_are_the_same_ones():
    long = pair("a", "One here. Two here. Three here. Four here.")
    report = ReportText.of([long], ReportTextConfig(shuffle=True))
    drawn = [tuple(report.drawn(0, np.random.default_rng(seed))) for seed in range(20)]
    assert {tuple(sorted(d)) for d in drawn} == {(0, 1, 2, 3)}
    assert len(set(drawn)) > 1
