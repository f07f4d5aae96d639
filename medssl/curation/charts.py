"""The charts of the report, as SVG: what the numbers were before and after, and a map."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from numpy.typing import NDArray

COLOURS: Final = {
    "keep": "#2f9e6b",
    "demote": "#3f7fd0",
    "drop": "#d9903f",
    "exclude": "#b9c2cf",
    "review": "#8a4fd0",
}
"""By decision, in the order in which they are told."""
_STYLE: Final[Any] = {
    "svg.hashsalt": "medssl",  # the same bytes every time
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_BINS = 40

Floats = NDArray[np.float64]


def distributions(before: Mapping[str, Floats], is_kept: NDArray[np.bool_]) -> str:
    """Return histograms of each measure over all volumes (grey) and over the kept (green).

    Args:
        before: (N,) by label; what is not finite is not known, and left out.
        is_kept: (N,) which of them are kept.
    """
    known = {label: values for label, values in before.items() if np.isfinite(values).any()}
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(3.1 * max(len(known), 1), 2.3), layout="constrained")
        for axes, (label, values) in zip(
            figure.subplots(1, max(len(known), 1), squeeze=False)[0], known.items(), strict=False
        ):
            finite = np.isfinite(values)
            low, high = np.percentile(values[finite], (0.5, 99.5))
            edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
            shown = np.clip(values, edges[0], edges[-1])
            axes.hist(shown[finite], edges, color="#d8dde5", label="all")
            axes.hist(shown[finite & is_kept], edges, color=COLOURS["keep"], label="kept")
            missing = int((~finite).sum())
            axes.set_xlabel(label + (f"\n(not stated by {missing})" if missing else ""))
            axes.set_ylabel("volumes")
        if known:
            figure.axes[0].legend(frameon=False, loc="upper right")  # "best" may take long
        return _svg(figure)


def decision_map(vectors_ND: Floats, decisions: Sequence[str], what: str) -> str:
    """Return the first two principal components of ``vectors_ND``, coloured by decision."""
    xy_N2 = principal_plane(vectors_ND)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        axes = figure.subplots()
        told = np.array(decisions)
        size = float(np.clip(2000 / max(len(told), 1), 4, 40))
        for decision, colour in reversed(COLOURS.items()):
            here = told == decision
            if here.any():
                x, y = xy_N2[here].T
                axes.scatter(x, y, s=size, c=colour, alpha=0.8, label=decision, lw=0)
        axes.set_xlabel(f"first principal component of the {what}")
        axes.set_ylabel("second")
        axes.set_xticks([])
        axes.set_yticks([])
        handles, labels = axes.get_legend_handles_labels()
        if handles:
            axes.legend(handles[::-1], labels[::-1], frameon=False, loc="upper left")
        return _svg(figure)


def principal_plane(vectors_ND: Floats) -> Floats:
    """Return (N, 2) coordinates along the two directions of the largest variance.

    The sign of a direction is free; it is chosen so that its largest coefficient is positive.
    """
    centred_ND = vectors_ND - vectors_ND.mean(axis=0)
    if len(centred_ND) < 2:  # noqa: PLR2004  a single point has no direction
        return np.zeros((len(centred_ND), 2))
    _, _, directions_KD = np.linalg.svd(centred_ND, full_matrices=False)
    directions_KD = directions_KD[:2]
    largest = np.abs(directions_KD).argmax(axis=1)
    signs = np.sign(directions_KD[np.arange(len(directions_KD)), largest])
    xy: Floats = centred_ND @ (directions_KD * np.where(signs == 0, 1, signs)[:, None]).T
    return np.pad(xy, ((0, 0), (0, 2 - xy.shape[1])))


def bits_of(signatures: Sequence[bytes]) -> Floats:
    """Return (N, 256) signatures as numbers, 0 or 1 each."""
    packed = np.frombuffer(b"".join(signatures), np.uint8).reshape(len(signatures), -1)
    return np.unpackbits(packed, axis=1).astype(np.float64)


def _svg(figure: Figure) -> str:
    """Return the figure as an SVG element to stand in a page: no file, no date, no outer frame."""
    FigureCanvasSVG(figure)
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    svg = file.getvalue()
    return re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
