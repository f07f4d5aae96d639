"""Rows shown on scans of real patients, where they lie beside the project."""

import shutil
from pathlib import Path

from pipelines.benchmarks.cases.case import Case, Expect

SHARED = Path(__file__).parents[4] / "shared" / "data"
_D2N = "dicom-cases/d2n/generic"


def _case(
    row: str,
    title: str,
    source: str,
    *,
    volumes: int | None,
    either: tuple[str, ...] = (),
    **refused: int,
) -> Case:
    def build(folder: Path) -> None:
        if (SHARED / source).is_dir():
            shutil.copytree(SHARED / source, folder)
        else:
            folder.mkdir()
            shutil.copy(SHARED / source, folder)

    kinds = {
        "localizer",
        "secondary_capture",
        "burned_in_risk",
        "rgb",
        "too_few_slices",
        "time_series",
    }
    others = {
        ("skipped" if code in kinds else "quarantined", code): n for code, n in refused.items()
    }
    absent = "" if (SHARED / source).exists() else f"not on this machine: {source}"
    return Case(row, title, build, Expect(None, others, volumes, either), absent=absent)


CASES = [
    _case(
        "R1",
        "Siemens mosaics",
        "dicom-cases/ge-siemens-mr/20180918Si",
        volumes=None,
        either=("mosaic_unsupported",),
    ),
    _case("R2", "enhanced MR, XA10", "dicom-cases/enhanced/XA10", volumes=None),
    _case("R2b", "enhanced MR, Philips", "dicom-cases/enhanced/IM_0027_fMAP.dcm", volumes=None),
    _case(
        "R2c",
        "enhanced MR, Siemens",
        "dicom-cases/d2n/siemens_multiframe/anatomical/001",
        volumes=1,
    ),
    _case("R3", "JPEG", f"{_D2N}/compressed_jpeg/001", volumes=1),
    _case("R3b", "JPEG 2000", f"{_D2N}/compressed_j2k/001", volumes=1),
    _case("R3c", "JPEG-LS", f"{_D2N}/compressed_jpegls/001", volumes=1),
    _case("R3d", "RLE", f"{_D2N}/compressed_rle/001", volumes=1),
    Case(
        "R4",
        "Philips CT study with screens",
        Path.mkdir,
        Expect(),
        absent="not among the data of this project",
    ),
    _case("R5", "GE fMRI", "dicom-cases/ge-siemens-mr/20180918GE/mr_0004", volumes=None),
    _case("R5b", "Siemens fMRI", "dicom-cases/d2n/siemens/fmri_classic/001", volumes=None),
    _case(
        "R5c",
        "DWI",
        "dicom-cases/decubitus-right/3_ep2d_diff_mddw_20_p2",
        volumes=None,
        either=("mosaic_unsupported",),
    ),
    _case("R6", "head CT, tilted and uneven", "dicom-series/ge_head_ct_tilt", volumes=None),
    _case("R7", "chest CT", "dicom-series/acrin_chest_ct", volumes=1),
    _case("R8", "field map of two echoes", "dicom-cases/multi-echo/2_me_FieldMap_GRE", volumes=2),
    _case("R9", "gantry tilt", "dicom-cases/d2n/failing/gantrytilting/001", volumes=None),
    _case(
        "R10",
        "uneven slice increment",
        "dicom-cases/d2n/failing/sliceincrement/001",
        volumes=0,
        missing_slices=4,
    ),
    _case("R11", "RGB", f"{_D2N}/rgb/001", volumes=0, secondary_capture=4),
]
