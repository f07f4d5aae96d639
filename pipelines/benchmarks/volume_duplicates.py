"""Are planted copies found, and is nothing dropped that only looks like one?

    python -m pipelines.benchmarks.volume_duplicates ../shared/data/volumes --out runs/copies.json

Every made-up patient (see ``planted_volumes``) has one scan, its copies as archives make them, and
scans of the same person that are none: follow-ups and another phase. Copies carry other people's
names, half of the follow-ups too, and no header tells of visits: voxels alone must do. Contrasts of
one visit, registered to each other, are planted beside them. Then a library of all is curated as
ever, and its edges and drops are compared with the truth. Scans of different people of one base
are the negatives: the same anatomy, moved by 12 mm.
"""

import argparse
import json
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from medssl.curation.curate import CurateConfig, decide
from medssl.curation.decisions import Decisions
from medssl.ingest.describe import Origin, catalog_row
from medssl.ingest.measure import store_measured
from medssl.io.deidentify import ScanKeys
from medssl.io.volume import Volume
from medssl.library.catalog import write_catalog
from medssl.library.slices import write_slices
from medssl.runs.environment import describe
from medssl.runs.tracking import TrackingConfig
from medssl.runs.workers import map_unordered
from pipelines.benchmarks.planted_volumes import (
    COPIES,
    LOOK_ALIKES,
    deformed,
    patient_of,
    read_base,
)

IDENTITY: Final = ("byte_copy", "re_export", "header_lie")
LEAST_RECALL: Final[Mapping[str, float]] = {
    **dict.fromkeys(IDENTITY, 1.0),
    **dict.fromkeys(("sharp_kernel", "smooth_kernel", "slab_2", "slab_3"), 0.99),
    **dict.fromkeys(("resample_0.7", "resample_1.4", "z_crop"), 0.99),
    "window_8_bit": 0.9,
}
MAY_BE_MISSED: Final = ("window_8_bit",)
"""One in ten may be, and then nothing ties it to its patient, whose name it does not carry."""
BINDS_ONLY: Final = ("z_shift",)
"""Both have slices that the other lacks: they share a split, and nothing is dropped."""
MOST_FALSE: Final = 1e-4
MOST_DROPPED: Final = 0.005
MIN_SLICES: Final = 8
SLABS_UP_TO_MM: Final = 3.5
"""Nobody averages slices that are thick already."""


class Truth(NamedTuple):
    """What a planted volume is: whose, made how; ``known`` if its name says whose."""

    patient: str
    kind: str
    known: bool


class Plan(NamedTuple):
    """One patient to make."""

    number: int
    bases: tuple[Path, ...]
    """One, or the registered contrasts of one visit."""


def plans(folder: Path, patients: int, visits: int) -> list[Plan]:
    """Return the patients of the suite: of every base in turn, then the visits."""
    files = sorted(p for p in folder.rglob("*") if p.name.endswith((".nii", ".nii.gz", ".mgz")))
    contrasts = tuple(p for p in files if p.name.startswith("btp_"))
    bases = [p for p in files if p not in contrasts[1:]]
    found = [Plan(n, (bases[n % len(bases)],)) for n in range(patients)]
    return found + [Plan(patients + n, contrasts) for n in range(visits if contrasts else 0)]


def plant(library: Path, seed: int, plan: Plan) -> list[tuple[dict[str, Any], Truth]]:
    """Write all volumes of one patient; return their rows of the catalog and what they are."""
    patient = f"p{plan.number:04d}"
    planted = []
    for kind, volume, known in _scans(plan, seed):
        if min(volume.shape) < MIN_SLICES:
            continue
        key = f"{zlib.crc32(f'{patient} {kind}'.encode()):08x}-{patient}-{kind}"
        keys = ScanKeys(
            patient=patient if known else f"somebody with {key}",
            study=f"study {key}",
            series=f"series {key}",
            instance=f"instance {key}",
            patient_known=True,
        )
        file_digest = f"file of {patient}" if kind in ("original", "byte_copy") else f"file {key}"
        measured = store_measured(library, key, volume, partial(str, file_digest))
        origin = Origin(source_format="nifti", source_files=1)
        planted.append((catalog_row(key, keys, measured, origin), Truth(patient, kind, known)))
    return planted


