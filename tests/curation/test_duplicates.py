import os
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from medssl.curation import duplicates as d
from medssl.curation.candidates import candidates
from medssl.curation.catalog_rows import CatalogRows
from medssl.curation.comparisons import FILE
from medssl.curation.edges import NearDuplicateConfig
from medssl.library.catalog import read_catalog_table
from medssl.library.slices import FILE as SLICES
from medssl.library.slices import write_slices
from medssl.library.volumes import volume_path
from tests.curation.libraries import (
    Scan,
    altered,
    blobs,
    deformed,
    resampled,
    sliced,
    write_library,
)

CONFIG = NearDuplicateConfig()


def planted_scans():
    first, second = blobs(1, (36, 34, 40)), blobs(2, (36, 34, 40))
    window = np.clip((first.array_IJK.astype(float) + 160) / 400, 0, 1) * 255
    return {
        "a_original": Scan(first, "one", "s1"),
        "b_twin": Scan(first, "two", "s2"),
        "c_coarse": Scan(resampled(first, 1.3), "three"),
        "d_part": Scan(sliced(first, 10, 34), "four"),
        "e_overlap": Scan(sliced(first, 0, 24), "five"),
        "f_window": Scan(
            replace(first, array_IJK=np.rint(window).astype(np.uint8), intensity="arbitrary"), "six"
        ),
        "g_follow_up": Scan(deformed(first, by_mm=3.0), "one", "s9"),
        "h_stranger": Scan(second, "seven"),
    }


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    library = write_library(tmp_path_factory.mktemp("lib"), planted_scans())
    keys = list(planted_scans())
    write_slices(library, keys, fresh=keys)
    return library


def found(library, rows=None, workers=1, **settled):
    rows = CatalogRows.read(library) if rows is None else rows
    return d.find_duplicates(rows, library / SLICES, library, CONFIG, workers, **settled)


@pytest.fixture(autouse=True)
def nothing_remembered(planted):
    (planted / FILE).unlink(missing_ok=True)


def kinds(edges):
    return {edge.volumes: (edge.kind, edge.part) for edge in edges}


def test_every_planted_volume_has_its_edge(planted):
    edges = kinds(found(planted).edges)
    assert edges["a_original", "b_twin"] == ("re_export", "")
    assert edges["a_original", "c_coarse"] == ("resampled", "")
    assert edges["a_original", "d_part"] == ("subset", "d_part")
    assert edges["a_original", "e_overlap"] == ("subset", "e_overlap")
    assert edges["d_part", "e_overlap"] == ("overlap", "")
    assert edges["a_original", "f_window"] == ("re_reconstruction", "")
    assert edges["a_original", "g_follow_up"] == ("same_patient", "")
    assert not any("h_stranger" in pair for pair in edges)


def test_rows_may_be_in_any_order(planted):
    table = read_catalog_table(planted)
    backwards = CatalogRows(table.take(list(range(len(table)))[::-1]))
    assert found(planted, backwards).edges == found(planted).edges


def test_workers_change_nothing(planted, monkeypatch):
    alone = found(planted).edges
    (planted / FILE).unlink()
    monkeypatch.setattr(d, "FEW_PAIRS", 0)
    assert found(planted, workers=2).edges == alone


def test_newcomers_against_settled_volumes_give_what_all_at_once_gives(planted):
    together = found(planted)
    keys = list(planted_scans())
    for newcomers in (["h_stranger"], ["c_coarse", "d_part"], ["f_window", "g_follow_up"]):
        settled = frozenset(keys) - set(newcomers)
        known = [edge for edge in together.edges if settled.issuperset(edge.volumes)]
        (planted / FILE).unlink(missing_ok=True)
        day = found(planted, settled=settled, known=known)
        assert day.edges == together.edges
        assert day.compared < together.compared


def test_what_was_compared_is_not_compared_again(planted, monkeypatch):
    first = found(planted)
    assert first.remembered == 0
    monkeypatch.setattr(d, "agreement", None)  # would fail if it were called
    again = found(planted)
    assert again.remembered == again.compared == first.compared
    assert again.edges == first.edges


def test_other_thresholds_use_what_was_measured(planted, monkeypatch):
    found(planted)
    monkeypatch.setattr(d, "agreement", None)
    strict = NearDuplicateConfig(copy_motion_voxels=0.0)
    rows = CatalogRows.read(planted)
    edges = d.find_duplicates(rows, planted / SLICES, planted, strict, 1).edges
    assert kinds(edges)["a_original", "c_coarse"] == ("ambiguous", "")


