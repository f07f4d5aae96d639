import pytest
from pydantic import ValidationError

from medssl.config.choice import available, find
from medssl.curation.curate import RULES, CurateConfig

NAMES = available(RULES)

GOOD = {
    "modality": "CT",
    "intensity": "hu",
    "localizer": False,
    **dict.fromkeys(("shape_i", "shape_j"), 256),
    "shape_k": 60,
    **dict.fromkeys(("spacing_i_mm", "spacing_j_mm"), 0.8),
    "spacing_k_mm": 3.0,
    "min": -1024.0,
    "max": 2000.0,
    "p01": -1000.0,
    "p99": 900.0,
    "mean": -300.0,
    "std": 400.0,
}

BAD = [
    ("modality", {"modality": "PT"}, {}, "modality PT, wanted CT or MR"),
    ("modality", {"modality": "unknown"}, {}, "modality unknown"),
    ("modality", {}, {"allowed": ("MR",)}, "modality CT, wanted MR"),
    ("localizer", {"localizer": True}, {}, "a localizer"),
    ("slice_count", {"shape_k": 7}, {}, "7 voxels along one axis, wanted at least 8"),
    ("slice_count", {"shape_i": 3}, {"at_least": 4}, "3 voxels"),
    ("field_of_view", {"shape_k": 10}, {}, "field of view 30 mm"),
    ("spacing", {"spacing_k_mm": 8.5}, {}, "spacing 8.50 mm along one axis, wanted at most 8 mm"),
    ("spacing", {"spacing_i_mm": 0.01}, {}, "spacing 0.010 mm along one axis, wanted at least 0.1"),
    ("constant_or_empty", {"min": 0, "max": 0, "p01": 0, "p99": 0}, {}, "every voxel is 0"),
    ("constant_or_empty", {"p01": 5, "p99": 5}, {}, "98 % of the voxels"),
    ("constant_or_empty", {"p99": float("nan")}, {}, "no finite intensities"),
    ("constant_or_empty", {"p99": -900}, {}, "only air: 99 % of the voxels are below -900 HU"),
    ("implausible_hu", {"min": 0}, {}, "nothing is below 0"),
    ("implausible_hu", {"p99": -400}, {}, "99 % of the voxels are below -400: no soft tissue"),
    ("implausible_hu", {"mean": 1200}, {}, "the mean is 1200"),
    ("implausible_hu", {"p99": 5000}, {}, "1 % of the voxels are 5000 and more"),
    ("implausible_hu", {"intensity": "arbitrary"}, {}, "not Hounsfield units"),
]


def rule(name, options=None):
    return find(RULES, name).Config(**(options or {})).build()


@pytest.mark.parametrize("name", NAMES)
def test_a_good_volume_passes(name):
    assert rule(name).problem(GOOD) is None


@pytest.mark.parametrize(("name", "found", "options", "reason"), BAD)
def test_a_bad_volume_is_told_why(name, found, options, reason):
    assert reason in (rule(name, options).problem(GOOD | found) or "")


def test_every_rule_is_tried_above_and_is_on_by_default():
    assert {name for name, *_ in BAD} == set(NAMES)
    assert {c.name for c in CurateConfig(library="lib", name="x").rules} == set(NAMES)


def test_padding_far_below_air_is_no_objection():
    assert rule("implausible_hu").problem(GOOD | {"min": -3024, "mean": -1400}) is None


@pytest.mark.parametrize("name", ["constant_or_empty", "implausible_hu"])
def test_mr_is_not_judged_by_hounsfield_units(name):
    mr = GOOD | {"modality": "MR", "intensity": "arbitrary", "min": 0, "mean": 5000, "p99": 9000}
    assert rule(name).problem(mr) is None


def test_limits_that_let_nothing_pass_are_refused():
    with pytest.raises(ValidationError, match="nothing could stay"):
        find(RULES, "spacing").Config(at_least_mm=5, at_most_mm=2)
