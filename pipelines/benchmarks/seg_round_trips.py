"""Whether masks written as DICOM SEG come back on their voxels when foreign tools read them.

    python -m pipelines.benchmarks.seg_round_trips --out runs/seg_round_trips.json

Series of a phantom in several orientations, their files numbered from either end; on each a mask
that no mirroring leaves alone. What is written is checked by dciodvfy (dicom3tools) and read back
by dcmqi's segimage2itkimage, whose voxels are compared at their place in millimetres. Orthanc, on
loopback, is given the series and the masks by STOW-RS and asked for the masks by WADO-RS: whether
the pixels are the same, and whether the study that it lists them in holds all that they refer to.
"""

import argparse
import io
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import nibabel
import numpy as np
import requests
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from rich.console import Console
from rich.table import Table

from medssl.io.dicom.derived import write_object
from medssl.io.dicom.read import DicomVolume, read_dicom_folder
from medssl.io.dicom.segmentation_writer import segmentation_object
from medssl.io.sources.dicomweb import DicomWebConfig
from medssl.io.sources.multipart import Multipart, media_type
from medssl.io.sources.storing import WebStore
from medssl.runs.environment import describe
from pipelines.benchmarks.cases import phantoms
from pipelines.benchmarks.cases.orthanc import NoArchiveError, Orthanc, running

SHAPE: Final = (48, 40, 14)
NAMES: Final = ("left kidney", "lesion")
KEPT: Final = "same pixels, in its study"
_JSON = "application/dicom+json"
_PATIENCE_S = 30
DEGREES: Final = {
    "axial": (0.0, 0.0, 0.0),
    "coronal": (-90.0, 0.0, 0.0),
    "sagittal": (-90.0, 90.0, 0.0),
    "oblique": (14.0, -23.0, 31.0),
    "upside down": (180.0, 0.0, 0.0),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write and read every series, print a table, write JSON; 1 if anything differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="where to write the numbers as JSON")
    options = parser.parse_args(arguments)
    tools = {name: _tool(name) for name in ("dciodvfy", "segimage2itkimage")}
    rows, no_archive = [], ""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        try:
            archive = stack.enter_context(running(Path(folder) / "orthanc"))
        except NoArchiveError as error:
            archive, no_archive = None, str(error)
        for name, degrees in DEGREES.items():
            for backwards in (False, True):
                where = Path(folder) / f"{name}-{backwards}"
                row = round_trip(where, degrees, backwards=backwards, tools=tools)
                kept = kept_by(archive, where) if archive else f"- ({no_archive})"
                row |= {"orientation": name, "backwards": backwards, "orthanc": kept}
                rows.append(row)
    result = {"shape": SHAPE, "rows": rows, "environment": describe()}
    show(rows)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    good = {KEPT, f"- ({no_archive})"}
    return int(
        any(row["errors"] or row["voxels_different"] or row["orthanc"] not in good for row in rows)
    )


def round_trip(
    folder: Path, degrees: tuple[float, ...], *, backwards: bool, tools: dict[str, str]
) -> dict[str, Any]:
    """Return what two foreign tools make of the masks of one series."""

    def numbered(ds: Dataset, k: int) -> None:
        ds.InstanceNumber = SHAPE[2] - k if backwards else k + 1
        ds.SliceThickness = 3

    affine = phantoms.affine_ras(degrees)
    voxels = phantoms.phantom(affine, SHAPE)
    phantoms.write_dicom(folder / "in", voxels, affine, edit=numbered)
    (found,) = read_dicom_folder(folder / "in")
    numbers_IJK = crooked(found.volume.shape)
    path = folder / "seg.dcm"
    derived = segmentation_object(
        found.volume, found.slices, numbers_IJK, NAMES, model="round trips"
    )
    write_object(derived, path)
    (folder / "read").mkdir()
    read = [tools["segimage2itkimage"], "--inputDICOM", path]
    subprocess.run(  # noqa: S603  a tool of dcmqi on our own file
        [*map(str, read), "--outputDirectory", str(folder / "read"), "-t", "nifti"],
        capture_output=True,
        check=True,
    )
    masks = sorted((folder / "read").glob("*.nii.gz"))
    if len(masks) != len(NAMES):
        raise SystemExit(f"dcmqi found {len(masks)} segments of {len(NAMES)}")
    compared = [difference(mask, found, numbers_IJK == n) for n, mask in enumerate(masks, 1)]
    return {
        "errors": complaints(tools["dciodvfy"], path),
        "voxels": int(np.count_nonzero(numbers_IJK)),
        "voxels_different": sum(voxels for voxels, _ in compared),
        "grid_mm": max(mm for _, mm in compared),
    }


