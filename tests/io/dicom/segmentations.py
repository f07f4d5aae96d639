"""Series in several orientations, masks on them, and what foreign tools make of a DICOM SEG."""

import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medssl.io.dicom.read import read_dicom_folder
from tests import phantoms

SHAPE = (24, 20, 7)
ORIENTATIONS = {
    "axial": (0.0, 0.0, 0.0),
    "coronal": (-90.0, 0.0, 0.0),
    "sagittal": (-90.0, 90.0, 0.0),
    "oblique": (14.0, -23.0, 31.0),
    "upside_down": (180.0, 0.0, 0.0),
}
NAMES = ("left kidney", "kernel")


def write_series(folder, degrees=(0.0, 0.0, 0.0), *, backwards=False, **values):
    """Write a series whose files are complete enough for a foreign validator."""

    def change(ds, k):
        ds.SliceThickness = 3
        ds.InstanceNumber = SHAPE[2] - k if backwards else k + 1
        for keyword, value in values.items():
            setattr(ds, keyword, value)

    affine = phantoms.affine_ras(degrees)
    return phantoms.write_dicom(folder, phantoms.phantom(affine, SHAPE), affine, edit=change)


def read(folder):
    (found,) = read_dicom_folder(folder)
    return found


def numbers(shape):
    """Return a mask that no mirroring, turn or shift leaves alone."""
    mask_IJK = np.zeros(shape, np.uint8)
    mask_IJK[2:9, 3:6, 1:3] = 1
    mask_IJK[11:20, 8:15, 2:6] = 2
    mask_IJK[12, 9, 5] = 0
    mask_IJK[3, 16, 4] = 1
    return mask_IJK


def complaints(path):
    """Return the errors that dciodvfy finds."""
    tool = shutil.which("dciodvfy")
    if tool is None:
        pytest.skip("dciodvfy (dicom3tools) is not installed")
    done = subprocess.run([tool, path], capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    return [line for line in lines if line.startswith("Error")]


def as_dcmqi_reads(path, folder):
    """Return, of each segment, its mask and affine as dcmqi gives them."""
    tool = Path(sys.executable).with_name("segimage2itkimage")
    if not tool.is_file():
        pytest.skip("dcmqi is not installed")
    folder.mkdir()
    command = [tool, "--inputDICOM", path, "--outputDirectory", folder, "-t", "nifti"]
    subprocess.run(command, capture_output=True, check=True)
    found = [nibabel.load(each) for each in sorted(folder.glob("*.nii.gz"))]
    return [(np.asanyarray(image.dataobj), image.affine) for image in found]


def on_grid(mask, affine, volume):
    """Return a foreign mask on the grid of ``volume``, voxel by voxel, by places in millimetres."""
    ours = np.zeros(volume.shape, bool)
    places = np.linalg.inv(volume.affine_ras) @ affine
    index = np.argwhere(mask > 0)
    found = index @ places[:3, :3].T + places[:3, 3]
    assert np.abs(found - np.rint(found)).max() < 1e-2
    ours[tuple(np.rint(found).astype(int).T)] = True
    return ours
