"""What each strategy keeps of real volumes, and whether it chooses better than chance.

    python -m pipelines.benchmarks.slice_reduction ../shared/data/volumes --out runs/reduction.json

Every strategy runs with its defaults, and beside it the control ``matched_k``, which keeps as many
slices of every volume by chance (the mean of five draws). Variety is the Vendi score of thumbnails
of 32 x 32 cells, a description that no strategy decides by: kept over all slices that are not air,
of all volumes together. It is given as published, of cosines, and of thumbnails less their mean,
which looks at what differs and not at what all bodies share. The last rows are the published Hash-6
without the two guards, and with them.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from medssl.curation.set_metrics import cover_radius, effective_rank, unit_length, vendi_score
from medssl.curation.slices import VolumeSlices
from medssl.curation.strategies.base import NOBODY, Reduction, Strategy
from medssl.curation.strategies.embedding import Embedding
from medssl.curation.strategies.every_mm import EveryMm
from medssl.curation.strategies.hash import Hash
from medssl.curation.strategies.information import Information
from medssl.curation.strategies.matched_k import MatchedK
from medssl.curation.strategies.ssim import Ssim
from medssl.runs.environment import describe
from pipelines.benchmarks.planted_slices import volumes

MOST_KEPT: Final = 0.25
LEAST_VENDI: Final = 0.98
DRAWS: Final = 5
CELLS: Final = 32
UNGUARDED: Final = {"max_gap_mm": 1e6, "min_foreground": 0.0}

CHOOSING: Final[Mapping[str, Strategy.Config]] = {
    "hash (dct256)": Hash.Config(),
    "ssim": Ssim.Config(),
    "information": Information.Config(),
    "embedding (pca)": Embedding.Config(),
    "every_mm": EveryMm.Config(),
}
OTHERS: Final[Mapping[str, Strategy.Config]] = {
    "Hash-6, published": Hash.Config(kind="dhash64", order="lexicographic", **UNGUARDED),
    "Hash-6, guarded": Hash.Config(kind="dhash64", order="lexicographic"),
}

JUDGED: Final = [name for name in CHOOSING if name != "every_mm"]

Floats = NDArray[np.float64]


class Scans:
    """The volumes, their thumbnails, and which of their slices are not air."""

    def __init__(self, folder: Path) -> None:
        self.slices = [VolumeSlices.of(volume, name) for name, volume in volumes(folder)]
        self.there = [
            np.array([reason is None for reason in EveryMm.Config().build().gate(slices)])
            for slices in self.slices
        ]
        thumbnails = np.concatenate([thumbnails_of(slices) for slices in self.slices])
        self.published = unit_length(thumbnails)
        self.centred = unit_length(thumbnails - thumbnails[self.all].mean(axis=0))

    @property
    def all(self) -> NDArray[np.bool_]:
        """Which slices of all volumes, one after the other, are not air."""
        return np.concatenate(self.there)


def thumbnails_of(slices: VolumeSlices) -> Floats:
    """Return (N, 1024) slices of 32 x 32 cells, whatever their shape."""
    size, images = (CELLS, CELLS), [Image.fromarray(p.astype(np.float32)) for p in slices.levels]
    return np.stack(
        [np.asarray(im.resize(size, Image.Resampling.BOX), np.float64).ravel() for im in images]
    )


def measure(scans: Scans, config: Strategy.Config) -> dict[str, float]:
    """Return what a strategy keeps, and how varied that is beside draws of the same size."""
    begin = time.process_time()
    found = [config.build().reduce(slices) for slices in scans.slices]
    seconds = time.process_time() - begin
    kept = np.concatenate([one.kept for one in found])
    row = {
        "kept": float(kept.sum() / scans.all.sum()),
        "farthest_mm": max(map(farthest_mm, scans.slices, found)),
        **{f"vendi_{name}": value for name, value in vendi_ratios(scans, kept).items()},
        "radius": cover_radius(scans.published, kept | ~scans.all),
        "effective_rank": effective_rank(scans.centred[kept])
        / effective_rank(scans.centred[scans.all]),
        "ms_per_slice": 1e3 * seconds / len(kept),
    }
    drawn = []
    for seed in range(DRAWS):
        control = MatchedK.Config(like=config, seed=seed).build()
        by_chance = np.concatenate([control.reduce(slices).kept for slices in scans.slices])
        drawn.append(vendi_ratios(scans, by_chance))
    return row | {f"chance_{name}": mean(one[name] for one in drawn) for name in drawn[0]}


def vendi_ratios(scans: Scans, kept: NDArray[np.bool_]) -> dict[str, float]:
    """Return the Vendi scores of what is kept, over those of all."""
    described = {"published": scans.published, "centred": scans.centred}
    return {
        name: vendi_score(embeddings[kept]) / vendi_score(embeddings[scans.all])
        for name, embeddings in described.items()
    }


def farthest_mm(slices: VolumeSlices, found: Reduction) -> float:
    """Return the largest distance from a dropped slice to the one that stands for it."""
    shown = np.flatnonzero(found.representative != NOBODY)
    apart = slices.positions_mm[shown] - slices.positions_mm[found.representative[shown]]
    return float(np.abs(apart).max(initial=0.0))


def claims_of(rows: Mapping[str, Mapping[str, float]]) -> dict[str, bool]:
    """Return what must hold, and whether it does."""
    gap_mm = Strategy.Config().max_gap_mm
    guarded = [name for name in rows if name != "Hash-6, published"]
    claims = {
        f"no dropped slice further than {gap_mm:g} mm from its representative": all(
            rows[name]["farthest_mm"] <= gap_mm + 1e-3 for name in guarded
        ),
        "Hash-6 without guards merges slices more than 100 mm apart": (
            rows["Hash-6, published"]["farthest_mm"] > 100  # noqa: PLR2004
        ),
    }
    bounds = f"Vendi at least {LEAST_VENDI}, above chance, at {MOST_KEPT:.0%} kept"
    return claims | {f"{name}: {bounds}": varied(rows[name], "published") for name in JUDGED}


def varied(row: Mapping[str, float], description: str) -> bool:
    """Return whether little is kept, and it is as varied as all, and more than chance is."""
    vendi, chance = row[f"vendi_{description}"], row[f"chance_{description}"]
    return row["kept"] <= MOST_KEPT and vendi >= LEAST_VENDI and vendi > chance


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write JSON; 1 if a claim does not hold."""
    options = _options(arguments)
    scans = Scans(options.folder)
    rows = {name: measure(scans, config) for name, config in {**CHOOSING, **OTHERS}.items()}
    claims = claims_of(rows)
    _show(rows, f"{int(scans.all.sum())} slices of {len(scans.slices)} volumes")
    for claim, holds in claims.items():
        print(f"{claim}: {'yes' if holds else 'NO'}")
    centred = [name for name in JUDGED if varied(rows[name], "centred")]
    print(f"the same of centred thumbnails holds for: {', '.join(centred) or 'none'}")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        result: dict[str, Any] = {"rows": rows, "claims": claims, "environment": describe()}
        result |= {"volumes": {s.volume_key: len(s) for s in scans.slices}}
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if all(claims.values()) else 1


def _show(rows: Mapping[str, Mapping[str, float]], title: str) -> None:
    table = Table(title=title)
    columns = {
        "kept": "{kept:.1%}",
        "farthest mm": "{farthest_mm:.0f}",
        "Vendi": "{vendi_published:.3f}",
        "(chance)": "{chance_published:.3f}",
        "centred": "{vendi_centred:.3f}",
        "(chance) ": "{chance_centred:.3f}",
        "radius": "{radius:.2f}",
        "rank": "{effective_rank:.3f}",
        "ms/slice": "{ms_per_slice:.3f}",
    }
    for column in ("strategy", *columns):
        table.add_column(column, justify="left" if column == "strategy" else "right")
    for name, row in rows.items():
        table.add_row(name, *(text.format(**row) for text in columns.values()))
    Console(width=120).print(table)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="NIfTI volumes; CT in folders called ct")
    parser.add_argument("--out", type=Path, help="where to write the numbers as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
