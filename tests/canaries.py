"""A source with 37 planted, invented identifiers, in every place that a DICOM file has for them."""

from pathlib import Path

from pydicom import Dataset, Sequence
from pydicom.dataelem import DataElement

from tests import phantoms

FOLDER, FILE = "WINTERBOTTOM_AGATHA_4471", "ZUCKERKANDL-55012"

PLANTED = {
    "PatientName": "Quillfeather^Ida",
    "OtherPatientNames": "Thistlewood^Ida",
    "PatientID": "MRN-77120458",
    "IssuerOfPatientID": "St Brannock Trust",
    "OtherPatientIDs": "OLD-99812734",
    "PatientBirthDate": "19470311",
    "PatientAddress": "3 Cormorant Row, Pevensey",
    "PatientTelephoneNumbers": "+44-7700-900461",
    "PatientComments": "neighbour of the Oakapple family",
    "MilitaryRank": "Wing Commander retd",
    "PatientReligiousPreference": "Zoroastrian rite",
    "AccessionNumber": "ACC-90817263",
    "StudyID": "STID-551920",
    "StudyDescription": "follow-up Mrs Quillfeather",
    "StudyDate": "20090514",
    "AcquisitionDateTime": "20090519101112.5",
    "SeriesDescription": "asked for by Otto M.",
    "ProtocolName": "ward Kestrel-9 protocol",
    "ReferringPhysicianName": "Marchbanks^Otto",
    "OperatorsName": "Fotheringay^Lionel",
    "InstitutionName": "Larkspur Infirmary",
    "InstitutionAddress": "Gannet Hill 12, Seaford",
    "StationName": "LARKCT07B",
    "DeviceSerialNumber": "SN-4410-9927",
    "ImageComments": "shown to Dr. Ptarmigan",
    "AcquisitionComments": "cannula, Nurse Dunnock",
    "ImageType": "KITTIWAKE",
    "StudyInstanceUID": "1.3.6.1.4.1.55555.7.20090514.4471",
    "RequestedProcedureDescription": "query of Sgt. Brambling",
    "CodeMeaning": "protocol of Prof. Whimbrel",
    "private": "private note on Ida Q.",
    "orphan": "orphaned note on Ida Q.",
    "OverlayDescription": "drawn by Dr. Siskin",
    "curve": "traced by Dr. Redpoll",
    "padding": "padded with Godwit-8812",
    "preamble": "preamble of Shearwater-31",
    "trailing": "appended by Fieldfare-77",
}
"""Kind to value; 37 with the last words after the data set. File and folder names come on top."""

NAMES = {"Quillfeather", "Thistlewood", "Marchbanks", "Fotheringay"}
_IN_SEQUENCES = {"RequestedProcedureDescription", "CodeMeaning"}
_NOT_KEYWORDS = {"private", "orphan", "curve", "padding", "preamble", "trailing"}


def plant(ds: Dataset, _index: int = 0) -> None:
    """Put every identifier that has a place in a data set into ``ds``."""
    for keyword, value in PLANTED.items():
        if keyword == "OverlayDescription":
            ds.add_new(0x60000022, "LO", value)
        elif keyword == "ImageType":
            ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL", value]
        elif keyword not in _NOT_KEYWORDS | _IN_SEQUENCES:
            setattr(ds, keyword, value)
    code, request = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator = "P1", "99LOCAL"
    code.CodeMeaning = PLANTED["CodeMeaning"]
    request.RequestedProcedureDescription = PLANTED["RequestedProcedureDescription"]
    request.ScheduledProtocolCodeSequence = Sequence([code])
    ds.RequestAttributesSequence = Sequence([request])
    inner = Dataset()
    inner.private_block(0x0079, "LARK 1", create=True).add_new(0x01, "LO", PLANTED["private"])
    ds.private_block(0x0077, "LARK 1", create=True).add_new(0x01, "SQ", Sequence([inner]))
    ds.add(DataElement(0x00771055, "LO", PLANTED["orphan"]))
    ds.add_new(0x50002500, "LO", PLANTED["curve"])
    ds.add_new(0xFFFCFFFC, "OB", PLANTED["padding"].encode() + b" ")
    ds.BodyPartExamined = "CHEST"
    ds.PatientSex, ds.PatientAge, ds.PatientWeight = "F", "062Y", "61.5"
    ds.SeriesTime = ds.AcquisitionTime = "101112"


def write(
    folder: Path, shape=(20, 18, 6), *, modality="CT", edit=None, origin_mm=(-20.0, 31.0, -12.0)
) -> list[Path]:
    """Write a series with everything planted; return its files."""
    affine = phantoms.affine_ras((4, 3, 2), origin=origin_mm)

    def both(ds, index):
        plant(ds)
        if edit is not None:
            edit(ds, index)

    source = folder / FOLDER
    slices = phantoms.dicom_slices(
        phantoms.phantom(affine, shape), affine, modality=modality, edit=both
    )
    paths = []
    for number, path in enumerate(phantoms.save(slices, source)):
        content = path.read_bytes()
        start = PLANTED["preamble"].encode().ljust(128, b"\0")
        path.write_bytes(start + content[128:] + PLANTED["trailing"].encode())
        paths.append(path.rename(source / f"{FILE}-{number}.dcm"))
    return paths


def everything() -> set[str]:
    """Return every planted text, and the parts of names, files and folders."""
    dates = {PLANTED["AcquisitionDateTime"]}
    return set(PLANTED.values()) - dates | {"20090519"} | NAMES | {FOLDER, FILE}
