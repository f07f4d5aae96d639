"""DICOM's terms that decide what a file is: the tags read, the classes accepted and refused."""

from pydicom import uid

IMAGE_CLASSES = frozenset(
    {
        uid.CTImageStorage,
        uid.MRImageStorage,
        uid.PositronEmissionTomographyImageStorage,
    }
)
"""Classic images, one slice per file."""

MULTIFRAME_CLASSES = frozenset(
    {
        uid.EnhancedCTImageStorage,
        uid.EnhancedMRImageStorage,
        uid.EnhancedPETImageStorage,
        uid.LegacyConvertedEnhancedCTImageStorage,
        uid.LegacyConvertedEnhancedMRImageStorage,
        uid.LegacyConvertedEnhancedPETImageStorage,
    }
)
"""Enhanced images, many slices per file."""

CAPTURE_CLASSES = frozenset(
    {
        uid.SecondaryCaptureImageStorage,
        uid.MultiFrameSingleBitSecondaryCaptureImageStorage,
        uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
        uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
    }
)

DERIVED_CLASSES = frozenset(
    {
        uid.SegmentationStorage,
        uid.SurfaceSegmentationStorage,
        uid.UID("1.2.840.10008.5.1.4.1.1.66.7"),  # Label Map Segmentation Storage
        uid.RTStructureSetStorage,
        uid.ParametricMapStorage,
        uid.SpatialRegistrationStorage,
        uid.DeformableSpatialRegistrationStorage,
    }
)
"""What was computed or drawn on images, which lie elsewhere."""

DICOMDIR_CLASS = uid.MediaStorageDirectoryStorage
MODALITIES = frozenset({"CT", "MR", "PT"})

LOCALIZER_TYPES = frozenset({"LOCALIZER", "SCOUT", "TOPOGRAM"})
SCREEN_TYPES = frozenset(
    {"SCREEN SAVE", "SCREEN_SAVE", "SCREENSAVE", "DOSE_INFO", "DOSE INFO", "DOSE"}
    | {"PATIENT_INFO", "PATIENT INFO", "CT_SOM5 PROT"}
)
"""Screens with the patient's name on them: dose tables, protocols, what an operator saved."""
PROJECTION_TYPES = frozenset(
    {"MIP", "MAX_IP", "MIN_IP", "MINIP", "PROJECTION IMAGE", "SUBTRACTION", "SUBTRACT"}
)

HEADER_TAGS = [
    "SOPClassUID",
    "Modality",
    "ImageType",
    "BodyPartExamined",
    "BurnedInAnnotation",
    "InstanceNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "PhotometricInterpretation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "EchoTime",
    "DiffusionBValue",
    "DiffusionGradientOrientation",
    "TemporalPositionIndex",
    "TemporalPositionIdentifier",
    "TriggerTime",
    "ComplexImageComponent",
    "ConvolutionKernel",
    "AcquisitionNumber",
]
"""Everything ingest reads of a header to make a volume, beside the identifiers that headers.py
replaces."""

ACQUISITION_TAGS = [
    "Manufacturer",
    "ManufacturerModelName",
    "DeviceSerialNumber",
    "AcquisitionUID",
    "KVP",
    "RepetitionTime",
    "InversionTime",
    "FlipAngle",
    "MagneticFieldStrength",
    "SpacingBetweenSlices",
    "StudyDate",
    "StudyTime",
    "AcquisitionDateTime",
    "AcquisitionTime",
    "PatientSex",
    "PatientAge",
    "PatientBirthDate",
]
"""What acquisition.py makes facts of that name nobody."""

PET_TAGS = [
    "Units",
    "SUVType",
    "DecayCorrection",
    "CorrectedImage",
    "PatientWeight",
    "RadiopharmaceuticalInformationSequence",
]
PET_TIME_TAGS = ["SeriesDate", "SeriesTime", "AcquisitionDate", "AcquisitionTime"]
"""What pet.py makes uptake of; the times of a PET only."""

PHILIPS_PET_TAGS: list[str | int] = [0x7053_0010, 0x7053_1000, 0x7053_1009]
"""Private: how to turn stored counts into uptake, or into activity."""

PHASE_TAGS = {
    "echo_ms": ("EffectiveEchoTime", "EchoTime"),
    "b_value": ("DiffusionBValue",),
    "gradient": ("DiffusionGradientOrientation",),
    "time_point": ("TemporalPositionIndex", "TemporalPositionIdentifier"),
    "inversion_ms": ("InversionTimes", "InversionTime"),
    "trigger_ms": ("NominalCardiacTriggerDelayTime", "TriggerTime"),
    "component": ("ComplexImageComponent",),
    "kernel": ("ConvolutionKernel",),
    "frame_type": ("FrameType",),
    "stack": ("StackID",),
    "acquisition": ("AcquisitionNumber", "FrameAcquisitionNumber"),
}
"""What may tell two images of one place apart, the likeliest first."""

DIMENSION_LABELS = tuple(f"dimension_{number}" for number in range(1, 9))
"""What numbers the frames of an enhanced image (DimensionIndexValues), one label for each number:
the last resort, where nothing says what the numbers count."""

PIXEL_TAGS = [
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "PixelData",
]
"""What decoding needs."""