def judged(decisions: Decisions, truth: Mapping[str, Truth]) -> dict[str, Any]:
    """Return the numbers of the table."""
    digest_of = dict(zip(decisions.rows.keys, decisions.rows.values("voxel_digest"), strict=True))
    drops, ties = set(), set()
    for edge in decisions.edges:
        pair = frozenset(digest_of[key] for key in edge.volumes)
        ties.add(pair)
        if edge.drops:
            drops.add(pair)
    original = {t.patient: key for key, t in truth.items() if t.kind == "original"}
    classes: dict[str, Counter[str]] = {}
    for key, (patient, kind, _) in truth.items():
        if patient in original and kind != "original":
            pair = frozenset((digest_of[key], digest_of[original[patient]]))
            wanted = ties if kind in BINDS_ONLY else drops
            counts = classes.setdefault(kind, Counter())
            counts["planted"] += 1
            counts["found"] += len(pair) == 1 or pair in wanted
            counts["dropped"] += key in decisions.representative
    alike = {k for k, t in truth.items() if t.kind in LOOK_ALIKES or t.kind.startswith("visit")}
    wrongly = [
        key
        for key in alike
        if key in decisions.representative
        and truth[decisions.representative[key]].kind != truth[key].kind
    ]
    between = [
        edge for edge in decisions.edges if len({truth[k].patient for k in edge.volumes}) > 1
    ]
    exact = [edge for edge in decisions.edges if edge.kind in ("identical", "re_export")]
    right = sum(
        all(truth[k].kind in (*IDENTITY, "original") for k in edge.volumes)
        and len({truth[k].patient for k in edge.volumes}) == 1
        for edge in exact
    )
    sizes = Counter(t.patient for t in truth.values())
    pairs = (sum(sizes.values()) ** 2 - sum(n * n for n in sizes.values())) // 2
    return {
        "classes": {
            kind: {**counts, "recall": counts["found"] / counts["planted"]}
            for kind, counts in sorted(classes.items())
        },
        "identity_precision": right / len(exact) if exact else 1.0,
        "negative_pairs": pairs,
        "false_copies": sum(edge.drops for edge in between),
        "false_positive_rate": sum(edge.drops for edge in between) / pairs if pairs else 0.0,
        "false_ties": len(between),
        "look_alikes": len(alike),
        "wrongly_dropped": len(wrongly),
        "wrongly_dropped_kinds": dict(Counter(truth[key].kind for key in wrongly)),
        "wrongly_dropped_share": len(wrongly) / max(1, len(alike)),
        "same_split_share": _same_split(decisions, truth, known_only=True),
        "same_split_share_with_unnamed": _same_split(decisions, truth, known_only=False),
        "kinds": dict(Counter(edge.kind for edge in decisions.edges)),
    }


def _same_split(decisions: Decisions, truth: Mapping[str, Truth], *, known_only: bool) -> float:
    """Return the share of patients all of whose kept volumes are in one split.

    ``known_only`` looks at volumes that carry the patient's name, and at copies that must be found.
    """
    splits: dict[str, set[str]] = {}
    for key, split in decisions.split.items():
        patient, kind, known = truth[key]
        if known or not known_only or (kind in COPIES and kind not in MAY_BE_MISSED):
            splits.setdefault(patient, set()).add(split)
    return sum(len(found) == 1 for found in splits.values()) / max(1, len(splits))


