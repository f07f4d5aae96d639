import json

import numpy as np

from medssl.io.nifti import write_nifti
from pipelines.benchmarks import slice_duplicates
from pipelines.benchmarks.planted_slices import VERSIONS
from tests.curation.libraries import blobs


def test_the_table_tells_what_was_planted(tmp_path, capsys):
    for n in range(3):
        volume = blobs(n, shape=(60, 64, 30))
        (tmp_path / "ct").mkdir(exist_ok=True)
        write_nifti(volume.array_IJK, volume.affine_ras, tmp_path / "ct" / f"v{n}.nii.gz")
    out = tmp_path / "out.json"
    slice_duplicates.main([str(tmp_path / "ct"), "--alone", "--out", str(out)])
    result = json.loads(out.read_text())
    assert result["slices"] >= 9
    ours = result["rows"][slice_duplicates.OURS]
    assert ours["gamma"] >= 0.9
    assert result["rows"]["slice_dct256 <= 24 alone"]["resize"] >= 0.9
    assert ours["precision"] == 1
    assert "pair precision" in capsys.readouterr().out


def test_what_is_counted():
    planted = [(n, name, np.zeros(0)) for n in range(2) for name in VERSIONS]
    pairs = np.zeros((14, 14), bool)
    pairs[0, 1] = pairs[1, 2] = pairs[0, 8] = True
    found = slice_duplicates.measure(pairs, planted)
    assert (found["resize"], found["gamma"], found["false pairs"]) == (0.5, 0, 1)
    assert found["precision"] == 2 / 3
    assert found["all-pairs recall"] == 2 / 42