def kept_by(archive: Orthanc, folder: Path) -> str:
    """Return ``KEPT``, or what is not right about the masks that an archive gives back.

    Args:
        archive: It is given the series and the masks.
        folder: With the series in ``in``, and its masks in ``seg.dcm``.
    """
    store = WebStore(archive.web, DicomWebConfig())
    mine = dcmread(folder / "seg.dcm")
    for path in [*sorted((folder / "in").iterdir()), folder / "seg.dcm"]:
        store.send(path)
    study = f"http://127.0.0.1:{archive.http}/dicom-web/studies/{mine.StudyInstanceUID}"
    asked = f"series/{mine.SeriesInstanceUID}/instances/{mine.SOPInstanceUID}"
    given = dcmread(io.BytesIO(_one_part(f"{study}/{asked}")))
    if not np.array_equal(given.pixel_array, mine.pixel_array):
        return "other pixels"
    answer = requests.get(f"{study}/instances", headers={"Accept": _JSON}, timeout=_PATIENCE_S)
    listed = {item["00080018"]["Value"][0]: item["0020000E"]["Value"][0] for item in answer.json()}
    (series,) = given.ReferencedSeriesSequence
    sources = [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence]
    if len(sources) != SHAPE[2] or any(
        listed.get(source) != series.SeriesInstanceUID for source in sources
    ):
        return "refers to what is not in its study"
    return KEPT if listed.get(given.SOPInstanceUID) == given.SeriesInstanceUID else "not listed"


def _one_part(url: str) -> bytes:
    """Return the one DICOM object of a WADO-RS answer, in the transfer syntax that it has."""
    wanted = 'multipart/related; type="application/dicom"; transfer-syntax=*'
    answer = requests.get(url, headers={"Accept": wanted}, timeout=_PATIENCE_S)
    answer.raise_for_status()
    _, boundary = media_type(answer.headers["Content-Type"])
    ((_, content),) = (
        (kind, b"".join(pieces))
        for kind, pieces in Multipart([answer.content], boundary or "").parts()
    )
    return content


def crooked(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return two structures that no mirroring, turn or shift leaves alone."""
    numbers_IJK = np.zeros(shape, np.uint8)
    numbers_IJK[4:18, 6:12, 2:6] = 1
    numbers_IJK[22:40, 16:30, 4:12] = 2
    numbers_IJK[24, 18, 10:] = 0
    numbers_IJK[6, 32, 8] = 1
    return numbers_IJK


def difference(
    mask: Path, found: DicomVolume, expected_IJK: NDArray[np.bool_]
) -> tuple[int, float]:
    """Return how many voxels differ, and how far the foreign grid is from ours in millimetres."""
    image: Any = nibabel.load(mask)
    to_index = np.linalg.inv(found.volume.affine_ras) @ image.affine
    places = np.argwhere(np.asanyarray(image.dataobj) > 0) @ to_index[:3, :3].T + to_index[:3, 3]
    nearest = np.rint(places).astype(int)
    beside_mm = np.abs((places - nearest) @ found.volume.affine_ras[:3, :3].T).max(initial=0.0)
    read_IJK = np.zeros_like(expected_IJK)
    inside = ((nearest >= 0) & (nearest < read_IJK.shape)).all(axis=1)
    read_IJK[tuple(nearest[inside].T)] = True
    outside = int(np.count_nonzero(~inside))
    return int(np.count_nonzero(read_IJK != expected_IJK)) + outside, float(beside_mm)


def complaints(tool: str, path: Path) -> list[str]:
    """Return the errors that dciodvfy finds."""
    done = subprocess.run([tool, str(path)], capture_output=True, text=True, check=False)  # noqa: S603
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print the table."""
    table = Table(title=f"masks on series of {' x '.join(map(str, SHAPE))}, written as DICOM SEG")
    words = ("series", "files", "Orthanc")
    numbers = ("dciodvfy: errors", "dcmqi: voxels that differ", "grid, mm")
    for column in (*words[:2], *numbers, *words[2:]):
        table.add_column(column, justify="left" if column in words else "right")
    for row in rows:
        table.add_row(
            row["orientation"],
            "from the last" if row["backwards"] else "from the first",
            str(len(row["errors"])),
            f"{row['voxels_different']} of {row['voxels']}",
            f"{row['grid_mm']:.1e}",
            row["orthanc"],
        )
    Console(width=120).print(table)


def _tool(name: str) -> str:
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        raise SystemExit(f"{name} is not installed: apt install dicom3tools, pip install dcmqi")
    return found


if __name__ == "__main__":
    sys.exit(main())
