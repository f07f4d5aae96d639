from medssl.export.card_scores import probe_lines, score_lines, zero_shot_lines
from medssl.export.formats.base import Papers
from medssl.export.model_card import CardConfig, render
from medssl.export.papers import licences
from medssl.runs.folder import write_json

METRICS = {
    "headline": {"metric": "dice", "answer": "mean"},
    "shown": [{"column": "dice", "title": "mean Dice"}],
    "scores": {"dice": {"pretrained": {"mean": {"value": 0.8, "low": 0.7, "high": 0.9}}}},
    "patients": 12,
    "split": "test",
    "confidence": 0.95,
    "verdict": "Better than from scratch.",
    "subgroups": {
        "models": {
            "pretrained": [
                {"attribute": "sex", "group": "F", "patients": 7, "value": 0.81, "low": 0.7,
                 "high": 0.9, "note": ""},
                {"attribute": "sex", "group": "M", "patients": 2, "value": None, "low": None,
                 "high": None, "note": "fewer than 5 patients"},
            ]
        },
        "why": "",
    },
}  # fmt: skip


def test_scores_have_intervals_and_groups():
    assert score_lines(METRICS, "pretrained") == [
        "mean Dice, mean: 0.800 (0.700 to 0.900)",
        "Over 12 patients held aside (test), with a 95% bootstrap interval",
        "Better than from scratch.",
        "mean Dice, sex F (7 patients): 0.810 (0.700 to 0.900)",
        "mean Dice, sex M (2 patients): not measured; fewer than 5 patients",
    ]
    assert score_lines(METRICS, "another") == []
    assert score_lines(None, "pretrained") == []
    silent = METRICS | {"subgroups": {"models": {}, "why": "x"}}
    assert score_lines(silent, "pretrained")[-1].startswith("Groups of patients were not compared")


def test_probes_and_words_are_scores_too():
    value = {"mean": 0.9, "low": 0.8, "high": 0.95, "difference": {"mean": 0.1, "low": 0.0,
             "high": 0.2}}  # fmt: skip
    probe = {"encoders": {"ours": {"scores": {"linear_auroc": value}}}, "patients": 9,
             "verdict": "It knows more."}  # fmt: skip
    beyond = "beyond one that never learned: 0.100 (0.000 to 0.200)"
    assert probe_lines(probe) == [
        f"ours, linear auroc: 0.900 (0.800 to 0.950); {beyond}",
        "Frozen, over 9 patients. It knows more.",
    ]
    auroc = {"value": 0.7, "low": 0.6, "high": 0.8}
    asked = {
        "findings": {"effusion": {"auroc": auroc}, "rare": {"auroc": None}},
        "mean_auroc": auroc, "studies": 5, "patients": 4, "split": "test", "confidence": 0.95,
    }  # fmt: skip
    assert zero_shot_lines(asked) == [
        "AUROC from words alone, mean of findings: 0.700 (0.600 to 0.800)",
        "AUROC of effusion from words alone: 0.700 (0.600 to 0.800)",
        "Over 5 studies of 4 patients (test), with a 95% bootstrap interval",
    ]


def test_the_card_holds_trust_limits_and_licences(tmp_path):
    write_json(tmp_path / "trust.json", {"in_words": ["Wording: it matters."]})
    card = CardConfig(
        trust=tmp_path, limits=("Children were not in the data.",), licence="MIT",
        parent_licence="CC-BY-NC-4.0",
    )  # fmt: skip
    origin = {"stage": "pretrain", "data": {"volumes": 3}, "parent": {"stage": "adapt"}}
    under = licences(card, origin)
    assert under == {"weights": "MIT", "data": "not stated", "parents": ["CC-BY-NC-4.0"]}
    papers = Papers(title="T", usage="U", facts={"encoder": {"name": "x", "none": None}})
    text = render(papers, card, origin=origin, licences=under, verified={})
    assert "## Can it be trusted?\n\n- Wording: it matters.\n" in text
    assert "## Limits\n\n- Children were not in the data.\n- Scans from other" in text
    assert "- Licence of what it began with, 1 back: CC-BY-NC-4.0\n" in text
    assert "- encoder: name x\n" in text
    assert "## Data (pretrain)\n\n- volumes: 3\n" in text
    assert card.digests().keys() == {"trust"}


def test_data_have_the_licence_that_their_set_states():
    origin = {"data": {"licence": "CC0"}}
    assert licences(CardConfig(), origin)["data"] == "CC0"
    assert licences(CardConfig(data_licence="ODbL"), origin)["data"] == "ODbL"
