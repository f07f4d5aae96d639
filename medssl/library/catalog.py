"""The catalog: one row per volume of the library, by an allow-list of columns.

Nothing of a header stands here but numbers, words of a vocabulary, and keyed pseudonyms.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from medssl.errors import InputError
from medssl.library.fingerprints.perceptual import SPEC
from medssl.runs.folder import atomic_path

if TYPE_CHECKING:  # slow to import, and workers do without it
    import pandas as pd

FILE = "catalog.parquet"
FORMAT_VERSION = "3"

_VERSION_KEY, _KEY_ID = b"medssl.format_version", b"medssl.key_id"
_SPEC_KEY = b"medssl.signature_spec"

COLUMNS: dict[str, pa.DataType] = {
    "volume_key": pa.string(),
    "patient_key": pa.string(),
    "study_key": pa.string(),
    "series_key": pa.string(),
    "frame_key": pa.string(),
    "modality": pa.string(),
    "intensity": pa.string(),
    "source_format": pa.string(),
    "source_files": pa.int32(),
    "body_part": pa.string(),
    "image_type": pa.string(),
    "split_by": pa.list_(pa.string()),
    "head_fov": pa.string(),
    "acquisition_key": pa.string(),
    "acquisition_s": pa.float64(),
    "manufacturer": pa.string(),
    "scanner_key": pa.string(),
    "kernel": pa.string(),
    "kvp": pa.float64(),
    "echo_time_ms": pa.float64(),
    "repetition_time_ms": pa.float64(),
    "inversion_time_ms": pa.float64(),
    "flip_angle_deg": pa.float64(),
    "field_strength_t": pa.float64(),
    "b_value": pa.float64(),
    "slice_thickness_mm": pa.float64(),
    "suv_factor": pa.float64(),
    "sex": pa.string(),
    "age_band": pa.string(),
    "relative_day": pa.int32(),
    "shape_i": pa.int32(),
    "shape_j": pa.int32(),
    "shape_k": pa.int32(),
    "spacing_i_mm": pa.float64(),
    "spacing_j_mm": pa.float64(),
    "spacing_k_mm": pa.float64(),
    "affine_ras": pa.list_(pa.float64()),
    "dtype": pa.string(),
    "min": pa.float64(),
    "max": pa.float64(),
    "p01": pa.float64(),
    "p99": pa.float64(),
    "mean": pa.float64(),
    "std": pa.float64(),
    "localizer": pa.bool_(),
    "regularized": pa.list_(pa.string()),
    "filled_slices": pa.int32(),
    "flags": pa.list_(pa.string()),
    "file_digest": pa.string(),
    "voxel_digest": pa.string(),
    "dct_full": pa.binary(),
    "dct_bbox": pa.binary(),
    "slice_axis": pa.int8(),
    "stated_step_mm": pa.float64(),
    "foreground_share": pa.float64(),
    "saturated_share": pa.float64(),
    "signature_spec": pa.string(),
}
"""Shape, spacing and affine (16 numbers, row by row, to RAS+ mm) are those of the stored array;
``p01`` and ``p99`` are the 1st and 99th percentile of its voxels; ``source_format`` is dicom or
nifti. ``file_digest`` is keyed, and equal for files of equal bytes. ``split_by`` names the facts
that told the volumes of one series apart, ``regularized`` what was resampled to make a regular
grid; ``head_fov`` says whether a face may be in it: yes, no or possible. ``suv_factor`` turned
Bq/ml into SUV. Numbers a scan does not state are null. ``relative_day`` is shifted by a secret
number of days, the same for all scans of a patient; ``acquisition_s`` counts the seconds from the
time of the study to the first slice. ``stated_step_mm`` is the distance between slices by the
header, along ``slice_axis`` of the array; ``foreground_share`` is the share of voxels
that are not air, ``saturated_share`` of those that are as large as the largest. ``signature_spec``
says by which rules ``dct_full``, ``dct_bbox`` and the signatures of the slices were made."""

ADDED = (
    "acquisition_s",
    "slice_axis",
    "stated_step_mm",
    "foreground_share",
    "saturated_share",
    "signature_spec",
)
"""Columns that older libraries lack; ``medssl ingest`` completes them from the stored volumes,
except for what only a header states."""


def catalog_path(library: Path) -> Path:
    """Return where the catalog of ``library`` lies."""
    return Path(library) / FILE


def write_catalog(library: Path, rows: Sequence[Mapping[str, Any]], key_id: str) -> None:
    """Write the catalog, sorted by ``volume_key``, whole or not at all.

    Args:
        library: the library's folder.
        rows: one mapping per volume, with exactly the keys of ``COLUMNS``.
        key_id: names the key the pseudonyms were made with.
    """
    for row in rows:
        if row.keys() != COLUMNS.keys():
            raise ValueError(
                f"a row's columns differ from the catalog's: {row.keys() ^ COLUMNS.keys()}"
            )
    schema = pa.schema(COLUMNS.items()).with_metadata(
        {_VERSION_KEY: FORMAT_VERSION, _KEY_ID: key_id, _SPEC_KEY: SPEC}
    )
    ordered = sorted(rows, key=lambda row: str(row["volume_key"]))
    table = pa.Table.from_pylist([dict(row) for row in ordered], schema=schema)
    with atomic_path(catalog_path(library)) as partial:
        pq.write_table(table, partial)


def read_catalog(library: Path) -> "pd.DataFrame":
    """Return the catalog; ``affine_ras`` holds arrays of 16 numbers, ``flags`` lists of words.

    Raises:
        InputError: when there is none, or a newer version wrote it.
    """
    frame: pd.DataFrame = read_catalog_table(library).to_pandas()
    return frame


def read_catalog_table(library: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the catalog as an Arrow table, or these columns of it: for a million rows.

    Raises:
        InputError: when there is none, it is damaged, or another version wrote it.
    """
    return _read_columns(library, _open(library), columns)


