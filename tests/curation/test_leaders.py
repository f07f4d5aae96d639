from hypothesis import given
from hypothesis import strategies as st

from medssl.curation.edges import Edge
from medssl.curation.leaders import leaders, leaders_in_rounds, may_drop, rank_key, trust_key
from tests.curation.test_edges import row


def test_a_chain_does_not_swallow_its_far_end():
    assert leaders("abc", [("a", "b"), ("b", "c")]) == {"b": "a"}


def test_the_best_kept_copy_represents():
    assert leaders("abcd", [("d", "b"), ("a", "d"), ("a", "c")]) == {"c": "a", "d": "a"}


def test_an_item_is_no_copy_of_itself():
    assert leaders("ab", [("a", "a"), ("b", "b")]) == {}


GRAPHS = st.integers(1, 30).flatmap(
    lambda n: st.tuples(
        st.permutations([f"{k:02d}" for k in range(n)]),
        st.lists(st.tuples(*[st.integers(0, n - 1).map("{:02d}".format)] * 2), max_size=80),
    )
)


@given(GRAPHS)
def test_rounds_find_what_going_down_the_ranking_finds(graph):
    ranked, copies = graph
    assert leaders_in_rounds(ranked, copies) == leaders(ranked, copies)


@given(GRAPHS, st.randoms())
def test_every_dropped_item_has_a_kept_copy_and_no_two_kept_are_copies(graph, random):
    ranked, copies = graph
    found = leaders(ranked, copies)
    linked = {frozenset(pair) for pair in copies if len(set(pair)) > 1}
    assert all(frozenset(pair) in linked for pair in found.items())
    assert not found.keys() & set(found.values())
    kept = set(ranked) - found.keys()
    assert not any(pair <= kept for pair in linked)
    random.shuffle(copies)
    assert leaders(ranked, copies) == found
    assert leaders(ranked, [pair for pair in copies if set(pair) <= kept]) == {}


def test_a_whole_is_never_dropped_for_its_part():
    edge = Edge(volume_a="a", volume_b="b", kind="subset", drops=True, part="b")
    assert may_drop(edge, {"a": 0, "b": 1})
    assert not may_drop(edge, {"a": 1, "b": 0})
    assert may_drop(
        Edge(volume_a="a", volume_b="b", kind="resampled", drops=True), {"a": 1, "b": 0}
    )


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
