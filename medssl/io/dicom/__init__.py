"""DICOM: headers, series, pixels and the checks between them."""
