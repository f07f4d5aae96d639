"""The root digest is that of RFC 6962, and changes with any ground of any decision."""

import hashlib
import json

from hypothesis import given
from hypothesis import strategies as st

from medssl.curation.ledger import GROUNDS, LEDGER_COLUMNS, MerkleRoot

words = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=6)
rows = st.lists(
    st.fixed_dictionaries({"item": words, "decision": words, "score": st.none() | st.floats(0, 1)}),
    max_size=33,
)


def whole(part):
    return dict.fromkeys(LEDGER_COLUMNS, "") | part


def root(parts):
    made = MerkleRoot()
    for part in parts:
        made.add(whole(part))
    return made.hexdigest()


def slow_root(leaves):
    """RFC 6962, section 2.1, word for word: split at the largest power of two below n."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + slow_root(leaves[:k]) + slow_root(leaves[k:])).digest()


@given(rows)
def test_it_is_the_tree_of_the_standard(parts):
    leaves = [
        json.dumps([whole(part)[column] for column in GROUNDS], separators=(",", ":")).encode()
        for part in parts
    ]
    assert root(parts) == slow_root(leaves).hex()


@given(rows.filter(bool), st.data())
def test_any_change_of_a_ground_changes_it(parts, data):
    place = data.draw(st.integers(0, len(parts) - 1))
    other = [*parts]
    other[place] = parts[place] | {"reason": "another"}
    assert root(other) != root(parts)


@given(rows.filter(bool))
def test_day_and_machine_change_nothing(parts):
    elsewhere = [part | {"time": "later", "code_version": "2", "run_id": "x"} for part in parts]
    assert root(elsewhere) == root(parts)
