import json

import numpy as np

from medssl.io.nifti import write_nifti
from pipelines.benchmarks import slice_reduction
from tests.curation.libraries import blobs


def test_every_strategy_has_a_row_beside_chance(tmp_path, capsys):
    (tmp_path / "ct").mkdir()
    for n in range(2):
        volume = blobs(n, shape=(40, 38, 60))
        array = np.repeat(volume.array_IJK[:, :, ::3], 3, axis=2)  # slices come in threes
        write_nifti(array, volume.affine_ras, tmp_path / "ct" / f"v{n}.nii.gz")
    out = tmp_path / "out.json"
    slice_reduction.main([str(tmp_path / "ct"), "--out", str(out)])
    result = json.loads(out.read_text())
    rows = result["rows"]
    assert rows.keys() == {*slice_reduction.CHOOSING, *slice_reduction.OTHERS}
    for name in slice_reduction.JUDGED:
        assert rows[name]["farthest_mm"] <= 12
        assert 0 < rows[name]["kept"] < 0.7
        assert rows[name]["vendi_published"] > rows[name]["chance_published"] - 0.2
    assert next(iter(result["claims"].values())) is True
    assert "Hash-6, published" in capsys.readouterr().out
