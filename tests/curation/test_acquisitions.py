import numpy as np
import pytest

from medssl.curation.acquisitions import FACTS, overlap, relation

SCAN = {
    "volume_key": "a",
    "patient_key": "p",
    "study_key": "s",
    "series_key": "one",
    "frame_key": "f",
    "acquisition_key": "q",
    "acquisition_s": 10.0,
    "source_format": "dicom",
    "modality": "CT",
    "affine_ras": np.diag([2.0, 2.0, 2.0, 1.0]).ravel().tolist(),
    **dict.fromkeys(("shape_i", "shape_j", "shape_k"), 50),
    **dict.fromkeys(("echo_time_ms", "b_value", "kvp")),
}


def other(**changes):
    return SCAN | {"volume_key": "b", "series_key": "two"} | changes


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "same_acquisition"),
        ({"acquisition_s": 12.0}, "same_acquisition"),
        ({"acquisition_s": None}, "same_acquisition"),
        ({"acquisition_s": 40.0}, "other_acquisition"),
        ({"series_key": "one"}, "other_acquisition"),
        ({"study_key": "next year"}, "other_study"),
        ({"patient_key": "somebody"}, "strangers"),
        ({"patient_key": ""}, "strangers"),
        ({"source_format": "nifti"}, "one_patient"),
        ({"acquisition_key": ""}, "one_patient"),
        ({"acquisition_key": "r"}, "one_patient"),
        ({"frame_key": ""}, "one_patient"),
        ({"modality": "MR", "acquisition_s": None}, "one_patient"),
        ({"modality": "MR"}, "same_acquisition"),
        ({"affine_ras": [1, 0, 0, 500, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]}, "one_patient"),
    ],
)
def test_what_headers_say(changes, said):
    a, b = SCAN, other(**changes)
    if changes.get("patient_key") == "":
        a = a | {"patient_key": ""}
    assert relation(a, b) == relation(b, a) == said


@pytest.mark.parametrize("name", ["echo_time_ms", "b_value", "kvp"])
def test_another_setting_of_the_scanner_is_another_acquisition(name):
    assert relation(SCAN | {name: 80.0}, other(**{name: 120.0})) == "other_acquisition"
    assert relation(SCAN | {name: 80.0}, other(**{name: 80.1})) == "same_acquisition"
    assert relation(SCAN | {name: 80.0}, other(**{name: None})) == "same_acquisition"


def test_fields_of_view_that_only_touch_have_nothing_in_common():
    assert overlap(SCAN, SCAN)
    aside = np.diag([2.0, 2.0, 2.0, 1.0])
    aside[0, 3] = 100.0
    assert not overlap(SCAN, other(affine_ras=aside.ravel().tolist()))


def test_facts_are_all_that_is_read():
    assert relation(
        {name: SCAN.get(name) for name in FACTS}, {name: other().get(name) for name in FACTS}
    ) == "same_acquisition"  # fmt: skip
