"""Stacks that are tilted, uneven or full of holes, judged by a linear field in world space."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydicom import dcmread

from medssl.io.dicom.lattice import lay_out
from medssl.io.dicom.pixels import stack_pixels
from medssl.io.geometry import shear_degrees, to_closest_ras
from medssl.io.limits import IrregularPolicy, Limits
from tests import phantoms
from tests.io.dicom.outcomes import outcomes

SLOPE = 1 / 32
"""Stored steps so fine that rounding hides nothing."""

TOLERANCE = 2 * SLOPE
AIR = -1000
ROWS, COLUMNS = 9, 8


def write(folder, places_mm, *, tilt=(0.0, 0.0), degrees=(0, 0, 0)):
    """Write slices of the field F at places along the normal, shifted by ``tilt`` mm per mm."""
    affine = phantoms.affine_ras(degrees, (1.5, 2.0, 1.0), (-20.0, 31.0, -12.0))
    row, column = (affine[:3, axis] / np.linalg.norm(affine[:3, axis]) for axis in (0, 1))
    slices = phantoms.dicom_slices(np.zeros((COLUMNS, ROWS, len(places_mm)), np.int16), affine)
    for ds, place in zip(slices, places_mm, strict=True):
        own = affine.copy()
        own[:3, 3] += place * (affine[:3, 2] + tilt[0] * row + tilt[1] * column)
        hu = phantoms.points_mm(own, (COLUMNS, ROWS, 1))[:, :, 0] @ (7.0, -5.0, 3.0) + 300
        ds.ImagePositionPatient = [f"{v:.9f}" for v in own[:3, 3] * (-1, -1, 1)]
        ds.RescaleSlope, ds.RescaleIntercept = SLOPE, 0
        ds.PixelData = np.rint(hu / SLOPE).astype(np.int16).T.tobytes()
    return phantoms.save(slices, folder)


def limits(**policy):
    return Limits(policy=IrregularPolicy(**policy))


def check(found, *, inside=None):
    """Every voxel holds F at its place, or air where no slice reaches."""
    volume = found.volume
    assert shear_degrees(volume.affine_ras) < (1e-5 if "tilt" in volume.regularized else 0.05)
    scanned = volume.array_IJK != AIR
    truth = phantoms.points_mm(volume.affine_ras, volume.shape) @ (7.0, -5.0, 3.0) + 300
    assert np.abs(volume.array_IJK - truth)[scanned].max() <= TOLERANCE
    least = (ROWS - 1) * (COLUMNS - 1) * volume.shape[2] if inside is None else inside
    assert scanned.sum() >= least
    assert len(volume.slices) == volume.shape[2]


EVEN = [0, 3, 6, 9, 12, 15]
UNEVEN = [0, 4, 8, 12, 13, 20, 27, 34]


@pytest.mark.parametrize("degrees", [(0, 0, 0), (17, -9, 24), (90, 0, 0), (0, 90, 90)], ids=str)
@pytest.mark.parametrize(
    "tilt", [(0, 0.33), (0, -0.33), (0.2, 0), (-0.2, 0), (0.25, -0.4)], ids=str
)
def test_a_tilted_stack_becomes_a_box_of_the_same_slices(tilt, degrees, tmp_path):
    write(tmp_path, EVEN, tilt=tilt, degrees=degrees)
    ((found,), refused) = outcomes(tmp_path)
    check(found)
    assert refused == {}
    assert found.volume.regularized == ("tilt",)
    assert "tilt_resampled" in found.flags
    assert found.volume.spacing_mm == pytest.approx((1.5, 2.0, 3.0))
    assert [s.file_key for s in found.volume.slices] == [h.file_key for h in found.slices]
    inverse = np.linalg.inv(found.volume.affine_ras)
    for k, header in enumerate(found.slices):  # nothing lies outside the grid, slice k is slice k
        own = lay_own(header)
        corners = phantoms.points_mm(own, (COLUMNS, ROWS, 1)).reshape(-1, 3)
        index = corners @ inverse[:3, :3].T + inverse[:3, 3]
        np.testing.assert_allclose(index[:, 2], k, atol=1e-6)
        assert (index[:, :2] > -1e-6).all()
        assert (index[:, :2] < np.array(found.volume.shape[:2]) - 1 + 1e-6).all()


def lay_own(header):
    """Return the affine of one slice alone, from its plane."""
    plane, affine = header.plane, np.eye(4)
    affine[:3, 0] = np.multiply(plane.row_LPS, plane.spacing_mm[1])
    affine[:3, 1] = np.multiply(plane.column_LPS, plane.spacing_mm[0])
    affine[:3, 2], affine[:3, 3] = plane.normal_LPS, plane.origin_LPS_mm
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


@pytest.mark.parametrize("tilt", [(0, 0), (0, 0.33), (0, -0.33)], ids=str)
@pytest.mark.parametrize("degrees", [(0, 0, 0), (17, -9, 24)], ids=str)
def test_uneven_steps_become_even_ones_also_where_tilted(tilt, degrees, tmp_path):
    write(tmp_path, UNEVEN, tilt=tilt, degrees=degrees)
    ((found,), refused) = outcomes(tmp_path)
    check(found, inside=(ROWS - 2) * COLUMNS * found.volume.shape[2])
    assert refused == {}
    assert found.volume.regularized == (("tilt", "uneven") if any(tilt) else ("uneven",))
    assert found.volume.spacing_mm[2] == pytest.approx(34 / 8)  # the median, 4, fitted to the ends
    assert not any(source.filled for source in found.volume.slices)


def test_a_planned_change_of_the_step_is_no_loss(tmp_path):
    write(tmp_path, [0, 2.5, 5, 7.5, 10, 12.5, 17.5, 22.5, 27.5, 32.5])
    ((found,), _) = outcomes(tmp_path)
    check(found)
    assert found.volume.regularized == ("uneven",)
    assert found.volume.shape[2] == 14


@pytest.mark.parametrize(
    ("places", "missing"),
    [([0, 3, 6, 12, 15], {3}), ([0, 3, 9, 12, 18, 21], {2, 5}), ([0, 3, 6, 15, 18], {3, 4})],
    ids=str,
)
@pytest.mark.parametrize("tilt", [(0, 0), (0, 0.33)], ids=str)
def test_missing_slices_are_filled_where_that_is_asked_for(places, missing, tilt, tmp_path):
    write(tmp_path, places, tilt=tilt)
    ((found,), _) = outcomes(tmp_path, limits(fill_missing=2))
    check(found, inside=(ROWS - 2) * COLUMNS * found.volume.shape[2])
    volume = found.volume
    assert volume.regularized == (("tilt", "filled") if any(tilt) else ("filled",))
    assert volume.spacing_mm[2] == pytest.approx(3)
    assert {k for k, source in enumerate(volume.slices) if source.filled} == missing
    read = [h.file_key for h in found.slices]
    assert [s.file_key for s in volume.slices if not s.filled] == read
    assert {s.file_key for s in volume.slices} == set(read)
    assert ("tilt_resampled" in found.flags, "filled_resampled" in found.flags) == (any(tilt), True)


@pytest.mark.parametrize(
    ("places", "tilt", "policy", "code"),
    [
        (EVEN, (0, 0.33), {"tilt": "quarantine"}, "gantry_tilt"),
        (UNEVEN, (0, 0), {"uneven": "quarantine"}, "uneven_spacing"),
        ([0, 3, 6.5, 10.7, 12], (0, 0), {}, "uneven_spacing"),  # four distances: no plan behind
        ([0, 0.1, 0.2, 0.3, 5.35, 10.4], (0, 0), {}, "uneven_spacing"),  # mostly made up
        ([0, 3, 6, 12, 15], (0, 0), {}, "missing_slices"),
        ([0, 3, 6, 15, 18], (0, 0), {"fill_missing": 1}, "missing_slices"),
        ([0, 3, 6, 12.12, 15.12], (0, 0), {"fill_missing": 1}, "missing_slices"),  # off the places
    ],
    ids=str,
)
def test_what_is_not_allowed_or_not_explained_is_refused(places, tilt, policy, code, tmp_path):
    write(tmp_path, places, tilt=tilt)
    assert outcomes(tmp_path, limits(**policy)) == ([], {code: len(places)})


def test_the_tag_of_the_tilt_is_not_believed(tmp_path):
    paths = write(tmp_path, EVEN, tilt=(0, 0.33))
    for path in paths:
        ds = dcmread(path)
        ds.GantryDetectorTilt = "-40"
        ds.save_as(path)
    ((found,), _) = outcomes(tmp_path)
    check(found)


def test_the_larger_grid_counts_against_the_limit(tmp_path):
    write(tmp_path, EVEN, tilt=(0, 3.0))
    just_the_slices = ROWS * COLUMNS * len(EVEN) * 4
    assert outcomes(tmp_path, Limits(volume_bytes=2 * just_the_slices)) == ([], {"too_large": 6})


@given(
    steps=st.lists(st.sampled_from([1.0, 1.7, 4.0]), min_size=4, max_size=12),
    tilt=st.floats(-0.5, 0.5),
)
@example(steps=[4.0, 4.0, 4.0, 1.0, 1.0, 1.0, 1.0], tilt=0.0)
@settings(max_examples=15, deadline=None)
def test_any_three_steps_and_any_tilt(steps, tilt, tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    write(folder, [0, *np.cumsum(steps)], tilt=(0, tilt))
    found, refused = outcomes(folder, limits(fill_missing=3))
    # Four times 1 is 4: three or more slices may be missing in a row; and where most steps are
    # short, an even grid would be mostly made up.
    made_up = sum(steps) / np.quantile(steps, 0.5, method="lower") + 1.5 > 2 * (len(steps) + 1)
    assert set(refused) <= {"missing_slices", *(["uneven_spacing"] if made_up else [])}
    assert len(found) == 1 - len(refused)
    for one in found:
        check(one, inside=1)


@given(
    degrees=st.tuples(*[st.floats(-180, 180)] * 3),
    tilt=st.floats(-0.5, 0.5),
    gap=st.integers(1, 2),
)
@settings(max_examples=15, deadline=None)
def test_every_slice_keeps_its_place_however_the_volume_is_turned(
    degrees, tilt, gap, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("series")
    write(
        folder, [0, 3, 6, *(9 + 3 * gap + 3 * k for k in range(3))], tilt=(0, tilt), degrees=degrees
    )
    ((found,), _) = outcomes(folder, limits(fill_missing=2))
    volume = to_closest_ras(found.volume)
    planes = {header.file_key: header.plane for header in found.slices}
    inverse = np.linalg.inv(volume.affine_ras)
    assert sum(source.filled for source in volume.slices) == gap
    for index, source in enumerate(volume.slices):
        place_ras = np.array(planes[source.file_key].origin_LPS_mm) * (-1, -1, 1)
        at = (inverse[:3, :3] @ place_ras + inverse[:3, 3])[volume.slice_axis]
        assert abs(at - index) <= (1.001 if source.filled else 1e-3)


def test_grids_are_laid_out_the_same_whatever_the_order_of_files(tmp_path):
    grids = []
    for seed in range(2):
        write(tmp_path / str(seed), UNEVEN, tilt=(0, 0.33))
        ((found,), _) = outcomes(tmp_path / str(seed))
        grids.append(found.volume)
    np.testing.assert_array_equal(grids[0].array_IJK, grids[1].array_IJK)


@pytest.mark.parametrize("thickness", ["2.5", "0", None])
def test_a_single_slice_is_as_deep_as_it_says(thickness, tmp_path):
    def edit(ds, _):
        if thickness is not None:
            ds.SliceThickness = thickness

    affine = phantoms.affine_ras((12, -7, 4))
    array = phantoms.phantom(affine, (7, 6, 1))
    phantoms.write_dicom(tmp_path, array, affine, edit=edit)
    found, refused = outcomes(tmp_path, Limits(least_slices=1))
    if thickness == "2.5":
        assert phantoms.value_error(found[0].volume.array_IJK, found[0].volume.affine_ras) == 0
        assert found[0].volume.spacing_mm[2] == pytest.approx(2.5)
        assert len(found[0].volume.slices) == 1
    else:
        assert refused == {"no_slice_thickness": 1}
    assert outcomes(tmp_path)[1] == {"too_few_slices": 1}


def test_lay_out_asks_for_no_pixels(tmp_path):
    write(tmp_path, UNEVEN, tilt=(0, 0.33))
    ((found,), _) = outcomes(tmp_path)
    for header in found.slices:
        header.path.unlink()
    lattice = lay_out(found.slices, Limits())
    np.testing.assert_array_equal(lattice.affine_ras, found.volume.affine_ras)
    with pytest.raises(Exception, match="could not be opened"):
        stack_pixels(found.slices, Limits())