_AGAIN = "run the same `medssl ingest` again: it writes the catalog anew"


def _open(library: Path) -> pq.ParquetFile:
    path = catalog_path(library)
    if not path.is_file():
        raise InputError(f"{library} holds no catalog", hint="run `medssl ingest` first")
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError):
        raise InputError(f"the catalog of {library} is damaged", hint=_AGAIN) from None
    if not _is_current(file.schema_arrow):
        raise _outdated(library, file.schema_arrow)
    return file


def _read_columns(library: Path, file: pq.ParquetFile, columns: Sequence[str] | None) -> pa.Table:
    try:
        return file.read(columns=list(columns) if columns is not None else None)
    except (pa.ArrowException, OSError):
        hint = f"delete {FILE} and {_AGAIN}"
        raise InputError(f"the catalog of {library} is damaged", hint=hint) from None


def is_current(library: Path) -> bool:
    """Return whether there is a catalog of this version, with signatures of the current spec."""
    try:
        return _is_current(pq.read_schema(catalog_path(library)))
    except (pa.ArrowException, OSError):
        return False


def _is_current(schema: pa.Schema) -> bool:
    found = [(schema.metadata or {}).get(key, b"").decode() for key in (_VERSION_KEY, _SPEC_KEY)]
    return found == [FORMAT_VERSION, SPEC] and list(schema.names) == list(COLUMNS)


def _outdated(library: Path, schema: pa.Schema) -> InputError:
    version, spec = (
        (schema.metadata or {}).get(key, b"").decode() for key in (_VERSION_KEY, _SPEC_KEY)
    )
    found = [f"format version {version or 'unknown'}", f"signatures {spec or 'of no stated kind'}"]
    wanted = f"{FORMAT_VERSION} and {SPEC}"
    if [version, spec] == [FORMAT_VERSION, SPEC]:
        odd = sorted(set(schema.names) ^ set(COLUMNS))
        found, wanted = [f"other columns ({', '.join(odd)})"], "the columns of its own version"
    return InputError(
        f"the catalog of {library} has {' and '.join(found)}, this medssl reads {wanted}",
        hint="if it is older, run the same `medssl ingest` again: it completes the library from "
        "its own volumes",
    )


def volume_keys(library: Path) -> list[str]:
    """Return the key of every volume of the catalog; none where it cannot be read."""
    try:
        keys = pq.read_table(catalog_path(library), columns=["volume_key"])["volume_key"]
    except (pa.ArrowException, OSError):
        return []
    return [str(key) for key in keys.to_pylist()]


def catalog_digest(library: Path) -> str:
    """Return the SHA-256 of the catalog's content, whatever the file's own bytes."""
    digest, file = hashlib.sha256(), _open(library)
    for name in COLUMNS:
        column = _read_columns(library, file, [name])[name]  # one at a time: a million rows are few
        digest.update(f"{name}/{len(column)}\n".encode())
        _feed(digest, column.combine_chunks())
    return digest.hexdigest()


def _feed(digest: "hashlib._Hash", array: pa.Array) -> None:
    """Add the values of a column: which there are, how long they are, and what they are."""
    digest.update(array.is_valid().to_numpy(zero_copy_only=False).tobytes())
    if pa.types.is_list(array.type):
        digest.update(pc.fill_null(pc.list_value_length(array), -1).to_numpy().tobytes())
        _feed(digest, array.flatten())
    elif pa.types.is_string(array.type) or pa.types.is_binary(array.type):
        digest.update(pc.fill_null(pc.binary_length(array), -1).to_numpy().tobytes())
        digest.update(b"".join(value or b"" for value in array.cast(pa.binary()).to_pylist()))
    else:
        kind = array.type.to_pandas_dtype()
        digest.update(array.fill_null(kind()).to_numpy(zero_copy_only=False).tobytes())
