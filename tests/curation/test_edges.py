import pytest
from pydantic import ValidationError

from medssl.curation.edges import NearDuplicateConfig, comparable, identical_volumes, judge
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


ONE = {"patient_key": "p"}
ONE_STUDY = {"patient_key": "p", "study_key": "s", "source_format": "dicom"}


@pytest.mark.parametrize(
    ("a", "b", "score", "kind", "drops"),
    [
        (row("a"), row("b"), 0.98, "re_reconstruction", True),
        (row("a"), thick("b"), 0.98, "resampled", True),
        (row("a"), row("b"), 0.96, "ambiguous", False),
        (row("a"), thick("b"), 0.81, "ambiguous", False),
        (row("a", **ONE), thick("b", **ONE), 0.995, "resampled", True),
        (row("a", **ONE), thick("b", **ONE), 0.98, "same_patient", False),
        (row("a", **ONE), row("b", **ONE), 0.999, "same_patient", False),
        (row("a", **ONE_STUDY), thick("b", **ONE_STUDY), 0.995, "resampled", True),
        (
            row("a", **ONE_STUDY),
            thick("b", **ONE_STUDY | {"study_key": "next year"}),
            0.999,
            "same_patient",
            False,
        ),
        (row("a", patient_key=""), row("b", patient_key=""), 0.98, "re_reconstruction", True),
    ],
)
def test_what_drops_and_what_only_shares_a_split(a, b, score, kind, drops):
    for first, second in ((a, b), (b, a)):
        found = judge(first, second, Agreement(score, float("nan")), CONFIG)
        assert found is not None
        assert found[:2] == (kind, drops)
        assert found[2] == (0.99 if a["patient_key"] == b["patient_key"] == "p" else 0.97)


def test_strangers_have_no_edge():
    assert judge(row("a"), row("b"), Agreement(0.79, float("nan")), CONFIG) is None
    assert judge(row("a"), row("b"), Agreement(float("nan"), float("nan")), CONFIG) is None


def test_the_better_of_the_two_spaces_counts():
    assert Agreement(float("nan"), 0.9).score == 0.9
    assert Agreement(0.95, 0.9).score == 0.95


def test_only_like_modalities_are_compared():
    assert comparable(row("a"), row("b"))
    assert comparable(row("a"), row("b", modality="unknown"))
    assert not comparable(row("a"), row("b", modality="CT"))


def test_equal_voxels_are_joined_to_the_best_and_named_by_their_file():
    ranked = [
        row("c", voxel_digest="v", file_digest="f"),
        row("a", voxel_digest="v", file_digest="f"),
        row("b", voxel_digest="v"),
        row("d"),
    ]
    found = [(e.volume_a, e.volume_b, e.kind, e.drops) for e in identical_volumes(ranked)]
    assert found == [("a", "c", "identical", True), ("b", "c", "re_export", True)]


def test_thresholds_out_of_order_are_refused():
    with pytest.raises(ValidationError, match="link_ncc <= copy_ncc <= same_patient_ncc"):
        NearDuplicateConfig(copy_ncc=0.7)
