import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.spatial.transform import Rotation

from medssl.config.choice import available, find
from medssl.curation.gates import DEFAULT_RULES, RULES
from tests.described import described

NAMES = available(RULES)

GOOD = {
    "modality": "CT",
    "intensity": "hu",
    "localizer": False,
    "image_type": "ORIGINAL/PRIMARY/AXIAL",
    "flags": [],
    "split_by": [],
    "source_format": "dicom",
    "regularized": [],
    "filled_slices": 0,
    "slice_axis": 2,
    "slice_thickness_mm": 3.0,
    "stated_step_mm": 3.0,
    "field_strength_t": None,
    "b_value": None,
    "affine_ras": [0.8, 0, 0, -100, 0, 0.8, 0, -100, 0, 0, 3, 50, 0, 0, 0, 1.0],
    "foreground_share": 0.4,
    "saturated_share": 1e-6,
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

MR = {"modality": "MR", "intensity": "arbitrary", "min": 0, "mean": 5000, "p99": 9000}
TURNED = {"slice_axis": 1, "affine_ras": [0.8, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0.8, 0, 0, 0, 0, 1.0]}
OBLIQUE = {"affine_ras": [0.8, 0, 0, 0, 0, 0.64, -1.8, 0, 0, 0.48, 2.4, 0, 0, 0, 0, 1.0]}
SHEARED = {"affine_ras": [0.8, 0.2, 0, 0, 0, 0.8, 0, 0, 0, 0, 3, 0, 0, 0, 0, 1.0]}

BAD = [
    ("modality", {"modality": "PT"}, {}, "modality PT, wanted CT or MR"),
    ("modality", {"modality": "unknown"}, {}, "modality unknown, wanted CT or MR"),
    (
        "modality",
        {"modality": "unknown", "source_format": "nifti"},
        {},
        "wanted CT or MR (`modalities` of ingest",
    ),
    ("modality", {}, {"allowed": ("MR",)}, "modality CT, wanted MR"),
    ("localizer", {"localizer": True}, {}, "a localizer by its header, wanted"),
    ("localizer", {"image_type": "ORIGINAL/PRIMARY/LOCALIZER"}, {}, "a localizer by its header"),
    ("slice_count", {"shape_k": 7}, {}, "7 voxels along one axis, wanted at least 8"),
    ("slice_count", {"shape_i": 3}, {"at_least": 4}, "3 voxels along one axis, wanted at least 4"),
    (
        "slice_count",
        {"filled_slices": 11},
        {"at_least": 50, "along": "slices"},
        "49 slices, wanted at least 50",
    ),
    (
        "slice_thickness",
        {"slice_thickness_mm": 9.0},
        {},
        "stated to be 9 mm thick, wanted 0.1 to 8",
    ),
    (
        "slice_thickness",
        {"slice_thickness_mm": 0.6},
        {"at_least_mm": 1},
        "0.6 mm thick, wanted 1 to",
    ),
    (
        "slice_thickness",
        {"slice_thickness_mm": None},
        {"at_least_mm": 4},
        "slices 3 mm apart, their thickness not stated, wanted 4 to 8 mm",
    ),
    (
        "slice_thickness",
        {"slice_thickness_mm": None},
        {"unstated": "exclude"},
        "slice thickness not stated, wanted 0.1 to 8 mm",
    ),
    (
        "field_of_view",
        {"shape_k": 10},
        {},
        "field of view 30 mm along one axis, wanted at least 40",
    ),
    (
        "field_of_view",
        {"spacing_k_mm": 50},
        {},
        "field of view 3000 mm along one axis, wanted at mo",
    ),
    ("spacing", {"spacing_k_mm": 8.5}, {}, "spacing 8.50 mm along one axis, wanted at most 8 mm"),
    ("spacing", {"spacing_i_mm": 0.01}, {}, "spacing 0.010 mm along one axis, wanted at least 0.1"),
    (
        "one_instance_per_position",
        {"split_by": ["matrix=512x512", "time_point=2", "echo_ms=20"]},
        {},
        "several images of each place, told apart by echo_ms and time_point; wanted one",
    ),
    (
        "one_instance_per_position",
        {"flags": ["copies_dropped"]},
        {"allow_copies": False},
        "its series held images twice, wanted one of each place",
    ),
    (
        "orientation",
        TURNED,
        {"planes": ("axial", "sagittal")},
        "coronal slices, wanted axial or sa",
    ),
    (
        "orientation",
        OBLIQUE,
        {"at_most_oblique_deg": 20},
        "lean 36.9 degrees from axial, wanted at",
    ),
    ("orientation", SHEARED, {}, "axes 14.0 degrees from right angles, wanted at most 1"),
    ("orientation", {"affine_ras": [0.0] * 16}, {}, "not finite or flat, wanted three axes"),
    (
        "orientation",
        {"regularized": ["tilt"]},
        {"allow_tilt": False},
        "the gantry was tilted, wanted it upright",
    ),
    (
        "uneven_gaps",
        {"regularized": ["uneven"]},
        {},
        "at uneven distances and were resampled, want",
    ),
    ("uneven_gaps", {"filled_slices": 2}, {}, "2 of 60 slices were missing and are interpolated"),
    (
        "uneven_gaps",
        {"filled_slices": 7},
        {"at_most_filled_share": 0.1},
        "7 of 60 slices were missing and are interpolated, wanted at most 10 %",
    ),
    (
        "derived",
        {"image_type": "DERIVED/PRIMARY/MPR"},
        {},
        "image type DERIVED, wanted ORIGINAL and",
    ),
    ("derived", {"image_type": "ORIGINAL\\SECONDARY"}, {}, "image type SECONDARY, wanted"),
    ("derived", {"flags": ["derived"]}, {"secondary": False}, "image type DERIVED, wanted"),
    (
        "secondary_capture",
        {"image_type": "DERIVED/SECONDARY/SCREEN SAVE"},
        {},
        "(SCREEN SAVE), want",
    ),
    (
        "secondary_capture",
        {"flags": ["secondary_capture"]},
        {},
        "(secondary capture), wanted a scan",
    ),
    ("projection", {"image_type": "DERIVED/PRIMARY/MIP"}, {}, "image type MIP, wanted slices"),
    (
        "projection",
        {"image_type": "DERIVED/PRIMARY/MPR"},
        {"exclude_reformats": True},
        "image type MPR, wanted slices as scanned",
    ),
    ("burned_in", {"flags": ["burned_in_text"]}, {}, "in its pixels (burned_in_text), wanted none"),
    (
        "damaged_volume",
        {"flags": ["damaged_volume"]},
        {},
        "is damaged; ingest its sources again with",
    ),
    (
        "stated_spacing",
        {"stated_step_mm": 5.0},
        {},
        "stated to be 5 mm apart are 3 mm apart, wanted a difference of at most 10 %",
    ),
    (
        "stated_spacing",
        {"slice_thickness_mm": 40, "stated_step_mm": None},
        {},
        "stated to be 40 mm thick are 3 mm apart, wanted a thickness of 0.1 to 10 times",
    ),
    (
        "foreground_share",
        {"foreground_share": 0.001},
        {},
        "0.1 % of the voxels are not air, wanted 1",
    ),
    ("foreground_share", {}, {"at_most": 0.3}, "40 % of the voxels are not air, wanted 1 to 30 %"),
    ("foreground_share", {"foreground_share": None}, {}, "not measured; run `medssl ingest` again"),
    (
        "saturation",
        {"saturated_share": 0.3, "max": 240.0},
        {},
        "30 % of the voxels have the largest value, 240; wanted at most 10 %",
    ),
    ("saturation", {"saturated_share": None}, {}, "not measured; run `medssl ingest` again"),
    (
        "field_strength",
        MR | {"field_strength_t": 1.0},
        {},
        "field strength 1 T, wanted at least 1.5",
    ),
    ("field_strength", MR, {"unstated": "exclude"}, "not stated, wanted at least 1.5 T"),
    (
        "image_type",
        {"image_type": "DERIVED/PRIMARY/ADC"},
        {},
        "type ADC, wanted none of ADC, FA, T",
    ),
    ("image_type", {"image_type": "ORIGINAL/P"}, {"excluded": ("p",)}, "type P, wanted none of P"),
    ("b_value", {"b_value": 1000.0}, {}, "diffusion weighting of 1000 s/mm2, wanted at most 0"),
    ("b_value", {"split_by": ["b_value=700", "order=2"]}, {"at_most": 50}, "of 700 s/mm2, wanted"),
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

FINE = [
    ("slice_count", {"shape_i": 7}, {"along": "slices"}),
    ("slice_thickness", {"slice_thickness_mm": None}, {"unstated": "pass", "at_least_mm": 4}),
    ("slice_thickness", {"slice_thickness_mm": None, "spacing_k_mm": 5.0}, {"at_least_mm": 4}),
    ("one_instance_per_position", {"split_by": ["orientation=2", "block=1"]}, {}),
    ("one_instance_per_position", {"flags": ["copies_dropped"]}, {}),
    ("orientation", TURNED, {}),
    ("orientation", OBLIQUE, {"at_most_oblique_deg": 40}),
    ("orientation", {"regularized": ["tilt"]}, {}),
    ("uneven_gaps", {"regularized": ["uneven", "tilt"]}, {"allow_resampled": True}),
    ("uneven_gaps", {"filled_slices": 6}, {"at_most_filled_share": 0.1}),
    ("derived", {"image_type": "DERIVED/PRIMARY/MPR"}, {"allowed": ("mpr",)}),
    ("derived", {"image_type": "ORIGINAL/SECONDARY"}, {"secondary": False}),
    ("secondary_capture", {"image_type": "DERIVED/SECONDARY/MPR"}, {}),
    ("projection", {"image_type": "DERIVED/PRIMARY/MPR"}, {}),
    ("stated_spacing", {"stated_step_mm": None, "slice_thickness_mm": None}, {}),
    ("stated_spacing", {"stated_step_mm": 1.0, "slice_thickness_mm": 2.0}, {}),  # the gap alone
    ("stated_spacing", {"stated_step_mm": 5.0, "regularized": ["uneven"]}, {}),
    ("field_strength", MR | {"field_strength_t": 1.494}, {}),
    ("field_strength", MR, {}),
    ("b_value", {"b_value": 50.0}, {"at_most": 50}),
    ("b_value", {"split_by": ["b_value=0", "gradient=3"]}, {}),
    ("field_strength", {}, {"unstated": "exclude"}),
    ("implausible_hu", {"min": -3024, "mean": -1400}, {}),  # padding far below air
    ("constant_or_empty", MR, {}),  # not judged by Hounsfield units
    ("implausible_hu", MR, {}),
]


def rule(name, options=None):
    return find(RULES, name).Config(**(options or {})).build()


@pytest.mark.parametrize("name", NAMES)
def test_a_good_volume_passes(name):
    assert rule(name).problem(GOOD) is None


@pytest.mark.parametrize(("name", "found", "options", "reason"), BAD)
def test_a_bad_volume_is_told_why(name, found, options, reason):
    assert reason in (rule(name, options).problem(GOOD | found) or "")


@pytest.mark.parametrize(("name", "found", "options"), FINE)
def test_an_odd_volume_passes(name, found, options):
    assert rule(name, options).problem(GOOD | found) is None


@pytest.mark.parametrize("name", NAMES)
def test_every_rule_is_tried_says_its_version_and_what_each_option_is(name):
    assert name in {tried for tried, *_ in BAD}
    found = find(RULES, name)
    assert str(vars(found)["VERSION"]).isdecimal()
    assert described(found.Config) >= set(found.Config.model_fields)


def test_the_default_rules_are_rules_once_each():
    names = [config.name for config in DEFAULT_RULES]
    assert set(names) <= set(NAMES)
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("spacing", {"at_least_mm": 5, "at_most_mm": 2}),
        ("slice_thickness", {"at_least_mm": 5, "at_most_mm": 2}),
        ("field_of_view", {"at_least_mm": 50, "at_most_mm": 20}),
        ("foreground_share", {"at_least": 0.5, "at_most": 0.2}),
    ],
)
def test_limits_that_let_nothing_pass_are_refused(name, options):
    with pytest.raises(ValidationError, match="nothing could stay"):
        find(RULES, name).Config(**options)


@settings(max_examples=50, deadline=None)
@given(st.floats(0.5, 6), st.floats(0.5, 6), st.tuples(*3 * [st.floats(-0.5, 0.5)]))
def test_turning_a_grid_shears_nothing_and_leans_as_its_slow_twin_says(pixel_mm, step_mm, turn):
    rotation = Rotation.from_rotvec(turn).as_matrix()
    affine_ras = np.eye(4)
    affine_ras[:3, :3] = rotation @ np.diag([pixel_mm, pixel_mm, step_mm])
    row = GOOD | {"affine_ras": affine_ras.ravel().tolist()}
    lean_deg = float(np.degrees(np.arccos(min(1, rotation[2, 2]))))
    assert (
        rule("orientation", {"at_most_oblique_deg": min(90, lean_deg + 0.01)}).problem(row) is None
    )
    if lean_deg > 0.02:
        told = rule("orientation", {"at_most_oblique_deg": lean_deg - 0.01}).problem(row)
        assert f"lean {lean_deg:.1f} degrees" in told
