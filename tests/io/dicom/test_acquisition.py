from dataclasses import asdict, replace

import pytest
from pydicom import Dataset
from pydicom.config import disable_value_validation

from medssl.io.deidentify import Pseudonymizer
from medssl.io.dicom import acquisition
from medssl.io.dicom.acquisition import Acquisition, acquisition_of, agreed

KEY = Pseudonymizer.ephemeral()


def facts(key=KEY, **values):
    ds = Dataset()
    ds.SeriesInstanceUID = "1.2.3"
    with disable_value_validation():
        for keyword, value in values.items():
            setattr(ds, keyword, value)
        return acquisition_of([ds], ds, key, "patient")


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("SIEMENS", "siemens"),
        ("Siemens Healthineers", "siemens"),
        ("GE MEDICAL SYSTEMS", "ge"),
        ("Gertrude's scanner", "other"),
        ("TOSHIBA", "canon"),
        ("UIH", "united_imaging"),
        ("", ""),
    ],
)
def test_manufacturers_become_words_of_a_vocabulary(name, word):
    assert facts(Manufacturer=name).manufacturer == word


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("B30f", "B30f"),
        (["I31f", "3"], "I31f"),
        ("FC51", "FC51"),
        ("LUNG", "LUNG"),
        ("YB", "YB"),
        ("Doe^Jane", ""),
        ("Jane", ""),
        ("Jane12", ""),
        ("", ""),
    ],
)
def test_kernels_are_believed_where_they_look_like_one(text, name):
    assert facts(ConvolutionKernel=text).kernel == name


def test_numbers_out_of_range_are_not_stated():
    assert facts(KVP="120").kvp == 120
    assert facts(KVP="1200000").kvp is None
    assert facts(KVP="").kvp is None
    assert facts(SpacingBetweenSlices="2.5").stated_step_mm == 2.5
    assert facts(SpacingBetweenSlices="-2.5").stated_step_mm is None  # of nuclear medicine
    assert facts(MagneticFieldStrength="1.5").field_strength_t == 1.5
    assert facts(MagneticFieldStrength="15000").field_strength_t == 1.5  # some write gauss
    assert facts(EchoTime="0").echo_time_ms == 0


@pytest.mark.parametrize(
    ("values", "band"),
    [
        ({"PatientAge": "045Y"}, "40-49"),
        ({"PatientAge": "006M"}, "0-9"),
        ({"PatientAge": "093Y"}, "90+"),
        ({"PatientBirthDate": "19800615", "StudyDate": "20200614"}, "30-39"),
        ({"PatientBirthDate": "19800615", "StudyDate": "20200616"}, "40-49"),
        ({"PatientBirthDate": "20300615", "StudyDate": "20200616"}, ""),
        ({"PatientAge": "old"}, ""),
        ({}, ""),
    ],
)
def test_age_bands(values, band):
    assert facts(**values).age_band == band


def test_days_are_shifted_by_patient_and_keep_their_distance():
    first, later = (facts(StudyDate=day).relative_day for day in ("20200228", "20200301"))
    assert later - first == 2
    other = acquisition_of([Dataset()], Dataset(), KEY, "someone else")
    assert other.relative_day is None
    assert facts(key=Pseudonymizer.ephemeral(), StudyDate="20200228").relative_day != first
    assert facts(StudyDate="2020").relative_day is None


@pytest.mark.parametrize(
    ("study", "acquired", "seconds"),
    [
        ("101500", {"AcquisitionTime": "101742.250"}, 162.25),
        ("101500", {"AcquisitionTime": "1014"}, -60.0),
        ("235959", {"AcquisitionTime": "000001"}, 2.0),
        ("10:15:00", {"AcquisitionDateTime": "20200228101501.5+0100"}, 1.5),
        ("101500", {"AcquisitionDateTime": "2020", "AcquisitionTime": "101501"}, 1.0),
        ("", {"AcquisitionTime": "101500"}, None),
        ("101500", {}, None),
        ("101500", {"AcquisitionTime": "noon"}, None),
    ],
)
def test_acquisitions_are_timed_from_the_study(study, acquired, seconds):
    assert facts(StudyTime=study, **acquired).acquisition_s == seconds


def test_a_volume_begins_with_its_first_slice():
    found = agreed([Acquisition(acquisition_s=s) for s in (12.0, None, 10.5)])
    assert found.acquisition_s == 10.5


def test_reconstructions_of_one_acquisition_share_its_key():
    one = {"StudyInstanceUID": "1.2", "FrameOfReferenceUID": "1.3", "AcquisitionNumber": "4"}
    key = facts(SeriesInstanceUID="1.5", **one).acquisition_key
    assert key == facts(SeriesInstanceUID="1.6", **one).acquisition_key
    assert key != facts(**one | {"StudyInstanceUID": "1.7"}).acquisition_key
    assert key != facts(**one | {"FrameOfReferenceUID": "1.8"}).acquisition_key


def test_scanners_and_acquisitions_are_told_apart_and_not_named():
    one = facts(Manufacturer="SIEMENS", ManufacturerModelName="Force", AcquisitionNumber="1")
    assert one.scanner_key not in ("", facts(ManufacturerModelName="Force").scanner_key)
    assert one.acquisition_key not in ("", facts(AcquisitionNumber="2").acquisition_key)
    assert facts().scanner_key == facts().acquisition_key == ""


def test_no_text_of_a_header_passes():
    hostile = "Canary^Jane"
    keywords = ["Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "PatientSex"]
    found = facts(
        **dict.fromkeys([*keywords, "ConvolutionKernel", "PatientAge", "StudyDate"], hostile)
    )
    assert not any("anary" in str(value) for value in asdict(found).values())
    assert acquisition.kernel(hostile) == ""


def test_what_slices_disagree_on_is_not_stated():
    one = Acquisition(manufacturer="ge", kvp=120.0, sex="F", relative_day=5)
    both = agreed([one, replace(one, kvp=100.0, relative_day=6)])
    assert both == Acquisition(manufacturer="ge", sex="F")
    assert agreed([one]) == one
