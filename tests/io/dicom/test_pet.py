"""SUV from what a PET states; the definition in loops, and every way of not knowing."""

from dataclasses import replace

import numpy as np
import pytest
from pydicom import Dataset, Sequence
from pydicom.uid import PositronEmissionTomographyImageStorage

from medssl.io.dicom.pet import Pet, pet_of, uptake
from medssl.io.dicom.read import read_dicom_folder
from tests import phantoms

HALF_LIFE_S = 6586.2
DOSE_BQ = 370e6
WEIGHT_KG = 70.0
AFFINE = phantoms.affine_ras()


def dataset(**changes):
    ds, tracer = Dataset(), Dataset()
    ds.Modality, ds.Units, ds.DecayCorrection = "PT", "BQML", "START"
    ds.CorrectedImage, ds.PatientWeight = ["DECY", "ATTN", "SCAT"], str(WEIGHT_KG)
    ds.SeriesDate = ds.AcquisitionDate = "20200101"
    ds.SeriesTime, ds.AcquisitionTime = "110000", "110000"
    tracer.RadionuclideTotalDose, tracer.RadionuclideHalfLife = str(DOSE_BQ), str(HALF_LIFE_S)
    tracer.RadiopharmaceuticalStartTime = "100000"
    ds.RadiopharmaceuticalInformationSequence = Sequence([tracer])
    for keyword, value in changes.items():
        target = tracer if keyword.startswith("Radio") else ds
        setattr(target, keyword, value)
    return ds


def stated(*, enhanced=False, **changes):
    found = pet_of(dataset(**changes), enhanced=enhanced)
    assert found is not None
    return found


def slow_suv(value_bqml, after_s):
    """SUVbw by its definition: concentration over dose per gram, both at the same moment."""
    dose, elapsed = np.float64(DOSE_BQ), 0.0
    while elapsed < after_s:  # decay second by second
        step = min(1.0, after_s - elapsed)
        dose -= dose * -np.expm1(-np.log(2.0) / HALF_LIFE_S * step)
        elapsed += step
    return value_bqml / (dose / (WEIGHT_KG * 1000))


@pytest.mark.parametrize(
    ("changes", "after_s"),
    [
        ({}, 3600),
        ({"DecayCorrection": "ADMIN"}, 0),
        ({"RadiopharmaceuticalStartDateTime": "20200101103000"}, 1800),
        ({"SeriesTime": "001000", "AcquisitionTime": "001000"}, (14 * 60 + 10) * 60),
        # processed later: the series claims to start after it was acquired
        ({"SeriesTime": "130000"}, 3600),
        ({"SeriesTime": "", "SeriesDate": ""}, 3600),
        ({"AcquisitionTime": "110500"}, 3600),
    ],
)
def test_activity_becomes_uptake(changes, after_s):
    if changes.get("SeriesTime") == "001000":
        changes = changes | {"RadiopharmaceuticalStartTime": "233000"}
        after_s = 40 * 60
    found = uptake([stated(**changes)])
    assert found.missing == ""
    np.testing.assert_allclose(found.factor * 5000.0, slow_suv(5000.0, after_s), rtol=1e-9)


def test_the_earliest_acquisition_counts():
    slices = [stated(SeriesTime="120000", AcquisitionTime=time) for time in ("111000", "110000")]
    assert uptake(slices).factor == uptake([stated()]).factor


def test_a_long_lived_isotope_may_be_injected_days_before():
    days = stated(RadiopharmaceuticalStartDateTime="20191230100000", RadionuclideHalfLife="230549")
    assert days.series_after_s == 2 * 86400 + 3600
    assert uptake([days]).factor > 0


