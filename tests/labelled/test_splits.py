import pytest

from medssl.config.load import validate
from medssl.errors import ConfigError
from medssl.labelled.cases import LabelledCase
from medssl.labelled.splits import LabelledSplitConfig, split_cases


def cases(count, per_patient=1):
    return [
        LabelledCase(
            case_key=f"case-{number:03d}",
            patient_key=f"patient-{number // per_patient:03d}",
            image=None,
            label=None,
        )
        for number in range(count)
    ]


def test_shares_are_kept_and_every_case_has_one_place():
    parts = split_cases(cases(44), LabelledSplitConfig(test=0.3, val=0.15))
    assert {name: len(keys) for name, keys in parts.items()} == {"train": 24, "val": 7, "test": 13}
    assert sorted(key for keys in parts.values() for key in keys) == [
        case.case_key for case in cases(44)
    ]


def test_a_seed_decides_and_the_order_of_cases_does_not():
    config = LabelledSplitConfig()
    assert split_cases(cases(20), config) == split_cases(cases(20)[::-1], config)
    assert split_cases(cases(20), config) != split_cases(cases(20), LabelledSplitConfig(seed=1))


def test_fewer_training_patients_leave_the_others_where_they_are():
    whole = split_cases(cases(20), LabelledSplitConfig())
    few = split_cases(cases(20), LabelledSplitConfig(train_patients=3))
    assert len(few["train"]) == 3
    assert set(few["train"]) < set(whole["train"])
    assert (few["val"], few["test"]) == (whole["val"], whole["test"])


def test_another_draw_of_training_patients_leaves_the_test_set_as_it_is():
    draws = [
        split_cases(cases(30), LabelledSplitConfig(train_patients=4, train_seed=seed))
        for seed in (0, 1)
    ]
    assert draws[0]["train"] != draws[1]["train"]
    assert all(draws[0][name] == draws[1][name] for name in ("val", "test"))
    more = split_cases(cases(30), LabelledSplitConfig(train_patients=8, train_seed=0))
    assert set(draws[0]["train"]) < set(more["train"])


def test_too_few_patients_and_shares_that_leave_none_are_explained():
    with pytest.raises(ConfigError, match=r"2 patient\(s\) are too few: 1 to test, 1 to validate"):
        split_cases(cases(2), LabelledSplitConfig())
    with pytest.raises(ConfigError, match="leave nothing to train on"):
        validate(LabelledSplitConfig, {"test": 0.6, "val": 0.4}, where="test")
