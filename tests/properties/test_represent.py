"""What a release promised is kept; everything that is out has a kept volume that shows the same."""

import pyarrow as pa
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from medssl.curation.catalog_rows import CatalogRows
from medssl.curation.edges import Edge
from medssl.curation.representatives import KNOWN, RELEASED, represent, superseding


def rows_of(digests, spacings_mm):
    count = len(digests)
    facts = {
        "volume_key": [f"v{n:02d}" for n in range(count)],
        "voxel_digest": digests,
        "source_format": ["nifti"] * count,
        "flags": pa.array([[]] * count, pa.list_(pa.string())),
        "image_type": [""] * count,
        "intensity": ["hu"] * count,
        **{f"shape_{axis}": [30] * count for axis in "ijk"},
        **{f"spacing_{axis}_mm": spacings_mm for axis in "ijk"},
    }
    return CatalogRows(pa.table(facts))


@st.composite
def archives(draw):
    count = draw(st.integers(1, 14))
    digests = draw(st.lists(st.sampled_from("abcdefghij"), min_size=count, max_size=count))
    spacings = draw(st.lists(st.sampled_from([1.0, 2.0, 3.0]), min_size=count, max_size=count))
    rows = rows_of(digests, spacings)
    key = st.sampled_from(rows.keys)
    pairs = draw(st.sets(st.tuples(key, key).filter(lambda p: p[0] < p[1]), max_size=20))
    edges = [
        Edge(volume_a=a, volume_b=b, kind=draw(st.sampled_from(["resampled", "ambiguous"])),
             drops=draw(st.booleans()), score=0.99, threshold=0.97)
        for a, b in sorted(pairs)
    ]  # fmt: skip
    old = draw(st.sets(key))
    return rows, edges, old


def kept(rows, edges, standing):
    return set(rows.keys) - represent(rows, edges, standing).keys()


@given(archives())
def test_what_is_out_is_shown_by_what_is_kept(archive):
    rows, edges, _ = archive
    representative = represent(rows, edges, {})
    digest_of = dict(zip(rows.keys, rows.column("voxel_digest").to_pylist(), strict=True))
    tied = {frozenset(digest_of[key] for key in edge.volumes) for edge in edges if edge.drops}
    for out, shown_by in representative.items():
        assert shown_by not in representative
        assert digest_of[out] == digest_of[shown_by] or (
            frozenset((digest_of[out], digest_of[shown_by])) in tied
        )


@given(archives())
def test_no_two_kept_volumes_are_copies(archive):
    rows, edges, _ = archive
    digest_of = dict(zip(rows.keys, rows.column("voxel_digest").to_pylist(), strict=True))
    left = kept(rows, edges, {})
    assert len({digest_of[key] for key in left}) == len(left)
    one_of = {digest_of[key]: key for key in left}
    shown = [{one_of.get(digest_of[k]) for k in e.volumes} for e in edges if e.drops]
    assert not [pair for pair in shown if len(pair) == 2 and None not in pair]


@given(archives())
def test_a_release_keeps_all_it_kept_whatever_comes(archive):
    rows, edges, old = archive
    before = rows.among(old)
    known = [edge for edge in edges if old.issuperset(edge.volumes)]
    first = kept(before, known, {}) if old else set()
    standing = {key: RELEASED if key in first else KNOWN for key in old}
    after = kept(rows, edges, standing)
    assert first <= after
    assert old & after == first  # and nothing that was dropped comes back
    for newcomer, released in superseding(rows, represent(rows, edges, standing), standing).items():
        assert newcomer not in old
        assert released in first


@settings(max_examples=60, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(archives(), st.randoms(use_true_random=False))
def test_adding_bit_by_bit_is_as_all_at_once_ranked_by_arrival(archive, random):
    """Incremental = batch, where the rank is the arrival."""
    rows, edges, _ = archive
    order = [*rows.keys]
    random.shuffle(order)
    standing, present = {}, []
    for key in order:  # one newcomer at a time
        present.append(key)
        here = rows.among(present)
        known = [edge for edge in edges if set(present).issuperset(edge.volumes)]
        left = kept(here, known, standing)
        standing = {k: RELEASED if k in left else KNOWN for k in present}
    digest_of = dict(zip(rows.keys, rows.column("voxel_digest").to_pylist(), strict=True))
    batch: dict[str, str] = {}  # what is kept, by voxels; written down naively
    for n, key in enumerate(order):
        here, earlier = digest_of[key], order[:n]
        near = {k for e in edges if e.drops and key in e.volumes for k in e.volumes} & set(earlier)
        if here not in {digest_of[k] for k in earlier} and not batch.keys() & {
            digest_of[k] for k in near
        }:
            batch[here] = key
    assert {key for key in order if standing[key] == RELEASED} == set(batch.values())


@given(archives(), st.randoms(use_true_random=False))
def test_no_order_matters(archive, random):
    rows, edges, _ = archive
    mixed = [*edges]
    random.shuffle(mixed)
    assert represent(rows, mixed, {}) == represent(rows, edges, {})
