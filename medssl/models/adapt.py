"""Published weights into an encoder of ours, never without saying what was loaded and what not."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from medssl.errors import InputError
from medssl.models.decoders import Decoder
from medssl.models.encoders.base import Encoder
from medssl.models.fitting import Slot, fitted, slots, stem_names
from medssl.models.foreign import ForeignWeights
from medssl.models.naming import Match, find_network, same

_SHOWN = 6
_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What became of every tensor of a network, and of every tensor of a file."""

    source: str
    """The file's name."""
    found_at: str
    """What stands before the names in the file; empty for nothing."""
    loaded: tuple[str, ...]
    """Tensors of the network taken as they are."""
    adapted: dict[str, str]
    """Tensors of the network taken in another shape, and what was changed."""
    missing: tuple[str, ...]
    """Tensors of the network that the file does not have; they keep their values."""
    mismatched: dict[str, str]
    """Tensors of the network that the file has in a form that does not fit; they keep theirs."""
    unused: tuple[str, ...] = ()
    """Tensors of the file that belong to neither encoder nor decoder."""
    parameters: int
    """Numbers that the network learns."""
    taken: int
    """Those of them that were loaded or adapted."""
    decoder: str = "not looked for"
    """What became of the decoder, in words."""

    @property
    def share(self) -> float:
        """How much of the network was loaded or adapted, 0 to 1."""
        return self.taken / self.parameters

    def counts(self) -> dict[str, int]:
        """Return how many tensors were loaded, adapted, missing, mismatched and unused."""
        kinds = ("loaded", "adapted", "missing", "mismatched", "unused")
        return {kind: len(getattr(self, kind)) for kind in kinds}

    def as_json(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return {**asdict(self), "share": self.share}

    def __str__(self) -> str:
        where = f", under {self.found_at.rstrip('.')}" if self.found_at else ""
        details = {
            "adapted": _by_change(self.adapted),
            "missing": _grouped(self.missing),
            "mismatched": [f"{name}: {how}" for name, how in self.mismatched.items()],
            "unused": _grouped(self.unused),
        }
        lines = [f"{self.source}{where}"]
        for kind, number in self.counts().items():
            lines.append(f"  {kind:<11}{number:>5}")
            lines += [f"      {line}" for line in _shortened(details.get(kind, []))]
        lines.append(f"  parameters  {self.taken:,} of {self.parameters:,} ({self.share:.1%})")
        return "\n".join([*lines, f"  decoder     {self.decoder}"])


def load_weights(
    encoder: Encoder,
    weights: ForeignWeights,
    *,
    part: str | None = None,
    min_loaded: float = 0.9,
    with_decoder: bool = True,
) -> tuple[LoadReport, Decoder | None]:
    """Set the encoder's weights to a file's, and return the file's decoder where it has one.

    Stems are spread over the encoder's input channels, kernels for slices become kernels for
    volumes, tables of positions take the encoder's window or grid.

    Args:
        encoder: Whose weights to set; untouched where too little fits.
        weights: The file.
        part: Which network, where the file holds several: ``teacher``, ``student`` and the like.
        min_loaded: The least share of the encoder's parameters that must fit.
        with_decoder: Look for a decoder. It is returned only where it is whole.

    Raises:
        InputError: Less than ``min_loaded`` fits, what fits holds values that are not numbers,
            or ``part`` does not say which of several networks is meant.
    """
    found = _fit(weights, slots(encoder, stem_names(encoder)), part)
    used = {item.source for item in found.values()}
    report = replace(_report(encoder, weights, found), unused=_unused(weights, used))
    if report.share < min_loaded:
        raise _too_little(report, min_loaded)
    _check_numbers(weights, found)
    decoder: Decoder | None = None
    if with_decoder:
        left = {name: value for name, value in weights.tensors.items() if name not in used}
        decoder, words, inside = _decoder(encoder, ForeignWeights(weights.source, left), part)
        used |= {item.source for item in inside.values()}
        report = replace(report, decoder=words, unused=_unused(weights, used))
    _set(encoder, found)
    return report, decoder


@dataclass(frozen=True)
class _Found:
    """What the file has for one place of a network."""

    source: str
    before: str
    value: Tensor | None
    """None where it does not fit."""
    words: str


def _fit(weights: ForeignWeights, places: dict[str, Slot], part: str | None) -> dict[str, _Found]:
    match: Match = find_network(weights, places, part=part)
    found = {}
    for name, source in match.names.items():
        theirs, slot = weights.tensors[source], places[name]
        result = fitted(theirs, slot, window_places=_window_places(weights, match, name))
        if result is None:
            found[name] = _Found(source, match.before, None, _misfit(theirs, slot.value))
        else:
            found[name] = _Found(source, match.before, *result)
    return found


def _window_places(weights: ForeignWeights, match: Match, name: str) -> int | None:
    """Return the places of the file's window: the rows of the index beside the table ``name``."""
    beside = match.names.get(f"{name.rpartition('.')[0]}.relative_position_index")
    shape = weights.tensors[beside].shape if beside else ()
    return shape[0] if shape else None


def _misfit(theirs: Tensor, mine: Tensor) -> str:
    if theirs.shape != mine.shape:
        return f"{tuple(theirs.shape)} in the file, {tuple(mine.shape)} here"
    if theirs.is_floating_point() != mine.is_floating_point():
        return f"{theirs.dtype} in the file, {mine.dtype} here"
    return f"{tuple(theirs.shape)} in both, but for windows with another number of axes"


def _check_numbers(weights: ForeignWeights, found: dict[str, _Found]) -> None:
    sources = {item.source for item in found.values() if item.value is not None}
    bad = [name for name in sources if not bool(weights.tensors[name].isfinite().all())]
    if bad:
        raise InputError(
            f"{weights.source}: {len(bad)} of {len(sources)} tensors hold values that are not "
            f"numbers, such as {min(bad)}",
            hint="the training that made it diverged: take an earlier checkpoint",
        )


def _report(module: nn.Module, weights: ForeignWeights, found: dict[str, _Found]) -> LoadReport:
    fits = {name: item for name, item in found.items() if item.value is not None}
    parameters = {name: value.numel() for name, value in module.named_parameters()}
    derived = {name for name, value in module.named_buffers() if not value.is_floating_point()}
    missing = [name for name in module.state_dict() if name not in found and name not in derived]
    return LoadReport(
        source=weights.source,
        found_at=next((item.before for item in found.values()), ""),
        loaded=tuple(name for name, item in fits.items() if not item.words),
        adapted={name: item.words for name, item in fits.items() if item.words},
        missing=tuple(missing),
        mismatched={name: item.words for name, item in found.items() if name not in fits},
        parameters=sum(parameters.values()),
        taken=sum(parameters.get(name, 0) for name in fits),
    )


@torch.no_grad()
def _set(module: nn.Module, found: dict[str, _Found]) -> None:
    state = module.state_dict()
    for name, item in found.items():
        if item.value is not None:
            state[name].copy_(item.value)


def _decoder(
    encoder: Encoder, weights: ForeignWeights, part: str | None
) -> tuple[Decoder | None, str, dict[str, _Found]]:
    """Return the file's decoder where it is whole, what became of it, and its tensors."""
    decoder = encoder.decoder()
    try:
        found = _fit(weights, slots(decoder), part)
    except InputError:  # of several networks, or of this part, none has a decoder
        found = {}
    whole = bool(found) and all(item.value is not None for item in found.values())
    every = len(decoder.state_dict())
    if not whole or len(found) < every:
        words = f"not taken: {len(found)} of {every} tensors" if found else "none in the file"
        return None, words, {}
    _check_numbers(weights, found)
    _set(decoder, found)
    return decoder, f"taken whole, {every} tensors", found


def _unused(weights: ForeignWeights, used: set[str]) -> tuple[str, ...]:
    """Return the names in the file that nothing was taken from, but for second names."""
    by_shape: dict[torch.Size, list[Tensor]] = {}
    for name in used:
        value = weights.tensors[name]
        by_shape.setdefault(value.shape, []).append(value)
    return tuple(
        name
        for name, value in weights.tensors.items()
        if name not in used and not _second_name(value, by_shape.get(value.shape, []))
    )


def _second_name(value: Tensor, taken: list[Tensor]) -> bool:
    """Return whether ``value`` is one of ``taken``; biases that are all 0 are alike by chance."""
    if any(value.data_ptr() == other.data_ptr() for other in taken):
        return True
    return bool((value != value.flatten()[:1]).any()) and any(same(value, t) for t in taken)


def _too_little(report: LoadReport, min_loaded: float) -> InputError:
    if report.mismatched:
        advice = (
            "the sizes or the kinds of numbers differ: set the encoder's options to those of the "
            "file, and give a file of floating-point weights"
        )
    elif report.loaded:
        share = math.floor(100 * report.share) / 100
        advice = f"set min_loaded to {share} if the rest may begin at random"
    else:
        advice = "the file is of another network: choose that encoder"
    return InputError(
        f"{report.source}: only {report.share:.1%} of the encoder's parameters fit, "
        f"{min_loaded:.1%} are asked for\n{report}",
        hint=advice,
    )


def _by_change(adapted: dict[str, str]) -> list[str]:
    """Return one line for all tensors that were changed alike."""
    groups: dict[str, list[str]] = {}
    for name, words in adapted.items():
        groups.setdefault(words, []).append(name)
    return [
        f"{words} ({len(names)}): {', '.join(names[:_NAMED])}{', ...' * (len(names) > _NAMED)}"
        for words, names in groups.items()
    ]


def _grouped(names: Iterable[str]) -> list[str]:
    """Return one line for all names that begin alike."""
    groups = Counter(".".join(name.split(".")[:2]) for name in names)
    return [f"{group} ({number})" for group, number in groups.items()]


def _shortened(lines: list[str]) -> list[str]:
    more = len(lines) - _SHOWN
    return lines[:_SHOWN] + ([f"and {more} more"] if more > 0 else [])