def test_changed_voxels_are_compared_again(planted, monkeypatch):
    found(planted)
    calls = []
    compare = d.agreement
    monkeypatch.setattr(d, "agreement", lambda *pair: calls.append(1) or compare(*pair))
    rows = read_catalog_table(planted).to_pylist()
    for row in rows:
        if row["volume_key"] == "c_coarse":
            row["voxel_digest"] = "changed"
    found(planted, CatalogRows(pa.Table.from_pylist(rows)))
    assert calls


def _dies(library, todo):
    if "d_part" in todo[0][:2]:
        os.kill(os.getpid(), 9)
    return d._measure(library, todo)


def test_a_pair_that_kills_its_worker_is_unreadable_and_the_others_go_on(planted, monkeypatch):
    whole = kinds(found(planted).edges)
    (planted / FILE).unlink()
    monkeypatch.setattr(d, "FEW_PAIRS", 0)
    monkeypatch.setattr(d, "_measure", _dies)
    edges = kinds(found(planted, workers=2).edges)
    for pair, what in edges.items():
        assert what == (("unreadable", "") if "d_part" in pair else whole[pair])


def test_a_damaged_file_is_unreadable_and_drops_nothing(tmp_path):
    library = write_library(tmp_path, planted_scans())
    volume_path(library, "c_coarse").write_bytes(b"damaged")
    edges = d.find_duplicates(CatalogRows.read(library), None, library, CONFIG, 1).edges
    about = [edge for edge in edges if "c_coarse" in edge.volumes]
    assert about
    assert {(edge.kind, edge.drops) for edge in about} == {("unreadable", False)}


def test_a_twin_with_a_careful_header_makes_all_of_them_careful(tmp_path):
    """The same voxels under two names: what is one's follow-up is not dropped for the other."""
    scan = blobs(1)
    scans = {
        "a": Scan(scan, "stranger", "s1", source_format="dicom"),
        "b": Scan(scan, "one", "s2", source_format="dicom"),
        "c": Scan(resampled(scan, 1.3), "one", "s3", source_format="dicom"),
    }
    library = write_library(tmp_path, scans)
    edges = d.find_duplicates(CatalogRows.read(library), None, library, CONFIG, 1).edges
    (edge,) = [edge for edge in edges if "c" in edge.volumes]
    assert (edge.kind, edge.drops) == ("same_patient", False)


def test_headers_bring_a_zoom_to_notice_that_no_signature_does(tmp_path):
    scan = blobs(1, (48, 46, 40))
    zoom = replace(scan, array_IJK=np.ascontiguousarray(scan.array_IJK[14:34, 12:34]))
    affine = scan.affine_ras.copy()
    affine[:3, 3] = scan.affine_ras[:3] @ np.array([14, 12, 0, 1.0])
    zoom = replace(zoom, affine_ras=affine)
    for patient, expected in (("one", {("a", "b")}), ("other", set())):
        library = write_library(
            tmp_path / patient, {"a": Scan(scan, "one"), "b": Scan(zoom, patient)}
        )
        rows = CatalogRows.read(library)
        pairs = candidates(rows, None, NearDuplicateConfig(max_bits=20))
        assert {pair[:2] for pair in pairs} == expected
    edges = d.find_duplicates(
        CatalogRows.read(tmp_path / "one"), None, tmp_path / "one", CONFIG, 1
    ).edges
    assert kinds(edges) == {("a", "b"): ("subset", "b")}


def test_only_like_modalities_are_compared(tmp_path):
    scan = blobs(1)
    mr = replace(resampled(scan, 1.2), modality="MR", intensity="arbitrary")
    unknown = replace(altered(scan, scan.array_IJK + 1), modality="unknown")
    scans = {"a": Scan(scan), "b": Scan(mr), "c": Scan(unknown)}
    rows = CatalogRows.read(write_library(tmp_path, scans))
    assert {pair[:2] for pair in candidates(rows, None, CONFIG)} >= {("a", "c")}
    assert ("a", "b") not in {pair[:2] for pair in candidates(rows, None, CONFIG)}


def test_an_empty_catalog_has_no_edges(tmp_path):
    rows = CatalogRows.read(write_library(tmp_path, {}))
    assert d.find_duplicates(rows, None, tmp_path, CONFIG, 1).edges == []
