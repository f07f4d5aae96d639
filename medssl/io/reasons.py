"""Why a file did not become a volume: every reason code, and the sentence a person reads.

A sentence says what was found and, where there is something to do, what to do. It is filled
with counts, sizes and names from a standard only: never with text out of the file.
"""

from dataclasses import dataclass

from medssl.errors import RejectedFileError


@dataclass(frozen=True)
class Reason:
    """One reason code: its sentence, and whether the file is merely none of our business.

    Attributes:
        sentence: a format string; its fields are numbers or terms of a standard.
        skipped: True for what was never a scan to convert (a scout, a report, a text file);
            False for a scan that should have converted and cannot be trusted.
    """

    sentence: str
    skipped: bool = False


def _skip(sentence: str) -> Reason:
    return Reason(sentence, skipped=True)


REASONS: dict[str, Reason] = {
    # What a file is
    "not_dicom": _skip("Neither DICOM nor NIfTI: its content is not of a format read here."),
    "excluded": _skip("Left out by an `exclude` pattern of the configuration."),
    "unreadable_file": Reason(
        "The file could not be opened or read. Check its permissions and the disk, then ingest "
        "again."
    ),
    "damaged_header": Reason("The header is damaged or cut short and cannot be understood."),
    "not_for_dicom": Reason(
        "Its header, a name that the model gives, or an answer cannot be written as DICOM; NIfTI "
        "and JSON do not need them."
    ),
    "too_large": Reason(
        "The header announces {announced_mib:.0f} MiB of voxels, more than the {limit_mib:.0f} "
        "MiB allowed. If it is real, raise `max_volume_mib`."
    ),
    "out_of_memory": Reason(
        "Reading it needs more memory than there was. If it is real, use fewer workers or a "
        "machine with more memory; if not, lower `max_volume_mib`."
    ),
    "decompression_bomb": Reason(
        "Unpacking it gives more than its header announces or than is allowed; it was not read "
        "to the end."
    ),
    "decoder_crashed": Reason(
        "Decoding it ended the worker process (a damaged file, or too little memory); the other "
        "files went on."
    ),
    # Archives and their members
    "damaged_archive": Reason(
        "The archive is damaged or cut short, or is none; what could be read of it was."
    ),
    "damaged_member": Reason("A member of an archive that is damaged or packed in an unknown way."),
    "encrypted_member": Reason(
        "A member of an archive that is locked by a password. Unpack it, then ingest the files."
    ),
    "unsafe_member": Reason(
        "A member of an archive that is a link, a device, or would be written outside of its "
        "folder: not unpacked."
    ),
    "duplicate_member": Reason("A second member of the same name in an archive: not unpacked."),
    "nested_archive": Reason(
        "An archive inside an archive: not opened. Unpack the outer one, then ingest the folder."
    ),
    "archive_too_large": Reason(
        "The archive's members together exceed {limit_gib:.3g} GiB. If they are real, raise "
        "`archive.most_gib`."
    ),
    "too_many_members": Reason(
        "The archive has more than {most} members. If they are real, raise `archive.most_members`."
    ),
    # DICOM files that are no scans
    "dicomdir": _skip("A DICOMDIR index; the files it lists are read by themselves."),
    "unsupported_modality": _skip("DICOM, but not an image of CT, MR or PET."),
    "derived_object": _skip(
        "Made of a scan, not a scan: a segmentation, contours, a registration or a parametric map."
    ),
    "secondary_capture": _skip("A secondary capture (a screenshot or a scanned page), not a scan."),
    "localizer": _skip("A localizer (scout) image, used to plan the scan."),
    "burned_in_risk": _skip("An image that says it has text burned in, such as a dose screen."),
    "burned_in_text": Reason(
        "Text was found in its pixels, which may name the patient. The check is `ocr` in the "
        "configuration."
    ),
    "projection": _skip("A projection or subtraction (such as a MIP), not a stack of slices."),
    "rgb": _skip("A colour image, not a scan of one intensity."),
    "duplicate_slice": _skip("The same slice as another file of the series, which was used."),
    # DICOM files that cannot be decoded
    "no_pixel_data": Reason("Says it is an image, and holds no pixel data."),
    "truncated_pixel_data": Reason(
        "{bad} of {total} slices end before their pixel data does: an interrupted copy? Fetch "
        "the series again."
    ),
    "pixel_length_mismatch": Reason(
        "In {bad} of {total} slices the pixel data has not the length that rows, columns and "
        "bits announce."
    ),
    "unsupported_transfer_syntax": Reason(
        "{bad} of {total} slices are compressed in a way no installed decoder reads ({syntax}). "
        "{advice}"
    ),
    "undecodable_pixels": Reason("The pixel data of a slice cannot be decoded: damaged."),
    # DICOM series that are no regular volume
    "incomplete_redelivery": Reason(
        "Part of a series converted before, of which {gone} file(s) cannot be found now: the "
        "earlier volume was kept. Ingest the whole series together."
    ),
    "patient_conflict": Reason(
        "{patients} patients share one series number: the archive mixed them up. Nothing of it "
        "was converted."
    ),
    "sop_uid_conflict": Reason(
        "Different slices carry the same instance number: one of them was altered."
    ),
    "no_geometry": Reason(
        "{bad} of {total} slices do not say where they lie in the patient (position or "
        "orientation missing or unreadable)."
    ),
    "no_pixel_spacing": Reason(
        "{bad} of {total} slices do not say how large a pixel is (missing, zero or negative)."
    ),
    "bad_orientation": Reason("The slice's row and column directions do not form a right angle."),
    "pixel_spacing_varies": Reason("The pixel size changes from slice to slice."),
    "frame_of_reference_varies": Reason(
        "The slices belong to {frames} coordinate systems: their positions cannot be compared."
    ),
    "too_few_slices": _skip("{count} slice(s): too few for a volume (at least {least} needed)."),
    "no_slice_thickness": Reason("A single slice that does not say how thick it is."),
    "single_slices": Reason(
        "{count} slices of one study, each under a series number of its own, form one stack: an "
        "anonymizer renumbered them? Set `irregular.merge_single_slices` to join them."
    ),
    "coincident_positions": Reason("All {count} slices claim the same place in the patient."),
    "incomplete_volume": Reason(
        "{count} slice(s) of one time point, echo or b-value, which has fewer slices than the "
        "others of its series: a scan that was stopped, or an incomplete copy."
    ),
    "ambiguous_positions": Reason(
        "Different slices claim the same place, and nothing tells which belong together."
    ),
    "time_series": _skip("{count} images of each place: a time series, which is not converted."),
    "missing_slices": Reason(
        "{missing} slice(s) missing among {count}: the gaps are multiples of {step_mm:.3g} mm. "
        "Fetch the series again."
    ),
    "uneven_spacing": Reason(
        "The distance between slices varies from {low_mm:.3g} to {high_mm:.3g} mm."
    ),
    "gantry_tilt": Reason(
        "The gantry was tilted by {tilt_degrees:.1f} degrees, so the slices form a sheared stack."
    ),
    "positions_off_line": Reason(
        "The slices do not lie on one line: they stray up to {stray_mm:.3g} mm."
    ),
    "mosaic_unsupported": Reason("A Siemens mosaic: many slices tiled in one image."),
    "frames_undescribed": Reason(
        "A multi-frame image that does not describe every one of its frames, so that nobody can "
        "tell where they lie."
    ),
    "multiframe_unsupported": Reason(
        "An enhanced multi-frame image whose frames do not form one simple stack."
    ),
    "ct_no_rescale": Reason(
        "A CT without rescale values whose numbers do not look like Hounsfield units."
    ),
    # NIfTI
    "truncated_file": Reason(
        "Ends before its header says it should ({missing_bytes} bytes missing): an interrupted "
        "copy?"
    ),
    "damaged_compression": Reason(
        "The gzip stream is damaged or cut short (it fails its own checksum)."
    ),
    "bad_dimensions": Reason("The header's dimensions are zero, negative or too many."),
    "bad_offset": Reason("The header says the voxels start inside the header or past the end."),
    "nifti_pair_unsupported": Reason("A NIfTI in two files (.hdr and .img); join them into .nii."),
    "unsupported_datatype": Reason("Voxels of a type not read here (NIfTI datatype {datatype})."),
    "no_orientation": Reason(
        "Neither sform nor qform is set: it does not say where it lies. If its axes are known to "
        "lead to the right, the front and the head, set `irregular.nifti_assume_ras`."
    ),
    "frames_differ": Reason("Its sform and its qform disagree about where it lies."),
    "bad_affine": Reason(
        "The affine is unusable: not finite, flat, or with voxels outside {low_mm} to {high_mm} mm."
    ),
    "sheared_affine": Reason(
        "The voxel axes do not stand at right angles (off by {shear_degrees:.2f} degrees)."
    ),
    "not_finite": Reason("{percent:.1f} % of the voxels are not numbers (NaN or infinite)."),
    "complex_values": _skip("Complex or multi-component voxels, not a scan of one intensity."),
}
"""Code to reason. The codes are a public format: they stand in ``files.parquet``."""


def reject(code: str, **facts: float | str) -> RejectedFileError:
    """Return the error for ``code``, its sentence filled with ``facts``, ready to raise."""
    reason = REASONS[code]
    return RejectedFileError(code, reason.sentence.format(**facts), skipped=reason.skipped)
