import pytest
from pydantic import ValidationError

from medssl.curation.edges import DEMOTES, KINDS, NearDuplicateConfig, identical_volumes, judge
from medssl.curation.verification import Agreement

CONFIG = NearDuplicateConfig()


def row(key="a", **changes):
    base = {
        "volume_key": key,
        "patient_key": f"patient {key}",
        "study_key": f"study {key}",
        "source_format": "nifti",
        "modality": "MR",
        "voxel_digest": f"voxels {key}",
        "file_digest": f"file {key}",
        **dict.fromkeys(("shape_i", "shape_j", "shape_k"), 50),
        **dict.fromkeys(("spacing_i_mm", "spacing_j_mm", "spacing_k_mm"), 2.0),
    }
    return base | changes


def thick(key="b", **changes):
    return row(key, spacing_k_mm=4.0, shape_k=25, **changes)


def coarse(key="b", **changes):
    return row(
        key, **dict.fromkeys(("spacing_i_mm", "spacing_j_mm", "spacing_k_mm"), 3.0), **changes
    )


def agreed(score, motion=0.01, **shares):
    return Agreement(score=score, motion_voxels=motion, **shares)


@pytest.mark.parametrize(
    ("said", "b", "agreement", "kind", "drops"),
    [
        ("strangers", row("b"), agreed(0.999), "re_reconstruction", True),
        ("strangers", thick(), agreed(0.999), "re_reconstruction", True),
        ("strangers", coarse(), agreed(0.999), "resampled", True),
        ("strangers", row("b"), agreed(0.97), "ambiguous", False),
        ("strangers", row("b"), agreed(0.999, motion=0.2), "ambiguous", False),
        ("strangers", row("b"), agreed(0.999, motion=float("nan")), "ambiguous", False),
        ("one_patient", coarse(), agreed(0.999), "resampled", True),
        ("one_patient", coarse(), agreed(0.998), "same_patient", False),
        ("one_patient", row("b"), agreed(0.999, motion=0.1), "same_patient", False),
        ("same_acquisition", coarse(), agreed(0.92, motion=0.3), "re_reconstruction", True),
        ("same_acquisition", row("b"), agreed(0.85), "same_patient", False),
        ("other_study", coarse(), agreed(1.0, motion=0.0), "same_patient", False),
        ("other_acquisition", row("b"), agreed(1.0, motion=0.0), "same_patient", False),
        ("strangers", row("b"), agreed(1.0, share_a=0.8, share_b=0.8), "overlap", False),
    ],
)
def test_what_drops_and_what_only_shares_a_split(said, b, agreement, kind, drops):
    found = judge(row("a"), b, said, agreement, CONFIG)
    assert found is not None
    assert (found.kind, found.drops, found.part) == (kind, drops, "")


def test_a_part_is_named_whichever_comes_first():
    whole, part = row("a"), row("b", shape_k=30)
    found = judge(whole, part, "strangers", agreed(1.0, share_a=0.6), CONFIG)
    assert (found.kind, found.drops, found.part) == ("subset", True, "b")
    found = judge(part, whole, "strangers", agreed(1.0, share_b=0.6), CONFIG)
    assert (found.kind, found.part) == ("subset", "b")


def test_a_finer_zoom_is_another_view_and_no_copy():
    zoom = row("b", spacing_i_mm=1.0, spacing_j_mm=1.0)
    found = judge(row("a"), zoom, "strangers", agreed(0.999, share_a=0.5), CONFIG)
    assert (found.kind, found.part) == ("re_reconstruction", "b")
    assert found.kind in DEMOTES


def test_strangers_have_no_edge():
    assert judge(row("a"), row("b"), "strangers", agreed(0.79), CONFIG) is None
    assert judge(row("a"), row("b"), "strangers", Agreement(), CONFIG) is None
    assert judge(row("a"), row("b"), "strangers", agreed(float("nan")), CONFIG) is None


def test_equal_voxels_are_joined_to_the_best_and_named_by_their_file():
    ranked = [
        row("c", voxel_digest="v", file_digest="f"),
        row("a", voxel_digest="v", file_digest="f"),
        row("b", voxel_digest="v"),
        row("d"),
    ]
    found = [(e.volume_a, e.volume_b, e.kind, e.drops) for e in identical_volumes(ranked)]
    assert found == [("a", "c", "identical", True), ("b", "c", "re_export", True)]


def test_every_kind_is_explained():
    assert set(KINDS) >= DEMOTES


def test_thresholds_out_of_order_are_refused():
    with pytest.raises(ValidationError, match="link_ncc <= copy_ncc <= same_patient_ncc"):
        NearDuplicateConfig(copy_ncc=0.7)
    with pytest.raises(ValidationError, match="link_ncc <= same_acquisition_ncc"):
        NearDuplicateConfig(same_acquisition_ncc=0.7)
