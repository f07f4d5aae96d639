from medssl.curation.leaders import leaders, rank_key, trust_key
from tests.curation.test_edges import row


def test_a_chain_does_not_swallow_its_far_end():
    assert leaders("abc", [("a", "b"), ("b", "c")]) == {"b": "a"}


def test_the_best_kept_copy_represents():
    assert leaders("abcd", [("d", "b"), ("a", "d"), ("a", "c")]) == {"c": "a", "d": "a"}


def test_an_item_is_no_copy_of_itself():
    assert leaders("ab", [("a", "a"), ("b", "b")]) == {}


def catalog_row(key, **changes):
    rest = {"image_type": "ORIGINAL/PRIMARY", "intensity": "hu", "flags": []}
    return row(key, **rest) | changes


def test_ranking_prefers_what_shows_more():
    best_first = [
        catalog_row("b", spacing_k_mm=1.0),
        catalog_row("f", shape_i=60),
        catalog_row("e", source_format="dicom"),
        catalog_row("c"),
        catalog_row("d"),
        catalog_row("g", flags=["uneven gaps"]),
        catalog_row("h", spacing_k_mm=4.0),
        catalog_row("i", intensity="arbitrary"),
        catalog_row("a", image_type="DERIVED/SECONDARY"),
    ]
    by_name = sorted(best_first, key=lambda row: row["volume_key"])
    assert sorted(by_name, key=rank_key) == best_first


def test_of_equal_voxels_the_most_trusted_header_wins():
    best_first = [
        catalog_row("d", source_format="dicom"),
        catalog_row("c"),
        catalog_row("b", flags=["sform_qform_differ"]),
        catalog_row("a", **dict.fromkeys(("spacing_i_mm", "spacing_j_mm", "spacing_k_mm"), 1.0)),
    ]
    assert sorted(best_first[1:] + best_first[:1], key=trust_key) == best_first
