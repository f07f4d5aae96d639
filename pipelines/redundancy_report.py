"""The tables of ``redundancy_study``: AUROC with intervals, steps, seconds, and what they say."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from medssl.evaluation.classification_metrics import auroc
from medssl.evaluation.intervals import rows_by_patient

SCRATCH: Final = "scratch"
Floats = NDArray[np.float64]
Row = dict[str, Any]


def auroc_draws(
    target_N: Floats, scores_SN: Floats, patient_keys: Sequence[str], draws: int
) -> Floats:
    """Return the mean AUROC over seeds, ``(draws,)``, with seeds and patients drawn anew.

    Both with replacement and independently, as Owen 2007 (Ann Appl Stat 1:386) draws rows and
    columns; all images of a patient come along. A draw of one class alone is NaN. The same patients
    and seeds are drawn whatever the scores, so differences of two results are paired.
    """
    rows, rng = rows_by_patient(patient_keys), np.random.default_rng(0)
    found = np.empty(draws)
    for draw in range(draws):
        seeds = rng.integers(len(scores_SN), size=len(scores_SN))
        patients = rng.integers(len(rows), size=len(rows))
        index = np.concatenate([rows[patient] for patient in patients])
        found[draw] = np.mean([auroc(target_N[index], scores_SN[seed, index]) for seed in seeds])
    return found


def summarise(
    scored: pd.DataFrame, timed: pd.DataFrame, kept: Mapping[str, int], draws: int
) -> list[Row]:
    """Return a row per arm: AUROC, its differences to scratch and to the first arm, and time.

    Args:
        scored: A row per arm, seed and image: target, probability, patient, ``val_auroc``.
        timed: A row per arm and seed: steps and seconds of the pretraining.
        kept: Slices of each arm's selection; the first one is the arm of all slices.
        draws: Of seeds and patients.
    """
    images = list(dict.fromkeys(scored["case_key"]))
    about = scored.drop_duplicates("case_key").set_index("case_key").loc[images]
    target_N, patients = about["target"].to_numpy(float), list(about["patient_key"])
    scores = {
        arm: rows.pivot(index="seed", columns="case_key", values="probability")[images].to_numpy()
        for arm, rows in scored.groupby("arm")
    }
    drawn = {arm: auroc_draws(target_N, of, patients, draws) for arm, of in scores.items()}
    by_seed = {arm: [auroc(target_N, s) for s in of] for arm, of in scores.items()}
    first = next(iter(kept))
    found = list[Row]()
    for arm in (SCRATCH, *kept):
        row: Row = {"arm": arm, "auroc": float(np.mean(by_seed[arm])), "by_seed": by_seed[arm]}
        row |= _ends("", drawn[arm])
        row["val_auroc"] = float(scored.loc[scored["arm"] == arm, "val_auroc"].mean())
        for name, other in (("gain", SCRATCH), ("to_all", first)):
            row[name] = row["auroc"] - float(np.mean(by_seed[other]))
            row |= _ends(f"{name}_", drawn[arm] - drawn[other])
        if arm != SCRATCH:
            mine = timed[timed["arm"] == arm]
            row |= {"slices": kept[arm], "steps": int(mine["steps"].iloc[0])}
            row["seconds"] = float(mine["seconds"].median())
        found.append(row)
    return found


def _ends(prefix: str, draws_R: Floats) -> Row:
    low, high = np.nanpercentile(draws_R, [2.5, 97.5])
    return {f"{prefix}low": float(low), f"{prefix}high": float(high)}


def show(found: Sequence[Row], console: Console) -> None:
    """Print one line per arm."""
    table = Table(
        title="COVID-CT, official validation list held aside: AUROC, and pretraining time"
    )
    columns = ("pretrained on", "slices", "steps", "seconds", "shorter", "AUROC", "95 %", "seeds")
    for name in (*columns, "less scratch", "less all", "validation"):
        table.add_column(name, no_wrap=name == columns[0])
    whole = found[1]
    for row in found:
        pretrained = "steps" in row
        table.add_row(
            row["arm"],
            *(
                (str(row["slices"]), str(row["steps"]), f"{row['seconds']:.0f}",
                 f"{whole['steps'] / row['steps']:.1f}x")
                if pretrained else ("", "", "", "")
            ),
            f"{row['auroc']:.3f}", f"{row['low']:.2f} to {row['high']:.2f}",
            " ".join(f"{value:.2f}" for value in row["by_seed"]),
            _difference(row, "gain") if pretrained else "",
            _difference(row, "to_all") if pretrained and row is not whole else "",
            f"{row['val_auroc']:.3f}",
        )  # fmt: skip
    console.print(table)


def _difference(row: Row, name: str) -> str:
    return f"{row[name]:+.3f} ({row[f'{name}_low']:+.2f} to {row[f'{name}_high']:+.2f})"


def show_shortcuts(found: Sequence[Row], console: Console) -> None:
    """Print what classifiers reach that do not see the slice."""
    table = Table(title="Logistic regression that does not see the slice")
    for name in ("sees", "AUROC", "95 %", "validation"):
        table.add_column(name)
    for row in found:
        table.add_row(
            row["shortcut"], f"{row['auroc']:.3f}", f"{row['low']:.2f} to {row['high']:.2f}",
            f"{row['val_auroc']:.3f}",
        )  # fmt: skip
    console.print(table)


def sentence(found: Sequence[Row], shortcuts: Sequence[Row]) -> str:
    """Return in words what the numbers show beside what was published, and what they cannot."""
    whole, reduced = found[1], found[2:]
    best = max(reduced, key=lambda row: row["auroc"])
    briefest = min(reduced, key=lambda row: row["steps"])
    blind = max(shortcuts, key=lambda row: row["auroc"])
    return (
        "Published: AUROC 0.78 with all slices, 0.83 with the reduced ones, pretraining up to 9x "
        f"faster. Here: {whole['auroc']:.2f} with all {whole['slices']} slices; {best['auroc']:.2f}"
        f" with {best['arm']}, the best of {len(reduced)} others, picked on these very images; "
        f"pretraining up to {whole['steps'] / briefest['steps']:.1f}x shorter ({briefest['arm']}), "
        "because passes over fewer slices are fewer steps. Interval of the difference without 0, "
        f"of {len(reduced)} to all slices: {_apart(reduced, 'to_all')}; of {len(found) - 1} to "
        f"scratch: {_apart(found[1:], 'gain')}; not corrected for their number. AUROC on this set "
        "partly measures the source of a picture, not the disease: positives are from preprints, "
        "negatives from MedPix and the web, sizes, borders and burned-in text differ, and "
        f"{blind['shortcut']} alone reaches {blind['auroc']:.2f} ({blind['low']:.2f} to "
        f"{blind['high']:.2f})."
    )


def _apart(rows: Sequence[Row], name: str) -> str:
    """Return the arms whose difference has an interval on one side of 0."""
    apart = [row["arm"] for row in rows if row[f"{name}_low"] > 0 or row[f"{name}_high"] < 0]
    return ", ".join(apart) or "none"
