"""Studies that are nearest to words, to another study, or to a scan in a file."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from medssl import __version__
from medssl.data.store import CropStore
from medssl.errors import ConfigError, InputError
from medssl.evaluation.page import inline, write_page
from medssl.evaluation.paired.embed import STORE
from medssl.evaluation.paired.figures import draw_study
from medssl.evaluation.paired.index import Among, Hit, Index, read_index
from medssl.evaluation.paired.scans import SPLIT, store_scans
from medssl.evaluation.paired.subject import Subject, first_affine, load_subject
from medssl.reports.pairs import Pair, read_pairs
from medssl.runs.manifest import now
from medssl.runs.private import read_config

Floats = NDArray[np.float64]


class Query(NamedTuple):
    """What is looked for; exactly one of the three."""

    words: str | None = None
    """As a report says it."""
    study_key: str | None = None
    """A study of the index: what is like its images."""
    scan: Path | None = None
    """A NIfTI file or a folder of DICOM."""


class Found(NamedTuple):
    """What was found, and what it was found with."""

    hits: list[Hit]
    vectors: Index
    """What was searched."""
    subject: Subject


def search(
    model: Path,
    index: Path,
    query: Query,
    *,
    among: Among = "images",
    k: int = 10,
    modality: str = "CT",
    trust_names: bool = False,
) -> Found:
    """Return the studies of an index that are nearest to a query.

    Args:
        model: Folder of the model that the index was made with.
        index: What ``medssl embed`` left.
        query: What is looked for.
        among: Whether studies are found by their images or by their reports.
        k: How many, at most.
        modality: What a NIfTI file shows, which does not say so.
        trust_names: Allow a third party's components; see ``medssl.config.stored``.

    Raises:
        ConfigError: The query is not one of words, a study and a scan.
        InputError: Model or index cannot be read, the index is another model's, or there is
            nothing to compare with.
    """
    if sum(part is not None for part in query) != 1:
        raise ConfigError(
            "a search needs one of three things to look for",
            hint="give words, the key of a study, or a scan",
        )
    found = read_index(index)
    images = (read_config(index) or {}).get("images")
    subject = load_subject(model, torch.device("cpu"), images=images, trust_names=trust_names)
    if subject.digest != found.subject_digest:
        raise InputError(
            f"{index}: the index was made with another model, or with other views",
            hint="make it again with `medssl embed` and this model",
        )
    vector_D = _vector(subject, found, query, modality)
    hits = found.nearest(vector_D, among, k, hidden=query.study_key)
    if not hits:
        raise InputError(
            f"{index}: no study of the index can be compared with: it has no {among}",
            hint="search among images" if among == "reports" else "embed more studies",
        )
    return Found(hits, found, subject)


@torch.inference_mode()
def _vector(subject: Subject, index: Index, query: Query, modality: str) -> Floats:
    vector_D: Floats
    if query.words is not None:
        vector_D = subject.embed_words([query.words])[0]
    elif query.study_key is not None:
        vector_D = index.image_ND[index.row(query.study_key)].astype(np.float64)
    else:
        with tempfile.TemporaryDirectory() as folder:
            scan = query.scan or Path()
            scans = store_scans([scan], Path(folder), subject.spacing_mm, modality)
            sample = subject.read(scans.store, scans.pairs[0])
        vector_D = subject.embed_samples([sample])[0].double().numpy()
    return vector_D


def write_search_page(path: Path, index: Path, query: Query, found: Found) -> None:
    """Write a page of what was found: images, and reports as they stand in the pairs.

    Args:
        path: The page; it shows images of patients.
        index: The folder that was searched, which knows its store and its pairs.
        query: What was looked for.
        found: What was found.

    Raises:
        InputError: The store or the pairs are no longer where they were.
    """
    store, pairs = _material(index, [hit.study_key for hit in found.hits])
    shown = list[dict[str, Any]]()
    with tempfile.TemporaryDirectory() as folder:
        for hit in found.hits:
            file, pair = Path(folder) / "study.png", pairs[hit.study_key]
            draw_study(file, found.subject.read(store, pair), first_affine(store, pair))
            shown.append({**hit._asdict(), **inline(file), "sections": pair.sections})
    asked = query.words or query.study_key or "a scan"
    write_page(
        path,
        "paired/search.html",
        query=asked,
        by_words=query.words is not None,
        hits=shown,
        studies=len(found.vectors.study_keys),
        version=__version__,
        date=now()[:10],
    )


def _material(index: Path, keys: Sequence[str]) -> tuple[CropStore, dict[str, Pair]]:
    """Return the store of an index and the studies of some keys."""
    config = read_config(index)
    if config is None:
        raise InputError(
            f"{index}: no config.yaml, so nothing says where the images are",
            hint="make the index again with `medssl embed`",
        )
    if config["pairs"] is not None:
        pairs = {pair.study_key: pair for pair in read_pairs(Path(config["pairs"])).pairs}
        lacking = [key for key in keys if key not in pairs]
        if lacking:
            raise InputError(
                f"{len(lacking)} of {len(keys)} studies are no longer among the pairs",
                hint="make the index again with `medssl embed`",
            )
        return CropStore(Path(config["store"])), pairs
    store = CropStore(index / STORE)
    volumes: dict[str, list[str]] = {}
    for key in store.keys(SPLIT):
        volumes.setdefault(store.entry(key).patient_key, []).append(key)
    return store, {
        key: Pair(
            study_key=key,
            patient_key=key,
            split=SPLIT,
            volume_keys=tuple(sorted(volumes[key])),
            sections=(),
        )
        for key in keys
    }
