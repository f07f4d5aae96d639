"""What must hold for the kept ones, whatever the ranking and the edges."""

from hypothesis import given
from hypothesis import strategies as st

from medssl.curation.leaders import leaders


@st.composite
def ranked_graphs(draw):
    ranked = draw(st.permutations([f"v{n}" for n in range(draw(st.integers(0, 14)))]))
    if not ranked:
        return ranked, []
    item = st.sampled_from(ranked)
    return ranked, draw(st.lists(st.tuples(item, item), max_size=40))


def slow_leaders(ranked, copies):
    """Sequential greedy, one item after the other."""
    linked = {frozenset(pair) for pair in copies}
    kept, representative = [], {}
    for item in ranked:
        close = [other for other in kept if frozenset((other, item)) in linked]
        if close:
            representative[item] = close[0]
        else:
            kept.append(item)
    return representative


@given(ranked_graphs())
def test_equals_sequential_greedy(graph):
    assert leaders(*graph) == slow_leaders(*graph)


@given(ranked_graphs())
def test_domination_every_dropped_item_has_a_better_kept_copy(graph):
    ranked, copies = graph
    linked = {frozenset(pair) for pair in copies}
    representative = leaders(ranked, copies)
    for item, other in representative.items():
        assert other not in representative
        assert frozenset((item, other)) in linked
        assert ranked.index(other) < ranked.index(item)


@given(ranked_graphs())
def test_separation_no_two_kept_items_are_copies(graph):
    ranked, copies = graph
    dropped = leaders(ranked, copies)
    assert all(a == b or a in dropped or b in dropped for a, b in copies)


@given(ranked_graphs())
def test_idempotence_the_kept_items_keep_each_other(graph):
    ranked, copies = graph
    kept = [item for item in ranked if item not in leaders(ranked, copies)]
    among_kept = [(a, b) for a, b in copies if a in kept and b in kept]
    assert leaders(kept, among_kept) == {}


@given(ranked_graphs(), st.randoms(use_true_random=False))
def test_order_and_direction_of_edges_do_not_matter(graph, random):
    ranked, copies = graph
    shuffled = [pair if random.random() < 0.5 else pair[::-1] for pair in copies]
    random.shuffle(shuffled)
    assert leaders(ranked, shuffled) == leaders(ranked, copies)


@given(ranked_graphs())
def test_incremental_equals_batch_when_newcomers_rank_last(graph):
    ranked, copies = graph
    whole = leaders(ranked, copies)
    for count in range(len(ranked)):
        early = set(ranked[:count])
        among = [(a, b) for a, b in copies if a in early and b in early]
        assert leaders(ranked[:count], among) == {k: v for k, v in whole.items() if k in early}
