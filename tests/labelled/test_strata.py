from collections import Counter

from medssl.labelled.cases import LabelledCase
from medssl.labelled.strata import covering_first, dealt, evenly, patterns_of, targets_of


def case(number, patient, value="", classes=()):
    return LabelledCase(
        case_key=f"case-{number:03d}",
        patient_key=patient,
        image=None,
        targets={"grade": value, "other": "x"},
        classes=classes,
    )


def test_a_patients_stratum_is_every_value_of_its_cases():
    cases = [case(0, "a", "1"), case(1, "a", "2"), case(2, "b", "1"), case(3, "c", "")]
    cases += [case(4, "d", "1"), case(5, "e", "1"), case(6, "f", "")]
    assert targets_of(cases) == {
        "a": ("1", "2"),
        "b": ("1",),
        "c": (),
        "d": ("1",),
        "e": ("1",),
        "f": (),
    }


def test_numbers_that_all_differ_make_no_strata():
    assert targets_of([case(n, f"p{n}", str(n * 0.1)) for n in range(20)]) == {}
    assert targets_of([case(n, f"p{n}", "same") for n in range(20)]) == {}
    assert targets_of([]) == {}


def test_label_maps_make_strata_by_the_classes_they_show():
    cases = [case(n, f"p{n}", classes=(1, 2) if n % 3 else (1,)) for n in range(9)]
    assert patterns_of(cases)["p0"] == ("1",)
    assert patterns_of(cases)["p1"] == ("1", "2")


def test_every_beginning_has_about_its_share_of_each_stratum():
    patients = [f"p{n:02d}" for n in range(40)]
    strata = {patient: ("ill",) if n < 10 else ("well",) for n, patient in enumerate(patients)}
    order = evenly(patients, strata)
    for length in range(1, 41):
        ill = sum(strata[patient] == ("ill",) for patient in order[:length])
        assert abs(ill - length / 4) <= 1
    assert sorted(order) == patients
    assert evenly(patients, {}) == patients


def test_the_only_patient_of_a_stratum_is_left_to_training():
    strata = {"a": ("rare",), **{f"p{n}": ("usual",) for n in range(9)}}
    assert evenly(sorted(strata), strata)[-1] == "a"


def test_folds_are_dealt_so_that_sizes_and_strata_differ_by_one_at_most():
    patients = [f"p{n:02d}" for n in range(23)]
    strata = {patient: (str(n % 3),) for n, patient in enumerate(patients)}
    fold_of = dealt(patients, strata, 5)
    held = Counter((fold_of[patient], strata[patient]) for patient in patients)
    for stratum in {("0",), ("1",), ("2",)}:
        counts = [held[fold, stratum] for fold in range(5)]
        assert max(counts) - min(counts) <= 1
    sizes = Counter(fold_of.values())
    assert max(sizes.values()) - min(sizes.values()) <= 1


def test_those_that_show_new_values_come_first():
    strata = {"a": ("1",), "b": ("1",), "c": ("1", "2"), "d": ("3",), "e": ("2",)}
    order, count = covering_first(["b", "a", "e", "c", "d"], strata)
    assert order == ["b", "e", "d", "a", "c"]
    assert count == 3
    assert covering_first(["b", "a"], {}) == (["b", "a"], 0)