def main(arguments: Sequence[str] | None = None) -> int:
    """Plant, curate, print the table, write JSON; 1 if a claim does not hold."""
    options = _options(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        library = Path(scratch)
        todo = plans(options.folder, options.patients, options.visits)
        work = partial(plant, library, options.seed)
        planted = [
            row for rows in map_unordered(work, todo, workers=options.workers) for row in rows
        ]
        truth = {row["volume_key"]: what for row, what in planted}
        write_catalog(library, [row for row, _ in planted], "benchmark")
        write_slices(library, list(truth), fresh=list(truth))
        config = CurateConfig(
            library=library,
            name="all",
            rules=(),
            workers=options.workers,
            splits={"val": 0.3, "test": 0.3},
            tracking=TrackingConfig(enabled=False),
        )
        begin = time.perf_counter()
        decisions = decide(config)
        seconds = time.perf_counter() - begin
    found = judged(decisions, truth) | {"volumes": len(truth), "curate_s": seconds}
    claims = _claims(found)
    holds = _show(found, claims)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        edges = [
            {"of": [truth[k]._asdict() for k in e.volumes], "kind": e.kind, "score": e.score,
             "motion": e.motion_voxels, "bits": [e.bits_full, e.bits_bbox]}
            for e in decisions.edges
        ]  # fmt: skip
        whole = {**found, "claims": claims, "options": _told(options), "environment": describe()}
        options.out.write_text(json.dumps(whole | {"edges": edges}, indent=2) + "\n")
    return 0 if holds else 1


def _scans(plan: Plan, seed: int) -> list[tuple[str, Volume, bool]]:
    """Return what each volume is, the volume, and whether its name says whose it is."""
    rng = np.random.default_rng([seed, plan.number])
    if len(plan.bases) > 1:  # one movement for all contrasts of a visit
        same = [np.random.default_rng([seed, plan.number]) for _ in plan.bases]
        return [
            (f"visit {base.name.split('_')[2]}", deformed(_base(base), 12.0, 30.0, own), True)
            for base, own in zip(plan.bases, same, strict=True)
        ]
    original = patient_of(_base(plan.bases[0]), rng)
    found = [("original", original, True)]
    for kind, alter in COPIES.items():
        if not kind.startswith("slab") or original.spacing_mm[2] <= SLABS_UP_TO_MM:
            found.append((kind, alter(original, rng), False))
    named = plan.number % 2 == 0
    return found + [(kind, alter(original, rng), named) for kind, alter in LOOK_ALIKES.items()]


@lru_cache(maxsize=4)
def _base(path: Path) -> Volume:
    return read_base(path)


def _claims(found: Mapping[str, Any]) -> list[tuple[str, float, float, float]]:
    """Return what is claimed: words, what was found, least and most."""
    recalls = [
        (f"recall of {kind}", found["classes"][kind]["recall"], least, 1.0)
        for kind, least in LEAST_RECALL.items()
        if kind in found["classes"]
    ]
    return [
        *recalls,
        ("precision of identity", found["identity_precision"], 1.0, 1.0),
        ("false positive rate", found["false_positive_rate"], 0.0, MOST_FALSE),
        ("share of look-alikes dropped", found["wrongly_dropped_share"], 0.0, MOST_DROPPED),
        ("patients in one split", found["same_split_share"], 1.0, 1.0),
    ]


def _show(found: Mapping[str, Any], claims: Sequence[tuple[str, float, float, float]]) -> bool:
    console = Console(width=100)
    table = Table(title=f"{found['volumes']} planted volumes, curated in {found['curate_s']:.0f} s")
    for column in ("class", "planted", "edge to its original", "recall", "dropped"):
        table.add_column(column, justify="left" if column == "class" else "right")
    for kind, row in found["classes"].items():
        counts = (str(row[name]) for name in ("planted", "found"))
        table.add_row(kind, *counts, f"{row['recall']:.4f}", str(row["dropped"]))
    console.print(table)
    for name in ("kinds", "negative_pairs", "false_copies", "false_ties", "look_alikes",
                 "wrongly_dropped_kinds", "same_split_share_with_unnamed"):  # fmt: skip
        console.print(f"{name}: {found[name]}")
    held = True
    for what, value, least, most in claims:
        holds = least <= value <= most
        held &= holds
        console.print(f"{what}: {value:.6f} ({least:g} to {most:g}): {'yes' if holds else 'NO'}")
    return held


def _told(options: argparse.Namespace) -> dict[str, str]:
    return {name: str(value) for name, value in vars(options).items() if name != "folder"}


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="real volumes: NIfTI or mgz files")
    parser.add_argument("--patients", type=int, default=60)
    parser.add_argument("--visits", type=int, default=10, help="of three contrasts each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0, help="processes, 0 for one per core")
    parser.add_argument("--out", type=Path, help="where to write the numbers as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
