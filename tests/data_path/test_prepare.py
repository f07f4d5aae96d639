"""Selection to crop store: geometry, statistics, failures, and a run that is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import medssl.data.prepare
from medssl.data.placing import place_on_grid
from medssl.data.prepare import PrepareConfig, prepare
from medssl.data.store import CropStore, volume_file
from medssl.errors import FolderError, InputError
from medssl.io.geometry import to_closest_ras
from medssl.io.volume import Volume
from medssl.library.fingerprints.voxel_digest import voxel_digest
from medssl.library.volumes import volume_path, write_volume

KEYS = ("aa", "bb", "cc", "dd")
SPACING_MM = (3.0, 3.0, 3.0)


class KeptOfTest:
    """Stands for a selection: its rows and its digest."""

    def __init__(self, keys=KEYS, digest="0" * 64, changed=None):
        volumes = {key: body(n) for n, key in enumerate(KEYS)} | (changed or {})
        rows = {"volume_key": keys, "patient_key": "patient", "split": "train", "note": "x"}
        rows["voxel_digest"] = [voxels_of(volumes[key]) for key in keys]
        self.kept, self.digest = pd.DataFrame(rows), digest
        self.kept.loc[self.kept["volume_key"] == "dd", "split"] = "val"


def body(seed, dtype="int16", air=-1024):
    """A block of tissue in much air, on a grid that is finer than the store's and oblique."""
    array_IJK = np.full((60, 50, 24), air, dtype=dtype)
    tissue = np.random.default_rng(seed).integers(20, 120, (30, 26, 14))
    array_IJK[15:45, 12:38, 5:19] = tissue
    affine_ras = np.array(
        [[1.2, 0.2, 0, -30], [-0.2, 1.2, 0, 12], [0, 0, 2.0, 900], [0, 0, 0, 1]], dtype=np.float64
    )
    unit = "hu" if air < 0 else "arbitrary"
    return Volume(
        array_IJK=array_IJK, affine_ras=affine_ras, modality="CT" if air else "MR", intensity=unit
    )


def voxels_of(volume):
    return voxel_digest(to_closest_ras(volume).array_IJK, volume.intensity)


@pytest.fixture
def library(tmp_path, monkeypatch):
    """Four volumes, and a selection that keeps them all."""
    for n, key in enumerate(KEYS):
        write_volume(tmp_path / "library", key, body(n))
    monkeypatch.setattr(medssl.data.prepare, "read_selection", lambda *_: KeptOfTest())
    return tmp_path / "library"


@pytest.fixture
def config(library, tmp_path):
    def make(**changes):
        values = {
            "library": library,
            "selection": "all",
            "out": tmp_path / "store",
            "spacing_mm": SPACING_MM,
            "margin_mm": 6,
            "workers": 1,
            "tracking": {"enabled": False},
        }
        return PrepareConfig.model_validate(values | changes)

    return make


def files(store):
    """Every stored volume, with what tells whether it was written again."""
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in (store / "volumes").glob("[!.]*.b2nd")
    }


def test_every_kept_volume_is_stored_at_the_spacing_in_its_own_type(config):
    result = prepare(config())
    store = CropStore(result.folder)
    assert sorted(store.keys()) == sorted(KEYS)
    assert store.keys("val") == ("dd",)
    assert store.spacing_mm == SPACING_MM
    entry = store.entry("aa")
    assert (entry.dtype, entry.modality, entry.intensity) == ("int16", "CT", "hu")
    assert (entry.background, entry.foreground_above) == (-1000, -500)
    np.testing.assert_allclose(np.linalg.norm(np.array(entry.affine_ras)[:3, :3], axis=0), 3)
    assert result.summary["volumes"] == 4
    assert result.summary["volumes_val"] == 1
    assert result.summary["store_digest"] == store.digest
    assert all((result.folder / path).exists() for path in result.look_at.values())


def test_the_body_is_where_it_was_in_mm(config):
    """The centre of mass of the tissue, in mm, before and after."""
    volume = body(0)
    new_IJK, new_affine, _ = place_on_grid(volume, config())

    def centre_mm(array_IJK, affine):
        weight_IJK = np.clip(array_IJK.astype(np.float64) + 1024, 0, None)
        index = np.indices(array_IJK.shape).reshape(3, -1)
        return (
            affine[:3, :3] @ np.average(index, axis=1, weights=weight_IJK.ravel()) + affine[:3, 3]
        )

    np.testing.assert_allclose(
        centre_mm(new_IJK, new_affine), centre_mm(volume.array_IJK, volume.affine_ras), atol=0.3
    )


def test_air_is_cut_away_up_to_a_margin(config):
    volume = body(0)
    kept_IJK, _, statistics = place_on_grid(volume, config(crop_foreground=False))
    assert kept_IJK.shape == tuple(
        round(n * s / 3) for n, s in zip(volume.shape, volume.spacing_mm, strict=True)
    )
    cut_IJK, _, same_statistics = place_on_grid(volume, config())
    margin = [round(6 / s) for s in volume.spacing_mm]
    expected = [
        round((n + 2 * m) * s / 3)
        for n, m, s in zip((30, 26, 14), margin, volume.spacing_mm, strict=True)
    ]
    assert list(cut_IJK.shape) == expected
    assert statistics == same_statistics, "percentiles are those of the whole scan"