def test_a_long_lived_isotope_needs_the_day_of_its_injection():
    """By the time of day alone, a scan three days later would look like one on the same day."""
    zirconium = {"RadionuclideHalfLife": "282276"}
    assert uptake([stated(**zirconium)]).missing == "injection_date"
    assert uptake([stated(**zirconium, DecayCorrection="ADMIN")]).missing == ""
    dated = stated(**zirconium, RadiopharmaceuticalStartDateTime="20191229100000")
    days_s = 3 * 86400 + 3600
    expected = WEIGHT_KG * 1000 / (DOSE_BQ * 2 ** (-days_s / 282276))
    assert uptake([dated]).factor == pytest.approx(expected)


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"PatientWeight": ""}, "weight"),
        ({"PatientWeight": "7000"}, "weight"),
        ({"RadionuclideTotalDose": "0"}, "dose"),
        ({"RadionuclideHalfLife": ""}, "half_life"),
        ({"RadiopharmaceuticalStartTime": ""}, "time"),
        ({"SeriesTime": "", "AcquisitionTime": ""}, "time"),
        ({"DecayCorrection": "NONE"}, "decay_correction"),
        ({"CorrectedImage": ["DECY"]}, "not_corrected"),
        ({"Units": "PROPCPS"}, "units"),
        ({"Units": "CNTS"}, "units"),
        ({"Units": "GML", "SUVType": "LBM"}, "suv_type"),
        ({"Units": "GML", "SUVType": "BSA"}, "suv_type"),
        ({"RadiopharmaceuticalStartDateTime": "20200101120000"}, "implausible_time"),
        ({"RadiopharmaceuticalStartDateTime": "20190101120000"}, "implausible_time"),
    ],
)
def test_what_is_not_known_is_not_made_up(changes, missing):
    assert (uptake([stated(**changes)]).factor, uptake([stated(**changes)]).missing) == (
        None,
        missing,
    )


def test_enhanced_and_mixed_pets_are_left_alone():
    assert uptake([stated(enhanced=True)]).missing == "enhanced"


@pytest.mark.parametrize(
    "other",
    [
        {"dose_bq": 1.0},
        {"half_life_s": 1200.0},
        {"weight_kg": 71.0},
        {"corrected": False},
        {"philips_suv": 0.5},
        {"philips_activity": 0.5},
    ],
)
def test_slices_that_state_different_things_have_no_one_factor(other):
    assert uptake([stated(), replace(stated(), **other)]).missing == "slices_differ"


def test_counts_need_the_makers_own_factor():
    def philips(suv, activity):
        ds = dataset(Units="CNTS")
        block = ds.private_block(0x7053, "Philips PET Private Group", create=True)
        block.add_new(0x00, "DS", suv)
        block.add_new(0x09, "DS", activity)
        return pet_of(ds, enhanced=False)

    assert uptake([philips("0.25", "2")]).factor == 0.25
    assert uptake([philips("0", "2")]).factor == pytest.approx(2 * uptake([stated()]).factor)
    assert uptake([philips("0", "0")]).missing == "units"
    assert uptake([stated(Units="GML")]).factor == 1
    assert uptake([stated(Units="GML", SUVType="BW")]).factor == 1


def test_other_modalities_have_no_uptake():
    assert pet_of(dataset(Modality="CT"), enhanced=False) is None
    assert isinstance(stated(), Pet)


@pytest.mark.parametrize(
    ("changes", "intensity", "flag"),
    [
        ({}, "suv", None),
        ({"PatientWeight": ""}, "bqml", "suv_unavailable_weight"),
        ({"Units": "PROPCPS"}, "unknown", "suv_unavailable_units"),
    ],
)
def test_a_series_of_pet(changes, intensity, flag, tmp_path):
    """Slopes differ from slice to slice, as they do in PET."""
    values = phantoms.phantom(AFFINE, (7, 6, 5))

    def make(ds, k):
        stored = np.frombuffer(ds.PixelData, np.int16)
        ds.SOPClassUID, ds.RescaleSlope = PositronEmissionTomographyImageStorage, k + 1
        ds.RescaleIntercept, ds.PixelData = 0, (stored // (k + 1) * 1).tobytes()
        ds.update(dataset(**changes))

    phantoms.write_dicom(tmp_path, values, AFFINE, modality="PT", edit=make)
    (found,) = read_dicom_folder(tmp_path)
    expected = np.stack([values[:, :, k] // (k + 1) * (k + 1) for k in range(5)], axis=2)
    factor = uptake([stated(**changes)]).factor
    assert found.volume.intensity == intensity
    assert found.suv_factor == factor
    np.testing.assert_allclose(found.volume.array_IJK, expected * (factor or 1), rtol=1e-6)
    assert flag is None or flag in found.flags
