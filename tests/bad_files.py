"""For every reason code, files that earn it; each function writes them into an empty folder."""

import gzip

import numpy as np
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG2MPML,
    UID,
    EnhancedCTImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    generate_uid,
)

from tests import phantoms

AFFINE = phantoms.affine_ras()


def series(folder, *, shape=phantoms.SHAPE, modality="CT", affine=AFFINE, edit=None):
    return phantoms.write_dicom(
        folder, phantoms.phantom(affine, shape), affine, modality=modality, edit=edit
    )


def slices(*, modality="CT", affine=AFFINE, edit=None, shape=phantoms.SHAPE):
    return phantoms.dicom_slices(
        phantoms.phantom(affine, shape), affine, modality=modality, edit=edit
    )


def edited(**values):
    """Return a builder of a series with these attributes on every slice; None deletes one."""

    def edit(ds, _):
        for keyword, value in values.items():
            if value is None:
                del ds[keyword]
            else:
                setattr(ds, keyword, value)

    return lambda folder: series(folder, edit=edit)


def on_slice(number, change, **options):
    """Return a builder of a series with one slice changed."""
    return lambda folder: series(
        folder, edit=lambda ds, k: change(ds) if k == number else None, **options
    )


def moved(places_mm):
    """Return a builder of a series whose slices lie at these places along z."""

    def edit(ds, k):
        x, y, _ = ds.ImagePositionPatient
        ds.ImagePositionPatient = [x, y, places_mm[k]]

    return lambda folder: series(folder, edit=edit, shape=(7, 6, len(places_mm)))