def test_statistics_without_a_unit_are_the_volumes_own(config):
    volume = body(0, dtype="uint8", air=0)
    _, _, statistics = place_on_grid(volume, config())
    p995 = np.percentile(volume.array_IJK, 99.5)
    assert statistics == {
        "p005": 0,
        "p995": p995,
        "foreground_above": pytest.approx(p995 / 10),
        "background": 0,
    }


def test_a_volume_that_cannot_be_read_is_a_row_and_the_rest_goes_on(config, library):
    volume_path(library, "bb").write_bytes(b"not a volume")
    result = prepare(config(workers=2))
    assert sorted(CropStore(result.folder).keys()) == ["aa", "cc", "dd"]
    assert result.summary["left_out"] == 1
    rows = (result.folder / "left_out.csv").read_text().splitlines()
    assert rows[0] == "volume_key,reason"
    assert rows[1].startswith("bb,the file of volume bb is damaged")


def test_voxels_that_changed_since_the_selection_are_a_reason(config, library):
    volume = body(1)
    volume.array_IJK[30, 25, 12] += 1
    write_volume(library, "bb", volume)
    result = prepare(config())
    assert sorted(CropStore(result.folder).keys()) == ["aa", "cc", "dd"]
    rows = (result.folder / "left_out.csv").read_text().splitlines()
    assert rows[1:] == ["bb,its voxels changed since the selection was made: curate again"]


def test_values_that_are_not_finite_are_a_reason(config, library, monkeypatch):
    volume = body(1, dtype="float32")
    volume.array_IJK[0, 0, 0] = np.nan
    write_volume(library, "bb", volume)
    kept = KeptOfTest(changed={"bb": volume})
    monkeypatch.setattr(medssl.data.prepare, "read_selection", lambda *_: kept)
    prepare(config())
    assert "bb,some voxels are not finite numbers" in (config().out / "left_out.csv").read_text()


def test_nothing_that_can_be_read_is_an_error(config, library):
    for key in KEYS:
        volume_path(library, key).unlink()
    with pytest.raises(InputError, match="none of the 4 volumes could be prepared: volume aa"):
        prepare(config())
    with pytest.raises(InputError, match="no finished crop store"):
        CropStore(config().out)


def test_an_empty_selection_is_an_error(config, monkeypatch):
    monkeypatch.setattr(medssl.data.prepare, "read_selection", lambda *_: KeptOfTest(keys=()))
    with pytest.raises(InputError, match="keeps no volume, so there is nothing to prepare"):
        prepare(config())


def test_the_same_again_is_skipped_and_another_selection_is_refused(config, monkeypatch):
    first = prepare(config())
    before = files(first.folder)
    again = prepare(config(workers=2))
    assert again.skipped
    assert again.summary == first.summary
    other = KeptOfTest(keys=("aa",), digest="1" * 64)
    monkeypatch.setattr(medssl.data.prepare, "read_selection", lambda *_: other)
    with pytest.raises(FolderError, match="selection"):
        prepare(config())
    assert files(first.folder) == before
    assert CropStore(prepare(config(), overwrite=True).folder).keys() == ("aa",)


def test_workers_and_one_process_write_the_same_store(config, tmp_path):
    alone = prepare(config())
    together = prepare(config(workers=2, out=tmp_path / "other"))
    assert alone.summary == together.summary


SLOW = """
import sys, time
from pathlib import Path
import medssl.data.prepare as stage
from tests.data_path.test_prepare import KeptOfTest

def read_slowly(library, key):
    time.sleep(0.3)
    return read_volume(library, key)

read_volume, stage.read_volume = stage.read_volume, read_slowly
stage.read_selection = lambda *_: KeptOfTest()
stage.prepare(stage.PrepareConfig.model_validate_json(sys.argv[1]))
"""


def test_a_killed_run_loses_nothing_and_redoes_only_what_was_not_finished(config, tmp_path):
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, config().model_dump_json()],
        env={**os.environ, "PYTHONPATH": str(root)},
    ) as run:
        end = time.monotonic() + 60
        while len(files(config().out)) < 2:
            assert time.monotonic() < end
            assert run.poll() is None
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
    finished = files(config().out)
    assert 2 <= len(finished) < 4
    half = volume_file(config().out, "dd")
    half.with_name(f".partial-{half.name}").write_bytes(b"half a volume")
    with pytest.raises(InputError, match="no finished crop store"):
        CropStore(config().out)

    resumed = prepare(config())
    assert files(resumed.folder).items() >= finished.items(), "what was finished is left alone"
    assert not list(resumed.folder.rglob(".partial-*"))
    whole = prepare(config(out=tmp_path / "uninterrupted"))
    assert resumed.summary == whole.summary


def test_volumes_of_another_run_are_not_taken_for_ones_own(config, tmp_path):
    """Same keys, another spacing, and a manifest that somebody deleted."""
    coarse = prepare(config(spacing_mm=(6, 6, 6)))
    (coarse.folder / "manifest.json").unlink()
    result = prepare(config())
    assert {CropStore(result.folder).entry(key).spacing_mm for key in KEYS} == {SPACING_MM}


def test_no_path_reaches_the_store(config, tmp_path):
    folder = prepare(config()).folder
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in {"config.yaml", "manifest.json"}:
            assert str(tmp_path).encode() not in path.read_bytes(), path.name
