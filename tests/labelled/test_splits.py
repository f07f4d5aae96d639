import pytest

from medssl.config.load import validate
from medssl.errors import ConfigError
from medssl.labelled.cases import LabelledCase
from medssl.labelled.splits import LabelledSplitConfig, split_cases


def cases(count, per_patient=1, **given):
    """Return cases; each of ``given`` is a function of the case's number."""
    return [
        LabelledCase(
            case_key=f"case-{number:03d}",
            patient_key=f"patient-{number // per_patient:03d}",
            image=None,
            **{name: of(number) for name, of in given.items()},
        )
        for number in range(count)
    ]


def graded(count, every):
    """Return cases of which every so many is ill."""
    return cases(count, targets=lambda n: {"finding": "well" if n % every else "ill"})


def ill(keys, every):
    return sum(int(key.removeprefix("case-")) % every == 0 for key in keys)


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


def test_parts_that_the_set_declares_win():
    parts = ("train", "val", "test", "train")
    declared = cases(12, part=lambda n: parts[n % 4])
    split = split_cases(declared, LabelledSplitConfig(seed=5))
    assert split["val"] == ["case-001", "case-005", "case-009"]
    assert split["test"] == ["case-002", "case-006", "case-010"]
    assert len(split["train"]) == 6
    own = LabelledSplitConfig(seed=5, declared=False)
    assert split_cases(declared, own) == split_cases(cases(12), own)


def test_a_set_that_declares_no_validation_gets_one_of_its_training_patients():
    declared = cases(40, 2, part=lambda n: "test" if n < 10 else "train")
    split = split_cases(declared, LabelledSplitConfig(val=0.2))
    assert split["test"] == [f"case-{n:03d}" for n in range(10)]
    assert len(split["val"]) == 6  # three of fifteen patients
    assert len(split["train"]) == 24
    other = split_cases(declared, LabelledSplitConfig(val=0.2, seed=1))
    assert other["val"] != split["val"]


def test_a_set_that_declares_no_test_has_none():
    declared = cases(10, part=lambda n: "val" if n < 3 else "train")
    assert split_cases(declared, LabelledSplitConfig())["test"] == []


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (lambda n: "train" if n < 4 else None, r"4 case\(s\) declare their part and 6 do not"),
        (lambda n: ("train", "test")[n % 2], r"5 patient\(s\) have cases in several declared"),
        (lambda n: "test", r"the set declares 0 patient\(s\) to train on"),
        (
            lambda n: "train" if n < 2 else "test",
            r"declares 1 patient\(s\) to train on, and 1 must",
        ),
    ],
)
def test_parts_that_cannot_be_used_are_explained(part, said):
    with pytest.raises(ConfigError, match=said):
        split_cases(cases(10, 2, part=part), LabelledSplitConfig())


def test_own_folds_take_turns_and_leave_the_test_patients_aside():
    splits = [
        split_cases(cases(40, 2), LabelledSplitConfig(folds=5, fold=fold)) for fold in range(5)
    ]
    assert len({tuple(split["test"]) for split in splits}) == 1
    assert splits[0]["test"] == split_cases(cases(40, 2), LabelledSplitConfig())["test"]
    validated = [key for split in splits for key in split["val"]]
    assert len(validated) == len(set(validated)) == 28
    for split in splits:
        assert sorted(split["train"] + split["val"]) == sorted(validated)


def test_own_folds_of_a_declared_set_leave_its_test_part_aside():
    parts = ("train", "val", "test")
    declared = cases(30, part=lambda n: parts[n % 3])
    split = split_cases(declared, LabelledSplitConfig(folds=4, fold=0))
    assert split["test"] == [case.case_key for case in declared if case.part == "test"]
    assert len(split["val"]) == 5


def test_own_folds_even_out_classes_of_tables_and_of_label_maps():
    by_table = graded(50, 5)
    by_map = cases(50, classes=lambda n: (1, 2) if n % 5 == 0 else (1,))
    for given in (by_table, by_map):
        options = {"folds": 5, "test": 0.0}
        counts = [
            ill(split_cases(given, LabelledSplitConfig(fold=fold, **options))["val"], 5)
            for fold in range(5)
        ]
        assert counts == [2] * 5


def test_every_part_has_its_share_of_a_tables_classes():
    split = split_cases(graded(100, 4), LabelledSplitConfig(test=0.4, val=0.2, seed=3))
    assert [ill(split[part], 4) for part in ("train", "val", "test")] == [10, 5, 10]


def test_a_small_share_has_one_patient_of_every_class():
    split = split_cases(graded(200, 50), LabelledSplitConfig(train_fraction=0.01))
    assert len(split["train"]) == 2
    assert ill(split["train"], 50) == 1
    one = split_cases(cases(20), LabelledSplitConfig(train_fraction=0.01))
    assert len(one["train"]) == 1


def test_a_share_of_the_training_patients_is_the_same_as_their_number():
    share = split_cases(cases(44), LabelledSplitConfig(train_fraction=0.5, train_seed=2))
    number = split_cases(cases(44), LabelledSplitConfig(train_patients=12, train_seed=2))
    assert share == number


def test_a_declared_fold_can_be_thinned_too():
    keys = [f"case-{n:03d}" for n in range(20)]
    folds = [{"train": keys[5:], "val": keys[:5]}]
    config = LabelledSplitConfig(fold=0, train_patients=4)
    split = split_cases(cases(20), config, folds=folds)
    assert len(split["train"]) == 4
    assert set(split["train"]) < set(keys[5:])
    assert split["val"] == keys[:5]
    other = LabelledSplitConfig(fold=0, train_patients=4, seed=1)
    assert split_cases(cases(20), other, folds=folds)["train"] != split["train"]


def test_declared_folds_that_tear_a_patient_or_are_empty_are_refused():
    keys = [f"case-{n:03d}" for n in range(4)]
    config = LabelledSplitConfig(fold=0)
    with pytest.raises(ConfigError, match=r"fold 0: 1 patient\(s\) have cases in several parts"):
        split_cases(cases(4, 2), config, folds=[{"train": keys[1:], "val": keys[:1]}])
    with pytest.raises(ConfigError, match="fold 0 of the data set has no cases"):
        split_cases(cases(4, 2), config, folds=[{"train": keys, "val": ()}])
    with pytest.raises(ConfigError, match=r"the data set declares 0 fold\(s\)"):
        split_cases(cases(4, 2), config)
    with pytest.raises(ConfigError, match=r"3 patient\(s\) are too few for 5 folds"):
        split_cases(cases(4), LabelledSplitConfig(folds=5, fold=0))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"train_patients": 3, "train_fraction": 0.5}, "give one of them"),
        ({"folds": 5}, "say with `fold` which"),
        ({"folds": 5, "fold": 5}, "counted from 0 to 4"),
    ],
)
def test_options_that_contradict_each_other_are_explained(options, said):
    with pytest.raises(ConfigError, match=said):
        validate(LabelledSplitConfig, options, where="test")
