"""What other readers make of a folder of DICOM or NIfTI files, each as its authors describe."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from pipelines.benchmarks.cases.judge import Made
from pipelines.benchmarks.cases.phantoms import Array

Reader = Callable[[Path], list[Made]]
LIMIT_S = 30.0
NOT_FOR_IT = "-"
"""What a worker answers to files that its reader is not meant for."""
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_FRAMES_AXIS = 3
_MOST_TIMES = 64


def read_dcm2niix(source: Path) -> list[Made]:
    """Convert with the program of the PyPI package; what it wrote is read whatever it returned."""
    program = Path(sys.executable).with_name("dcm2niix")
    with tempfile.TemporaryDirectory() as target:
        command = [str(program), "-z", "n", "-b", "n", "-o", target, str(source)]
        done = subprocess.run(command, check=False, capture_output=True)  # noqa: S603
        made = _read_nifti(Path(target))
        if not made and done.returncode:
            raise RuntimeError(f"dcm2niix returned {done.returncode}")
        return made


def read_dicom2nifti(source: Path) -> list[Made]:
    """Convert the directory."""
    import dicom2nifti

    with tempfile.TemporaryDirectory() as target:
        dicom2nifti.convert_directory(str(source), target, compression=False, reorient=False)
        return _read_nifti(Path(target))


def read_simpleitk(source: Path) -> list[Made]:
    """Read each series that it finds in the folder."""
    import SimpleITK

    itk: Any = SimpleITK
    itk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    itk.ProcessObject.SetGlobalWarningDisplay(False)
    made = []
    for series in itk.ImageSeriesReader.GetGDCMSeriesIDs(str(source)):
        reader = itk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(source), series))
        image = reader.Execute()
        if image.GetNumberOfComponentsPerPixel() == 1:
            made += _of_itk(image, itk)
    return made


def read_monai(source: Path) -> list[Made]:
    """Read the folder as one series."""
    from monai.data.image_reader import PydicomReader

    reader: Any = PydicomReader()
    array, meta = reader.get_data(reader.read(str(source)))
    return _frames(np.asarray(array), np.asarray(meta["affine"], float))


def read_highdicom(source: Path) -> list[Made]:
    """Read the images of the folder as one series, or each multi-frame file."""
    import highdicom
    from pydicom import dcmread

    images = [ds for path in _files(source) if "PixelData" in (ds := dcmread(path))]
    if any("PerFrameFunctionalGroupsSequence" in ds for ds in images):
        volumes = [highdicom.Image.from_dataset(ds).get_volume() for ds in images]
    else:
        volumes = [highdicom.get_volume_from_series(images)]
    made = []
    for volume in volumes:
        array, affine = np.asarray(volume.array), np.asarray(volume.affine, float)
        made.append(Made(array, _LPS_TO_RAS @ affine))
    return made


def read_nifti_itk(source: Path) -> list[Made]:
    """Read each file."""
    import SimpleITK

    itk: Any = SimpleITK
    itk.ProcessObject.SetGlobalWarningDisplay(False)
    return [made for path in _files(source) for made in _of_itk(itk.ReadImage(str(path)), itk)]


def read_nifti_monai(source: Path) -> list[Made]:
    """Read each file by way of nibabel."""
    from monai.data.image_reader import NibabelReader

    reader: Any = NibabelReader()
    made = []
    for path in _files(source):
        array, meta = reader.get_data(reader.read(str(path)))
        made += _frames(np.asarray(array), np.asarray(meta["affine"], float))
    return made


def _files(source: Path) -> list[Path]:
    return sorted(path for path in source.rglob("*") if path.is_file())


def _read_nifti(folder: Path) -> list[Made]:
    made = []
    for path in sorted(folder.rglob("*.nii*")):
        image: Any = nibabel.load(path)
        array = np.asarray(image.dataobj)
        if array.dtype.names is None:  # a colour image is no volume of this table
            made += _frames(array, image.affine)
    return made


def _frames(array: Array, affine: Array) -> list[Made]:
    """Return each time point of an image by itself; planes alone are volumes of one slice."""
    array = array.reshape(*array.shape, *[1] * max(0, _FRAMES_AXIS - array.ndim))
    flat = array.reshape(*array.shape[:_FRAMES_AXIS], -1)
    return [Made(flat[..., n], affine) for n in range(min(flat.shape[-1], _MOST_TIMES))]


def _of_itk(image: Any, itk: Any) -> list[Made]:
    """Return an image; one of four dimensions counts where its last is of one element."""
    dimensions = image.GetDimension()
    affine = np.eye(4)
    direction = np.reshape(image.GetDirection(), (dimensions, dimensions))[:3, :3]
    affine[:3, :3] = direction @ np.diag(image.GetSpacing()[:3])
    affine[:3, 3] = image.GetOrigin()[:3]
    array = itk.GetArrayFromImage(image).T
    return _frames(array, _LPS_TO_RAS @ affine)


READERS: dict[str, Reader] = {
    "dcm2niix": read_dcm2niix,
    "dicom2nifti": read_dicom2nifti,
    "SimpleITK": read_simpleitk,
    "MONAI": read_monai,
    "highdicom": read_highdicom,
}


NIFTI_READERS: dict[str, Reader] = {"SimpleITK": read_nifti_itk, "MONAI": read_nifti_monai}
"""The others read no NIfTI."""


class Worker:
    """One process that runs one reader, started again when it ends or takes too long."""

    def __init__(self, name: str) -> None:
        """Start nothing yet; ``name`` is one of ``READERS``."""
        self._name = name
        self._process: Any = None
        self._pipe: Any = None

    def read(self, source: Path) -> list[Made] | str:
        """Return what the reader makes of ``source``, or in a word what stopped it."""
        if self._process is None:
            context = get_context("spawn")
            self._pipe, other = context.Pipe()
            self._process = context.Process(target=_serve, args=(self._name, other), daemon=True)
            self._process.start()
            other.close()
            self._pipe.recv()
        self._pipe.send(source)
        try:
            if self._pipe.poll(LIMIT_S):
                return self._pipe.recv()  # type: ignore[no-any-return]
            stopped = f"over {LIMIT_S:.0f} s"
        except EOFError:
            stopped = "crash"
        self.close()
        return stopped

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None


def _serve(name: str, pipe: Connection) -> None:
    """Read one folder after the other; importing is not counted."""
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    import dicom2nifti  # noqa: F401
    import highdicom  # noqa: F401
    import SimpleITK  # noqa: F401

    pipe.send(name)
    while True:
        source = pipe.recv()
        try:
            packed = any(path.name.endswith((".nii", ".nii.gz")) for path in _files(source))
            readers = NIFTI_READERS if packed else READERS
            pipe.send(readers[name](source) if name in readers else NOT_FOR_IT)
        except BaseException as error:  # noqa: BLE001  whatever a tool raises is its answer
            pipe.send(f"{type(error).__name__}: {error}"[:200])
