"""Training curves as a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from medssl.runs.folder import atomic_path


def draw_curves(
    path: Path, rows: Sequence[Mapping[str, float]], panels: Mapping[str, Sequence[str]]
) -> None:
    """Write a PNG with one panel per entry of ``panels``.

    Args:
        path: The PNG to write.
        rows: Recorded numbers, each row with its ``step``.
        panels: Title of a panel -> names of the numbers drawn in it. A name that ends in
            ``_constant`` is a bound, drawn dashed; names that were never recorded are left out.
    """
    figure = Figure(figsize=(5 * len(panels), 4.4), layout="constrained")
    for axes, (title, names) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for name in names:
            points = [(row["step"], row[name]) for row in rows if name in row]
            if points:
                style = "--" if name.endswith("_constant") else "-"
                axes.plot(*zip(*points, strict=True), style, label=name, linewidth=1.2)
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(
                loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize=7, frameon=False
            )
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
