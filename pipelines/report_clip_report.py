"""The table and the figure of ``report_clip``: recall, AUROC, intervals and differences."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from medssl.evaluation.classification_metrics import auroc
from medssl.evaluation.intervals import Estimate, pigeonhole_mean
from medssl.runs.folder import atomic_path
from pipelines.redundancy_report import auroc_draws

K: Final = 10
BAG: Final = 3
"""Images from which on a case counts as a bag."""
GOALS: Final = {"times_chance": 2.5, "modality": 0.93, "region": 0.78}
WAYS: Final = {"image_to_text": "image to text", "text_to_image": "text to image"}

Tree = dict[str, Any]
Floats = NDArray[np.float64]


def summarise(scored: Sequence[Tree], regions: Sequence[str], draws: int) -> Tree:
    """Return all numbers of a study.

    Means are over seeds; intervals (95 %) draw seeds and cases anew, and all images of a case come
    along. Differences to the first arm are of the same cases in the same draws.

    Args:
        scored: What every arm and seed said of every case, the same cases each.
        regions: In the order of the scores.
        draws: Of seeds and cases.
    """
    runs = dict[str, list[Tree]]()
    for one in scored:
        runs.setdefault(one["arm"], []).append(one)
    first = next(iter(runs))
    aurocs = {arm: _aurocs(of, regions, draws) for arm, of in runs.items()}
    rows = list[Tree]()
    for arm, of_arm in runs.items():
        row: Tree = {"arm": arm, "seeds": [one["seed"] for one in of_arm]}
        row["retrieval"] = {
            texts: {way: _recall(of_arm, _hits(texts, way), draws) for way in WAYS}
            for texts in of_arm[0]["retrieval"]
        }
        row["bags"] = {way: _bags(of_arm, way, draws) for way in WAYS}
        row |= {name: _ends(*of) for name, of in aurocs[arm].items()}
        row["to_first"] = {
            **{way: _compared(of_arm, runs[first], way, draws) for way in WAYS},
            **{
                name: _ends(value - aurocs[first][name][0], drawn - aurocs[first][name][1])
                for name, (value, drawn) in aurocs[arm].items()
            },
        }
        rows.append(row)
    cases = len(scored[0]["cases"])
    bags = sum(count >= BAG for count in scored[0]["images"])
    images = sum(scored[0]["images"])
    return {
        "cases": cases, "images": images, "bags": bags, "chance": min(K / cases, 1.0), "rows": rows,
    }  # fmt: skip


def _hits(texts: str, way: str) -> Callable[[Tree], list[float]]:
    return lambda one: list(one["retrieval"][texts][way][f"recall@{K}"])


def _recall(of_arm: Sequence[Tree], hits: Callable[[Tree], list[float]], draws: int) -> Tree:
    return _told(pigeonhole_mean(np.array([hits(one) for one in of_arm]), resamples=draws))


def _compared(of_arm: Sequence[Tree], others: Sequence[Tree], way: str, draws: int) -> Tree:
    hits = _hits(next(iter(of_arm[0]["retrieval"])), way)
    paired = [
        np.subtract(hits(one), hits(other)) for one, other in zip(of_arm, others, strict=True)
    ]
    return _told(pigeonhole_mean(np.array(paired), resamples=draws))


def _bags(of_arm: Sequence[Tree], way: str, draws: int) -> Tree:
    """Return recall of cases of several images by all of them, by one, and the difference."""
    large_P = np.array(of_arm[0]["images"]) >= BAG
    hits = _hits(next(iter(of_arm[0]["retrieval"])), way)
    together_SP = np.array([hits(one) for one in of_arm])[:, large_P]
    alone_SP = np.array([one["alone"][way] for one in of_arm])[:, large_P]
    return {
        "all_images": _told(pigeonhole_mean(together_SP, resamples=draws)),
        "one_image": _told(pigeonhole_mean(alone_SP, resamples=draws)),
        "gain": _told(pigeonhole_mean(together_SP - alone_SP, resamples=draws)),
    }


def _aurocs(
    of_arm: Sequence[Tree], regions: Sequence[str], draws: int
) -> dict[str, tuple[float, Floats]]:
    """Return the mean AUROC over seeds and its draws, for CT, for each region, and their mean."""
    patients = of_arm[0]["patient"]
    targets = {"modality": np.array(of_arm[0]["ct"], float)}
    scores = {"modality": np.array([one["ct_score"] for one in of_arm])}
    for number, region in enumerate(regions):
        targets[region] = np.array(of_arm[0]["regions"], float)[:, number]
        scores[region] = np.array([one["region_scores"] for one in of_arm])[:, :, number]
    found = {
        name: (
            float(np.mean([auroc(target_N, score_N) for score_N in scores[name]])),
            auroc_draws(target_N, scores[name], patients, draws),
        )
        for name, target_N in targets.items()
    }
    macro = float(np.mean([found[name][0] for name in regions]))
    return {**found, "region": (macro, np.mean([found[name][1] for name in regions], axis=0))}


def _told(of: Estimate) -> Tree:
    return {"mean": of.mean, "low": of.low, "high": of.high}


def _ends(value: float, draws_R: Floats) -> Tree:
    low, high = np.nanpercentile(draws_R, [2.5, 97.5])
    return {"mean": value, "low": float(low), "high": float(high)}


def table(found: Tree, score_on: str) -> str:
    """Return the numbers as Markdown, and what they show."""
    chance, rows = found["chance"], found["rows"]
    texts = list(rows[0]["retrieval"])
    first, seeds = rows[0]["arm"], len(rows[0]["seeds"])
    asked = f"{found['cases']} cases ({found['images']} images) of `{score_on}`"
    lines = [
        f"# MedPix, {asked}, mean of {seeds} seeds",
        "",
        f"Recall at {K} of cases by all their images, chance {chance:.3f}. Zero-shot AUROC of",
        "single images. In brackets 95 % with seeds and cases drawn anew.",
        "",
        _line("arm", *(f"{w}, text `{t}`" for t in texts for w in WAYS.values()),
              "CT or MR", "region, macro"),
        _line(*["---"] * (3 + len(texts) * len(WAYS))),
    ]  # fmt: skip
    for row in rows:
        recalls = [row["retrieval"][t][way] for t in texts for way in WAYS]
        cells = [f"{of['mean'] / chance:.2f}x, {_cell(of)}" for of in recalls]
        lines.append(_line(row["arm"], *cells, _cell(row["modality"]), _cell(row["region"])))
    lines += [
        "",
        f"Less `{first}`, same cases and seeds:",
        "",
        _line("arm", *WAYS.values(), "CT or MR", "region, macro"),
        _line(*["---"] * 5),
    ]
    for row in rows[1:]:
        differences = [row["to_first"][name] for name in (*WAYS, "modality", "region")]
        lines.append(_line(row["arm"], *(_cell(of, "+") for of in differences)))
    lines += [
        "",
        f"The {found['bags']} cases of {BAG} images or more, by all images less by one of them:",
        "",
        _line("arm", *WAYS.values()),
        _line(*["---"] * 3),
    ]
    for row in rows:
        bags = [row["bags"][way] for way in WAYS]
        cells = [
            f"{of['all_images']['mean']:.3f} - {of['one_image']['mean']:.3f} = "
            f"{_cell(of['gain'], '+')}"
            for of in bags
        ]
        lines.append(_line(row["arm"], *cells))
    return "\n".join([*lines, "", sentence(found), ""])


def sentence(found: Tree) -> str:
    """Return which arms reach all goals, and which are apart from the first one."""
    rows, first = found["rows"], found["rows"][0]["arm"]
    reached = [row["arm"] for row in rows if reaches(row, found["chance"])]
    apart = [
        f"{row['arm']} ({name})"
        for row in rows[1:]
        for name in (*WAYS, "modality", "region")
        if row["to_first"][name]["low"] > 0 or row["to_first"][name]["high"] < 0
    ]
    return (
        f"Recall {GOALS['times_chance']:g}x chance both ways, AUROC {GOALS['modality']} for CT or "
        f"MR and {GOALS['region']} for the region: {', '.join(reached) or 'no arm'}. Interval of "
        f"the difference to {first} without 0, not corrected for their number: "
        f"{', '.join(apart) or 'none'}."
    )


def reaches(row: Tree, chance: float) -> bool:
    """Return whether an arm reaches all goals, by its means and the first texts."""
    texts = next(iter(row["retrieval"].values()))
    return bool(
        all(texts[way]["mean"] >= GOALS["times_chance"] * chance for way in WAYS)
        and row["modality"]["mean"] >= GOALS["modality"]
        and row["region"]["mean"] >= GOALS["region"]
    )


def draw(found: Tree, path: Path) -> None:
    """Draw what every arm reaches, with its interval, and the goals as lines."""
    rows, chance = found["rows"], found["chance"]
    arms = [row["arm"] for row in rows]
    figure = Figure(figsize=(12, 0.5 * len(rows) + 1.6), layout="constrained")
    panels = figure.subplots(1, 4, sharey=True)
    shown = {
        **{
            f"recall@{K}, {said}": (
                [next(iter(row["retrieval"].values()))[way] for row in rows],
                [chance, GOALS["times_chance"] * chance],
            )
            for way, said in WAYS.items()
        },
        "AUROC, CT or MR": ([row["modality"] for row in rows], [0.5, GOALS["modality"]]),
        "AUROC, region": ([row["region"] for row in rows], [0.5, GOALS["region"]]),
    }
    for panel, (title, (values, lines)) in zip(panels, shown.items(), strict=True):
        means = np.array([of["mean"] for of in values])
        ends = np.abs(np.array([[of["low"], of["high"]] for of in values]).T - means)
        panel.errorbar(means, range(len(arms)), xerr=ends, fmt="o", color="black", capsize=3)
        for place, style in zip(lines, (":", "--"), strict=True):
            panel.axvline(place, color="grey", linestyle=style)
        panel.set_title(title, fontsize=10)
    panels[0].set_yticks(range(len(arms)), arms)
    panels[0].invert_yaxis()
    figure.supxlabel("mean and 95 % interval; dotted: chance, dashed: goal", fontsize=9)
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=130)


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(of: Tree, sign: str = "") -> str:
    return f"{of['mean']:{sign}.3f} ({of['low']:{sign}.2f} to {of['high']:{sign}.2f})"
