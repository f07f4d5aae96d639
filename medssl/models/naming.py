"""Which tensor of a file belongs where in a network, when both put different names before it."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from medssl.errors import InputError
from medssl.models.foreign import ForeignWeights

SPELLINGS = (
    ("swin_vit", "swinViT"),
    (".mlp.fc1.", ".mlp.linear1."),
    (".mlp.fc2.", ".mlp.linear2."),
)
"""Older names of the same tensors and what MONAI calls them today."""


@dataclass(frozen=True)
class Match:
    """One copy of a network in a file."""

    before: str
    """What stands before its names in the file, such as ``student.``."""
    names: dict[str, str] = field(default_factory=dict)
    """Name in the network -> name in the file."""

    def extent(self, tensors: Mapping[str, Tensor]) -> tuple[int, int]:
        """Return how many names there are, and how many numbers their tensors hold.

        Names come first: the tensors of one coarse stage may hold more than a whole decoder, a
        few of whose names they share.
        """
        return len(self.names), sum(tensors[name].numel() for name in self.names.values())


def find_network(
    weights: ForeignWeights, wanted: Iterable[str], *, part: str | None = None
) -> Match:
    """Return where the file holds a network whose tensors are called ``wanted``.

    Names are compared from their end: whatever stands before them all, in the file or in the
    network, may differ. Of copies that are equal, as nnU-Net's are, the one named first counts.

    Args:
        weights: The file.
        wanted: The names in the network.
        part: Which of several copies: a name that stands before its tensors, such as ``teacher``.

    Raises:
        InputError: The file holds several different copies, and ``part`` does not say which; or
            it has none called ``part``.
    """
    matches = _matches(weights.tensors, list(wanted))
    if part is not None:
        inside = [match for match in matches if part in match.before.split(".")]
        if not inside:
            raise _no_such_part(weights, matches, part)
        matches = inside
    if not matches:
        return Match("")
    most = max(match.extent(weights.tensors) for match in matches)
    best = [match for match in matches if match.extent(weights.tensors) == most]
    first = min(best, key=lambda match: len(match.before))
    others = [match for match in best if _differ(first, match, weights.tensors)]
    if others:
        copies = ", ".join(sorted(match.before.rstrip(".") for match in [first, *others]))
        raise InputError(
            f"{weights.source}: holds several copies of the network, with different weights: "
            f"{copies}",
            hint="say which, as in part=teacher",
        )
    return first


def _matches(tensors: Mapping[str, Tensor], wanted: list[str]) -> list[Match]:
    """Return a match for each pair of what may stand before names there and here."""
    endings: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for name in wanted:
        first, _, rest = name.partition(".")
        endings[name].append(("", name))
        endings[rest].append((first, name))
    found: dict[tuple[str, str], Match] = {}
    for name in tensors:
        for before, ending in _divided(name):
            for above, target in endings.get(ending, ()):
                match = found.setdefault((before, above), Match(before))
                match.names.setdefault(target, name)
    return list(found.values())


def _divided(name: str) -> Iterator[tuple[str, str]]:
    """Yield (what stands before, ending) of a name, in each of its spellings."""
    today = name
    for old, new in SPELLINGS:
        today = today.replace(old, new)
    for spelling in dict.fromkeys((name, today)):
        parts = spelling.split(".")
        for start in range(len(parts)):
            before = "".join(f"{part}." for part in parts[:start])
            yield before, ".".join(parts[start:])


def _differ(first: Match, second: Match, tensors: Mapping[str, Tensor]) -> bool:
    """Return whether two matches are the same network with different weights."""
    if first.names.keys() != second.names.keys():
        return False
    pairs = [(tensors[name], tensors[second.names[key]]) for key, name in first.names.items()]
    return not all(same(a, b) for a, b in pairs)


def same(first: Tensor, second: Tensor) -> bool:
    """Return whether two tensors hold the same, at best because they are one."""
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    return first.data_ptr() == second.data_ptr() or torch.equal(first, second)


def _no_such_part(weights: ForeignWeights, matches: list[Match], part: str) -> InputError:
    size = {match.before: match.extent(weights.tensors) for match in matches}
    largest = sorted(filter(None, size), key=size.__getitem__, reverse=True)[:4]
    there = ", ".join(before.rstrip(".") for before in largest) or "nothing stands before its names"
    return InputError(
        f"{weights.source}: has no part called {part!r} that fits the encoder",
        hint=f"leave part out, or choose of: {there}",
    )
