from hypothesis import given
from hypothesis import strategies as st

from medssl.labelled.cases import LabelledCase
from medssl.labelled.splits import LabelledSplitConfig, split_cases


@given(
    patients=st.lists(st.integers(0, 12), min_size=1, max_size=60).filter(
        lambda keys: len(set(keys)) > 4
    ),
    test=st.floats(0.0, 0.4),
    val=st.floats(0.01, 0.4),
    seed=st.integers(0, 2**31),
)
def test_no_patient_is_in_two_parts_and_no_case_is_lost(patients, test, val, seed):
    cases = [
        LabelledCase(
            case_key=f"case-{n:03d}", patient_key=f"patient-{p:03d}", image=None, label=None
        )
        for n, p in enumerate(patients)
    ]
    parts = split_cases(cases, LabelledSplitConfig(test=test, val=val, seed=seed))
    patient = {case.case_key: case.patient_key for case in cases}
    owners = [{patient[key] for key in keys} for keys in parts.values()]
    assert sum(len(owner) for owner in owners) == len(set().union(*owners))
    assert sorted(key for keys in parts.values() for key in keys) == sorted(patient)
    assert all(owners[:2])
