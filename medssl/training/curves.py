"""Training curves as a picture."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medssl.runs.folder import atomic_path

_CONSTANT = "_constant"
"""How the name of a bound ends; the rest of it names what is bounded."""
_COLUMNS = 3


def draw_curves(
    path: Path, rows: Sequence[Mapping[str, float]], panels: Mapping[str, Sequence[str]]
) -> None:
    """Write a PNG with one panel per entry of ``panels``.

    Args:
        path: The PNG to write.
        rows: Recorded numbers, each row with its ``step``.
        panels: Title of a panel -> names of the numbers drawn in it. A name that ends in
            ``_constant`` is a bound, drawn dashed in the colour of what it bounds; names that
            were never recorded are left out.
    """
    columns = min(len(panels), _COLUMNS)
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(5 * columns, 4.4 * lines), layout="constrained")
    grid = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    for axes, (title, names) in zip(grid, panels.items(), strict=False):
        _draw(axes, rows, names)
        axes.set(title=title, xlabel="step")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def _draw(axes: Axes, rows: Sequence[Mapping[str, float]], names: Sequence[str]) -> None:
    bounded = dict.fromkeys(name.removesuffix(_CONSTANT) for name in names)
    colours = {name: f"C{number % 10}" for number, name in enumerate(bounded)}
    for name in names:
        points = [(row["step"], row[name]) for row in rows if name in row]
        if points:
            style = "--" if name.endswith(_CONSTANT) else "-"
            colour = colours[name.removesuffix(_CONSTANT)]
            axes.plot(*zip(*points, strict=True), style, color=colour, label=name, linewidth=1.2)
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize=7, frameon=False
        )


def pretraining_panels(recorded: Iterable[str]) -> dict[str, list[str]]:
    """Return the panels of a pretraining: numbers of one kind and one scale together.

    Args:
        recorded: Names of everything that was recorded; a panel without any is left out.
    """
    names = sorted(set(recorded) - {"step", "lr"})
    own = [n for n in names if "/" not in n and n != "gradient_norm" and not _cosine(n)]
    panels = {
        "training": own,
        "unseen volumes": [n for n in names if n.startswith("val/") and not _cosine(n)],
        "probe on labelled volumes": [n for n in names if n.startswith("probe/")],
        "collapse watch: rank": [n for n in names if n == "collapse/effective_rank"],
        "collapse watch: spread and cosines": [
            n for n in names if n == "collapse/std_ratio" or _cosine(n)
        ],
        "gradient before clipping": [n for n in names if n == "gradient_norm"],
        "speed: crops per second": [n for n in names if n == "speed/crops_per_s"],
        "speed: share of time waiting for data": [n for n in names if n == "speed/waiting_share"],
        "speed: GPU memory (GiB)": [n for n in names if n == "speed/gpu_memory_gib"],
    }
    return {title: found for title, found in panels.items() if found}


def _cosine(name: str) -> bool:
    return name.endswith("_cosine")