def raw(content, name="file"):
    """Return a builder of one file with these bytes."""

    def build(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    return build


def nifti_bytes(array=None, affine=AFFINE, **header):
    """Return an uncompressed NIfTI; its voxels are right on ``AFFINE``, whatever ``affine``."""
    array = phantoms.phantom(AFFINE) if array is None else array
    return phantoms.nifti_bytes(array, affine, **header)


def nifti(array=None, affine=AFFINE, name="v.nii", **header):
    """Return a builder of one NIfTI file."""
    return raw(nifti_bytes(array, affine, **header), name)


def _broken_link(folder):
    folder.mkdir(parents=True)
    (folder / "gone.dcm").symlink_to(folder / "nowhere")


def _cut(folder):
    *_, last = series(folder)
    last.write_bytes(last.read_bytes()[:-20])


def _cut_in_header(folder):
    first, *_ = series(folder)
    first.write_bytes(first.read_bytes()[:150])


def _big_pixels(folder):
    """A compressed slice whose header claims 65535 x 65535 pixels."""

    def claim(ds, k):
        ds.compress(RLELossless)
        ds.Rows = ds.Columns = 65535

    series(folder, edit=claim)


def _as_capture(ds):
    ds.SOPClassUID = SecondaryCaptureImageStorage


def _as_rgb(ds):
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    ds.PixelData = bytes(ds.Rows * ds.Columns * 3)


def _same_number_other_pixels(folder):
    all_slices = slices()
    twin = slices()[2]
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        setattr(twin, keyword, all_slices[2][keyword].value)
    twin.SOPInstanceUID = all_slices[2].SOPInstanceUID
    twin.PixelData = bytes(len(twin.PixelData))
    phantoms.save([*all_slices, twin], folder)


def _copy_of_a_slice(folder):
    all_slices = slices()
    phantoms.save(all_slices, folder)
    all_slices[2].SOPInstanceUID = generate_uid()
    all_slices[2].InstanceNumber = 99
    phantoms.save([all_slices[2]], folder, seed=1)


def _two_pictures_of_one_place(folder):
    all_slices = slices()
    phantoms.save(all_slices, folder)
    all_slices[2].SOPInstanceUID = generate_uid()
    all_slices[2].PixelData = bytes(len(all_slices[2].PixelData))
    phantoms.save([all_slices[2]], folder, seed=1)


def _time_series(folder):
    all_slices = slices(modality="MR")
    for time in range(10):
        for ds in all_slices:
            ds.SOPInstanceUID, ds.TemporalPositionIdentifier = generate_uid(), time + 1
        phantoms.save(all_slices, folder, seed=time)


def _stopped_time_series(folder):
    """Three time points, of the last of which one slice is missing."""
    all_slices = slices(modality="MR")
    for time in range(3):
        for k, ds in enumerate(all_slices):
            ds.SOPInstanceUID, ds.TemporalPositionIdentifier = generate_uid(), time + 1
            ds.PixelData = np.full(42, 10 * time + k, np.int16).tobytes()
        phantoms.save(all_slices[: 4 if time == 2 else 5], folder, seed=time)


def _renumbered(folder):
    series(folder, edit=lambda ds, _: setattr(ds, "SeriesInstanceUID", generate_uid()))


def _two_patients(folder):
    on_slice(1, lambda ds: setattr(ds, "PatientID", "P-2"))(folder)


def _tilted(folder):
    affine = AFFINE.copy()
    affine[1, 2] += 0.5
    series(folder, affine=affine)


def _stray(folder):
    def edit(ds, k):
        x, y, z = ds.ImagePositionPatient
        ds.ImagePositionPatient = [x + (0.8 if k == 2 else 0), y, z]

    series(folder, edit=edit)


def _slanted_axes(ds, _):
    ds.ImageOrientationPatient = [1, 0, 0, 0.5, 0.8, 0]


def _spacing_drifts(ds, k):
    ds.PixelSpacing = [2.0 + 0.1 * k, 1.5]


def _plain_multiframe(folder):
    (ds, *_) = slices()
    ds.NumberOfFrames, ds.PixelData = 4, ds.PixelData * 4
    phantoms.save([ds], folder)


def _frames_of_one_place(folder):
    files = slices()
    for ds in files[1:]:
        ds.ImagePositionPatient = files[0].ImagePositionPatient
    phantoms.save([phantoms.enhanced(files, EnhancedCTImageStorage)], folder)


def _garbage_rle(folder):
    def spoil(ds, k):
        ds.compress(RLELossless)
        ds.PixelData = encapsulate([b"\x07" * 200])

    series(folder, edit=spoil)


def _unknown_syntax(folder):
    def claim(ds, k):
        ds.compress(RLELossless)
        ds.file_meta.TransferSyntaxUID = MPEG2MPML

    series(folder, edit=claim)


def _dicomdir(folder):
    (ds, *_) = slices()
    ds.SOPClassUID = UID("1.2.840.10008.1.3.10")
    phantoms.save([ds], folder)


def _offset_ct(ds, k):
    """Values 1000 to 2000, as scanners store them, without the rescale that would explain them."""
    del ds.RescaleSlope, ds.RescaleIntercept
    ds.PixelData = (np.arange(ds.Rows * ds.Columns, dtype=np.int16) + 1000).tobytes()


def _inflating(folder):
    content = nifti_bytes() + bytes(2**21)
    raw(gzip.compress(content), "v.nii.gz")(folder)


def _bad_checksum(folder):
    packed = bytearray(gzip.compress(nifti_bytes()))
    packed[-6] ^= 0xFF
    raw(bytes(packed), "v.nii.gz")(folder)


def _not_numbers(folder):
    array = phantoms.phantom(AFFINE, dtype=np.float32)
    array[:3] = np.nan
    nifti(array)(folder)


def _sheared():
    affine = AFFINE.copy()
    affine[0, 2] = 1.0
    return affine


ANY = {
    "not_dicom": raw(b"a shopping list", "notes.txt"),
    "excluded": raw(b"anything", "excluded.bin"),
    "unreadable_file": _broken_link,
    "damaged_header": raw(b"no NIfTI at all", "v.nii.gz"),
    "decompression_bomb": _inflating,
    "too_large": nifti(dim=[3, 32767, 32767, 32767, 1, 1, 1, 1]),
}

DICOM = {
    "damaged_header": _cut_in_header,
    "too_large": _big_pixels,
    "dicomdir": _dicomdir,
    "unsupported_modality": edited(Modality="US"),
    "derived_object": on_slice(4, lambda ds: setattr(ds, "SOPClassUID", SegmentationStorage)),
    "secondary_capture": on_slice(4, _as_capture),
    "localizer": edited(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
    "burned_in_risk": edited(BurnedInAnnotation="YES"),
    "projection": edited(ImageType=["DERIVED", "PRIMARY", "MIP"]),
    "rgb": on_slice(4, _as_rgb),
    "duplicate_slice": _copy_of_a_slice,
    "no_pixel_data": edited(PixelData=None),
    "truncated_pixel_data": _cut,
    "pixel_length_mismatch": edited(Rows=65535, Columns=65535),
    "unsupported_transfer_syntax": _unknown_syntax,
    "undecodable_pixels": _garbage_rle,
    "patient_conflict": _two_patients,
    "sop_uid_conflict": _same_number_other_pixels,
    "no_geometry": edited(ImagePositionPatient=None),
    "no_pixel_spacing": edited(PixelSpacing=None),
    "bad_orientation": lambda folder: series(folder, edit=_slanted_axes),
    "pixel_spacing_varies": lambda folder: series(folder, edit=_spacing_drifts),
    "frame_of_reference_varies": on_slice(
        3, lambda ds: setattr(ds, "FrameOfReferenceUID", generate_uid())
    ),
    "too_few_slices": lambda folder: series(folder, shape=(7, 6, 2)),
    "coincident_positions": moved([0, 0, 0, 0, 0]),
    "ambiguous_positions": _two_pictures_of_one_place,
    "time_series": _time_series,
    "incomplete_volume": _stopped_time_series,
    "single_slices": _renumbered,
    "no_slice_thickness": lambda folder: series(folder, shape=(7, 6, 1)),
    "missing_slices": moved([0, 3, 6, 12, 15]),
    "uneven_spacing": moved([0, 3, 6.5, 10.7, 12]),
    "gantry_tilt": _tilted,
    "positions_off_line": _stray,
    "mosaic_unsupported": edited(ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]),
    "frames_undescribed": _plain_multiframe,
    "multiframe_unsupported": _frames_of_one_place,
    "ct_no_rescale": lambda folder: series(folder, edit=_offset_ct),
}

NIFTI = {
    "truncated_file": raw(nifti_bytes()[:-50], "v.nii"),
    "damaged_compression": _bad_checksum,
    "bad_dimensions": nifti(dim=[3, 7, -6, 5, 1, 1, 1, 1]),
    "bad_offset": nifti(vox_offset=0),
    "nifti_pair_unsupported": nifti(magic=b"ni1"),
    "unsupported_datatype": nifti(datatype=1536),
    "no_orientation": nifti(sform_code=0, qform_code=0),
    "bad_affine": nifti(srow_x=[0, 0, 0, 0]),
    "sheared_affine": nifti(affine=_sheared()),
    "frames_differ": nifti(qoffset_x=5.0),
    "not_finite": _not_numbers,
    "complex_values": nifti(np.zeros(phantoms.SHAPE, np.complex64)),
    "rgb": nifti(datatype=128),
    "time_series": nifti(np.zeros((7, 6, 5, 3), np.int16)),
    "too_few_slices": nifti(np.zeros((7, 6, 1), np.int16)),
}

POLICIES = {
    "gantry_tilt": {"tilt": "quarantine"},
    "sheared_affine": {"shear": "quarantine"},
    "time_series": {"time_series": "skip"},
    "frames_differ": {"frames_differ": "quarantine"},
}
"""What makes medssl refuse what it would resample, split or flag."""

CASES = [
    *(("any", code, build) for code, build in ANY.items()),
    *(("dicom", code, build) for code, build in DICOM.items()),
    *(("nifti", code, build) for code, build in NIFTI.items()),
]
