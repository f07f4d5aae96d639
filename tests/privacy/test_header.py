"""A header by allow-list: what looks like the standard's own is the standard's own."""

from pydicom import Dataset
from pydicom.uid import CTImageStorage

from medssl.io.deidentify import Pseudonymizer
from medssl.privacy.header import HeaderCleaner


def test_a_uid_that_borrows_the_root_of_the_standard_is_replaced():
    ds = Dataset()
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = "1.2.840.10008.77120458"
    ds.FrameOfReferenceUID = "1.2.840.10008.1.4.1.1"  # Talairach's
    item = Dataset()
    item.ReferencedSOPClassUID = item.ReferencedSOPInstanceUID = "1.2.840.10008.77120458"
    ds.ReferencedImageSequence = [item]
    clean = HeaderCleaner(Pseudonymizer.ephemeral(), "patient").clean(ds)
    assert "77120458" not in str(clean)
    assert clean.SOPInstanceUID.startswith("2.25.")
    assert (clean.SOPClassUID, clean.FrameOfReferenceUID) == (
        CTImageStorage,
        "1.2.840.10008.1.4.1.1",
    )
