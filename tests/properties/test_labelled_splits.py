from hypothesis import assume, given
from hypothesis import strategies as st

from medssl.labelled.cases import LabelledCase
from medssl.labelled.splits import LabelledSplitConfig, split_cases

PATIENTS = st.lists(st.integers(0, 12), min_size=1, max_size=60).filter(
    lambda keys: len(set(keys)) > 4
)
SHARES = st.fixed_dictionaries(
    {"test": st.floats(0.0, 0.4), "val": st.floats(0.01, 0.4), "seed": st.integers(0, 2**31)}
)
KINDS = st.sampled_from(["plain", "table", "maps", "declared", "declared without val"])


def cases_of(patients, kind="plain"):
    """Return cases; what else they have depends on patient and number alone."""
    declared = ("train", "test", "train", "val" if kind == "declared" else "train")
    return [
        LabelledCase(
            case_key=f"case-{n:03d}",
            patient_key=f"patient-{p:03d}",
            image=None,
            targets={"grade": str((p + n) % 3)} if kind == "table" else {},
            classes=(1,) * (p % 2) if kind == "maps" else (),
            part=declared[p % 4] if kind.startswith("declared") else None,
        )
        for n, p in enumerate(patients)
    ]


def check(cases, parts):
    patient = {case.case_key: case.patient_key for case in cases}
    owners = [{patient[key] for key in keys} for keys in parts.values()]
    assert sum(len(owner) for owner in owners) == len(set().union(*owners))
    assert sorted(key for keys in parts.values() for key in keys) == sorted(patient)
    assert parts["train"]
    assert parts["val"]


def trainable(patients, kind):
    """Return whether the declared parts leave something to train and validate on."""
    training = {p for p in patients if p % 4 in ((0, 2) if kind == "declared" else (0, 2, 3))}
    enough = len(training) > 4 and (kind != "declared" or any(p % 4 == 3 for p in patients))
    return enough or not kind.startswith("declared")


@given(patients=PATIENTS, shares=SHARES, kind=KINDS)
def test_no_patient_is_in_two_parts_and_no_case_is_lost(patients, shares, kind):
    assume(trainable(patients, kind))
    cases = cases_of(patients, kind)
    check(cases, split_cases(cases, LabelledSplitConfig(**shares)))


@given(patients=PATIENTS, folds=st.integers(2, 4), shares=SHARES, kind=KINDS)
def test_every_patient_that_is_not_held_aside_validates_once(patients, folds, shares, kind):
    assume(trainable(patients, kind))
    cases = cases_of(patients, kind)
    options = shares | {"folds": folds, "test": min(shares["test"], 0.2)}
    splits = [split_cases(cases, LabelledSplitConfig(fold=n, **options)) for n in range(folds)]
    for parts in splits:
        check(cases, parts)
        assert parts["test"] == splits[0]["test"]
    validated = [key for parts in splits for key in parts["val"]]
    assert sorted(validated + splits[0]["test"]) == sorted(case.case_key for case in cases)


@given(patients=PATIENTS, shares=SHARES, kind=KINDS, fold=st.none() | st.just(1), data=st.data())
def test_the_order_of_the_cases_does_not_matter(patients, shares, kind, fold, data):
    assume(trainable(patients, kind))
    cases = cases_of(patients, kind)
    shuffled = data.draw(st.permutations(cases))
    drawn = {} if fold is None else {"fold": fold, "folds": 2}
    config = LabelledSplitConfig(**shares, **drawn, train_fraction=0.5)
    assert split_cases(cases, config) == split_cases(shuffled, config)


@given(
    patients=PATIENTS,
    kind=KINDS,
    seed=st.integers(0, 99),
    train_seed=st.none() | st.integers(0, 99),
    fractions=st.lists(st.floats(0.01, 1), min_size=2, max_size=2).map(sorted),
)
def test_a_smaller_share_is_a_part_of_a_larger_one(patients, kind, seed, train_seed, fractions):
    assume(trainable(patients, kind))
    cases = cases_of(patients, kind)
    small, large = (
        split_cases(
            cases, LabelledSplitConfig(train_fraction=share, seed=seed, train_seed=train_seed)
        )
        for share in fractions
    )
    assert set(small["train"]) <= set(large["train"])
    assert small["train"]
    assert (small["val"], small["test"]) == (large["val"], large["test"])


@given(patients=PATIENTS, seed=st.integers(0, 99), share=st.floats(0.01, 0.5))
def test_any_share_of_a_table_shows_every_value_that_all_of_training_shows(patients, seed, share):
    cases = [
        LabelledCase(
            case_key=f"case-{n:03d}",
            patient_key=f"patient-{p:03d}",
            image=None,
            targets={"grade": str(p % 2)},
        )
        for n, p in enumerate(patients)
    ]
    grade = {case.case_key: case.targets["grade"] for case in cases}
    shown = [
        {grade[key] for key in split_cases(cases, config)["train"]}
        for config in (
            LabelledSplitConfig(seed=seed, train_fraction=share),
            LabelledSplitConfig(seed=seed),
        )
    ]
    assert shown[0] == shown[1]
