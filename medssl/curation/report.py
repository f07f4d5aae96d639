"""One self-contained HTML page: what was kept, what went, why, and beside what.

Bounded whatever the size of the library: numbers are of all volumes, pictures of some.
"""

import base64
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from medssl.curation.charts import COLOURS, bits_of, decision_map, distributions
from medssl.curation.decisions import SPLITS, Decisions, equal_voxels
from medssl.curation.diversify import embeddings_of
from medssl.curation.edges import KINDS, Edge
from medssl.curation.review import OF_A_PAIR
from medssl.errors import MedSSLError
from medssl.library.page import write_page
from medssl.library.pictures import data_uri
from medssl.library.volumes import read_picture

MOST_ON_THE_MAP: Final = 4000
LARGE_GROUP_SHARE: Final = 0.1
LARGE_GROUP_PATIENTS: Final = 50
_LEAST_PATIENTS: Final = 3
"""Groups that hold more of either are shown: a wrong edge may have chained people together. Two
people are no chain."""

WORDS: Final = {
    "keep": "kept",
    "demote": "other views of a kept volume",
    "drop": "copies of a kept volume",
    "exclude": "excluded",
    "review": "left out until a person looks",
}


def write_report(
    path: Path,
    library: Path,
    decisions: Decisions,
    proofs: Mapping[str, Edge],
    borderline: Sequence[Edge],
    pictures: int,
    embeddings: Path | None = None,
) -> list[dict[str, Any]]:
    """Write the page, pictures included, and return the groups that are too large to be trusted.

    It names volumes and patients by their pseudonyms only.

    Args:
        path: The HTML file.
        library: Where the pictures are read from.
        decisions: All of them.
        proofs: Of what is dropped or demoted, the edge that explains it.
        borderline: Pairs for a person to judge.
        pictures: How many kept volumes are shown at most, and as many of each kind of the others.
        embeddings: What the map is made of; without it, of signatures.
    """
    large = large_groups(decisions)
    fates = [decisions.fate(key, proofs.get(key)) for key in decisions.rows.keys]
    copies = sorted(decisions.representative)[:pictures]
    out = sorted(decisions.excluded)[:pictures]
    write_page(
        path,
        "medssl.curation",
        cards=[(WORDS[fate], count) for fate, count in _in_order(Counter(fates))],
        colours=COLOURS,
        total=len(fates),
        reasons=_reasons(decisions, proofs, fates),
        splits=SPLITS,
        table=list(_per_split(decisions)),
        large_groups=large,
        charts=[
            _image(_distributions(decisions, fates)),
            _image(_map(decisions, fates, embeddings)),
        ],
        shown=_spread(decisions, pictures),
        copies=[_pair(decisions, key, proofs[key]) for key in copies],
        borderline=[_facts(decisions, edge) for edge in borderline],
        judgements=OF_A_PAIR,
        superseding=list(decisions.supersedes.items())[:pictures],
        excluded=[(key, decisions.excluded[key]) for key in out],
        row=decisions.rows.row,
        stands_for=Counter(decisions.representative.values()),
        judged=decisions.judged,
        picture=lru_cache(maxsize=None)(partial(_picture, library)),
    )
    return large


def large_groups(decisions: Decisions) -> list[dict[str, Any]]:
    """Return the groups of so many volumes or patients that they deserve a look, largest first."""
    volumes = Counter(decisions.group[key] for key in decisions.kept)
    patient_of = decisions.rows.words("patient_key")
    patients: dict[str, set[str]] = defaultdict(set)
    for key, group in decisions.group.items():
        patients[group].add(patient_of[key])
    most = LARGE_GROUP_SHARE * sum(volumes.values())
    large = {
        group
        for group, count in volumes.items()
        if len(patients[group]) >= _LEAST_PATIENTS
        and (count > most or len(patients[group]) > LARGE_GROUP_PATIENTS)
    }
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for edge in decisions.edges:
        group = decisions.group[edge.volume_a]
        if group in large and patient_of[edge.volume_a] != patient_of[edge.volume_b]:
            kinds[group][edge.kind] += 1
    return [
        {
            "group": group,
            "volumes": volumes[group],
            "patients": len(patients[group]),
            "split": next(s for k, s in decisions.split.items() if decisions.group[k] == group),
            "joined_by": ", ".join(f"{kind} {n}" for kind, n in kinds[group].most_common()),
        }
        for group in sorted(large, key=lambda group: (-volumes[group], group))
    ]


def _in_order(counts: Counter[str]) -> list[tuple[str, int]]:
    return [(fate, counts[fate]) for fate in COLOURS if counts[fate] or fate in {"keep", "drop"}]


def _reasons(
    decisions: Decisions, proofs: Mapping[str, Edge], fates: Sequence[str]
) -> list[tuple[str, str, int]]:
    """Return (decision, reason code, volumes), the most frequent first within a decision."""
    counts: Counter[tuple[str, str]] = Counter()
    for key, fate in zip(decisions.rows.keys, fates, strict=True):
        if key in decisions.excluded:
            counts[fate, decisions.excluded[key].reason_code] += 1
        elif key in decisions.representative:
            counts[fate, proofs[key].kind] += 1
    order = list(COLOURS)
    return [
        (fate, code, count)
        for (fate, code), count in sorted(
            counts.items(), key=lambda item: (order.index(item[0][0]), -item[1], item[0][1])
        )
    ]


