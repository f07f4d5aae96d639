"""What the gates of curation judge by reaches the catalog."""

import numpy as np
import pytest

from medssl.config.choice import find
from medssl.curation.catalog_rows import CatalogRows
from medssl.curation.gates import RULES
from tests import phantoms

AFFINE = phantoms.affine_ras((4, 4, 3))


def facts(ingested, folder, array, edit=None):
    phantoms.write_dicom(folder, array, AFFINE, edit=edit)
    result, *_ = ingested(folder)
    (row,) = CatalogRows.read(result.folder)
    return row


def test_what_a_header_states_of_its_slices(tmp_path, ingested):
    def lie(ds, _):
        ds.SpacingBetweenSlices, ds.SliceThickness = "1.5", "1.0"

    row = facts(ingested, tmp_path / "in", phantoms.phantom(AFFINE, (20, 18, 16)), lie)
    assert (row["stated_step_mm"], row["slice_thickness_mm"], row["slice_axis"]) == (1.5, 1.0, 2)
    problem = find(RULES, "stated_spacing").Config().build().problem(row)
    assert "slices stated to be 1.5 mm apart are 3 mm apart" in problem


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_shares_of_body_and_of_saturation(share, tmp_path, ingested):
    array = np.full((20, 18, 16), -1000, np.int16)
    array[4:14, 4:14, :8] = 40 + np.arange(800).reshape(10, 10, 8)  # from -300 HU it is body
    array[:, :, 8 : 8 + round(8 * share * 2)] = 3000
    row = facts(ingested, tmp_path / "in", array)
    assert row["foreground_share"] == pytest.approx(np.mean(array >= -300))
    assert row["saturated_share"] == pytest.approx(np.mean(array == array.max()))
    saturated = find(RULES, "saturation").Config().build().problem(row)
    assert bool(saturated) == (row["saturated_share"] > 0.1)
