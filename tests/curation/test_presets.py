"""The published filters that ship as presets: which volumes pass, and what stops the others."""

import pytest

from medssl.config.load import load
from medssl.curation.curate import CurateConfig
from tests.conftest import ROOT
from tests.curation.rules.test_rules import GOOD, MR

HEAD = GOOD | MR | {"p01": 0.0, "std": 900.0, "field_strength_t": 3.0, "foreground_share": 0.3}


def stops(preset, row):
    """Return the reason codes of the rules that object to ``row``, in their order."""
    config = load(CurateConfig, ROOT / f"configs/curate/{preset}.yaml")
    assert config.name == preset
    return [rule.name for rule in config.rules if rule.build().problem(row)]


@pytest.mark.parametrize(
    ("change", "stopped_by"),
    [
        ({}, []),
        ({"slice_thickness_mm": 1.0}, []),
        ({"slice_thickness_mm": 5.0}, []),
        ({"shape_k": 51}, []),
        ({"split_by": ["orientation=1"]}, []),
        ({"modality": "PT"}, ["modality"]),
        ({"image_type": "ORIGINAL/PRIMARY/LOCALIZER"}, ["localizer"]),
        ({"slice_thickness_mm": 0.625}, ["slice_thickness"]),
        ({"slice_thickness_mm": 5.5}, ["slice_thickness"]),
        ({"slice_thickness_mm": None}, ["slice_thickness"]),
        ({"shape_k": 50}, ["slice_count"]),
        ({"shape_k": 53, "filled_slices": 3}, ["slice_count"]),
        ({"split_by": ["acquisition=2"]}, ["one_instance_per_position"]),
        ({"flags": ["copies_dropped"]}, ["one_instance_per_position"]),
        ({"saturated_share": 0.5, "foreground_share": 0.0}, []),  # they asked for neither
    ],
)
def test_ct_fm(change, stopped_by):
    assert stops("ct_fm", GOOD | change) == stopped_by


@pytest.mark.parametrize(
    ("change", "stopped_by"),
    [
        ({}, []),
        ({"field_strength_t": None}, []),
        ({"image_type": "DERIVED/SECONDARY/MPR"}, []),
        ({"modality": "CT", "intensity": "hu"}, ["modality"]),
        ({"image_type": "DERIVED/PRIMARY/DIFFUSION/ADC"}, ["image_type"]),
        ({"image_type": "ORIGINAL/PRIMARY/P"}, ["image_type"]),
        ({"b_value": 1000.0}, ["b_value"]),
        ({"b_value": 0.0}, []),
        ({"field_strength_t": 1.0}, ["field_strength"]),
        ({"shape_k": 16}, ["field_of_view"]),
        ({"spacing_k_mm": 7.0}, ["spacing"]),
        ({"foreground_share": 0.02}, ["foreground_share"]),
        ({"saturated_share": 0.06}, ["saturation"]),
        ({"min": 0.0, "max": 0.0, "p99": 0.0}, ["constant_or_empty"]),
    ],
)
def test_openmind_like(change, stopped_by):
    assert stops("openmind_like", HEAD | change) == stopped_by


@pytest.mark.parametrize("preset", ["ct_fm", "openmind_like"])
def test_a_damaged_volume_is_stopped_first(preset):
    assert stops(preset, GOOD | {"flags": ["damaged_volume"]})[0] == "damaged_volume"


def test_ct_fm_drops_no_near_duplicate():
    config = load(CurateConfig, ROOT / "configs/curate/ct_fm.yaml").near_duplicate
    assert {config.copy_ncc, config.same_patient_ncc} == {1.0}