def _per_split(decisions: Decisions) -> Iterator[tuple[str, list[int]]]:
    """Yield (what is counted, numbers per split and in all)."""
    kept = decisions.kept
    for column, what in (("modality", "{} volumes"), ("manufacturer", "volumes from {}")):
        words = decisions.rows.words(column)
        counts = Counter((words[key], decisions.split[key]) for key in kept)
        known = sorted({words[key] for key in kept} - {""})
        for word in known if column == "modality" or len(known) > 1 else ():
            numbers = [counts[word, split] for split in SPLITS]
            yield what.format(word), [*numbers, sum(numbers)]
    patients = decisions.rows.words("patient_key")
    for owner, what in ((patients, "patients"), (decisions.group, "groups that stay together")):
        found = [{owner[key] for key in kept if decisions.split[key] == s} for s in SPLITS]
        yield what, [*map(len, found), len(set().union(*found))]


def _distributions(decisions: Decisions, fates: Sequence[str]) -> str:
    rows = decisions.rows
    spacing_mm = np.stack([_floats(decisions, f"spacing_{axis}_mm") for axis in "ijk"])
    shape = np.stack([_floats(decisions, f"shape_{axis}") for axis in "ijk"])
    measures = {
        "finest spacing, mm": spacing_mm.min(axis=0),
        "coarsest spacing, mm": spacing_mm.max(axis=0),
        "stated slice thickness, mm": _floats(decisions, "slice_thickness_mm"),
        "shortest extent, mm": (spacing_mm * shape).min(axis=0),
    }
    if "foreground_share" in rows.columns:
        measures["body coverage (share of voxels)"] = _floats(decisions, "foreground_share")
    return distributions(measures, np.array(fates) == "keep")


def _map(decisions: Decisions, fates: Sequence[str], embeddings: Path | None) -> str:
    """Draw all volumes by their signatures, or those that diversity was asked about by what it saw.

    Only they need an embedding.
    """
    keys, fate_of = decisions.rows.keys, dict(zip(decisions.rows.keys, fates, strict=True))
    if embeddings is not None:
        thinned = {key for key, out in decisions.excluded.items() if out.reason_code == "surplus"}
        keys = [key for key in keys if fate_of[key] == "keep" or key in thinned]
    keys = keys[:: max(1, -(-len(keys) // MOST_ON_THE_MAP))]
    told = [fate_of[key] for key in keys]
    if embeddings is not None:
        return decision_map(embeddings_of(embeddings, keys), told, "embeddings")
    signatures = [decisions.rows.row(key)["dct_full"] for key in keys]
    return decision_map(bits_of(signatures), told, "signatures")


def _floats(decisions: Decisions, column: str) -> NDArray[np.float64]:
    values = decisions.rows.column(column).cast("float64")
    found: NDArray[np.float64] = values.to_numpy(zero_copy_only=False)
    return found


def _pair(decisions: Decisions, key: str, edge: Edge) -> dict[str, Any]:
    representative = decisions.representative[key]
    through = "" if representative in edge.volumes else "through another copy of it"
    return {
        "out": key,
        "kept": representative,
        "kind": edge.kind,
        "fate": decisions.fate(key, edge),
        "said": KINDS[edge.kind],
        "score": _score(edge),
        "through": through,
    }


def _facts(decisions: Decisions, edge: Edge) -> dict[str, Any]:
    out = [key for key in edge.volumes if key in decisions.representative]
    return {
        "volumes": edge.volumes,
        "kind": edge.kind,
        "said": KINDS[edge.kind],
        "score": _score(edge),
        "so": f"so {out[0][:8]} is out" if edge.drops and out else "so both stay",
    }


def _score(edge: Edge) -> str:
    if equal_voxels(edge):
        return "equal voxels"
    return f"score {edge.score:.3f}, a copy from {edge.threshold:.3f}"


def _spread(decisions: Decisions, most: int) -> list[tuple[str, list[str]]]:
    """Return at most ``most`` kept volumes by split, each with its share, evenly spread over it."""
    ordered = sorted(decisions.kept, key=lambda key: (SPLITS.index(decisions.split[key]), key))
    if len(ordered) > most:
        ordered = [ordered[n * len(ordered) // most] for n in range(most)]
    shown = [(s, [key for key in ordered if decisions.split[key] == s]) for s in SPLITS]
    return [(split, keys) for split, keys in shown if keys]


def _image(svg: str) -> str:
    """Return an SVG as the address of an image within a page."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode("ascii")


def _picture(library: Path, volume_key: str) -> str:
    try:
        return data_uri(read_picture(library, volume_key))
    except MedSSLError:  # a damaged file: the page says so in its place
        return ""
