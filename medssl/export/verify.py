"""Prove that a MONAI bundle is the model it was made from, by opening it as MONAI does."""

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from numpy.typing import NDArray

from medssl.errors import MedSSLError
from medssl.export import open_bundle
from medssl.export.expressions import problems
from medssl.export.open_bundle import INFERENCE, METADATA, NOT_DESCRIBED
from medssl.inference.predictor import Predictor
from medssl.io.nifti import read_nifti, write_nifti
from medssl.runs.folder import read_json
from medssl.training.task_model import ModelDescription, load_task_model

REPORT = "nothing was kept; this is a defect of medssl, please report it"
_LONGEST = 200
"""Letters of another process's last words that are shown."""
REQUIRED_METADATA = (
    "schema", "version", "monai_version", "pytorch_version", "numpy_version",
    "required_packages_version", "task", "description", "authors", "copyright",
    "network_data_format",
)  # fmt: skip
"""What MONAI's schema of 2024-07-25 requires; it is not shipped, so the names are."""


class VerificationError(MedSSLError):
    """A written artefact is not the model it was made from."""


def verify_bundle(run: Path, bundle: Path, real_volume: Path) -> dict[str, Any]:
    """Compare the bundle with the model of ``run`` in memory, voxel by voxel.

    The bundle is opened by ``monai.bundle`` from its JSON, reads NIfTI files itself, and writes
    its own masks; these are compared with what ``Predictor`` gives for the same files: on one
    real scan, and on an oblique one of odd size whose spacing is not the network's.

    Raises:
        VerificationError: Anything differs, or an expression reaches beyond MONAI and torch.
    """
    check_metadata(read_json(bundle / METADATA))
    check_expressions(read_json(bundle / INFERENCE))
    predictor = Predictor(load_task_model(run, trust_names=True))
    with tempfile.TemporaryDirectory() as folder:
        oblique = Path(folder) / "oblique.nii.gz"
        array_IJK, affine_ras = oblique_phantom(predictor.description)
        write_nifti(array_IJK, affine_ras, oblique)
        scans = {"real_scan": real_volume, "oblique": oblique}
        masks = run_bundle(bundle, list(scans.values()), Path(folder) / "masks")
        counts = {
            f"{name}_voxels_equal": _compare(predictor, scan, mask)
            for (name, scan), mask in zip(scans.items(), masks, strict=True)
        }
    return {"opened_by": "MONAI, monai.bundle.ConfigWorkflow", **counts, "voxels_different": 0}


def check_metadata(metadata: Mapping[str, Any]) -> None:
    """Raise VerificationError unless all required entries are there."""
    missing = [name for name in REQUIRED_METADATA if name not in metadata]
    if missing:
        raise VerificationError(f"metadata.json lacks {', '.join(missing)}", hint=REPORT)


def check_expressions(config: Any) -> None:
    """Raise VerificationError if the bundle names anything that it has no need of."""
    strange = next(problems(config), None)
    if strange:
        raise VerificationError(f"the bundle's {strange}", hint=REPORT)


def oblique_phantom(
    about: ModelDescription,
) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """Return a smooth volume of odd sizes, turned about two axes, on another grid than the model's.

    It is a little larger than one patch, so patches overlap, and its axes point towards left,
    posterior and superior.
    """
    patch_mm = np.multiply(about.patch_voxels, about.grid_mm)
    spacing_mm = np.multiply(about.grid_mm, (0.9, 1.15, 1.4))
    shape = np.ceil(1.15 * patch_mm / spacing_mm).astype(int) | 1
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(-1000, 1500, (1, 1, 5, 6, 4)))
    smooth = torch.nn.functional.interpolate(
        coarse, size=tuple(shape.tolist()), mode="trilinear", align_corners=True
    )
    about_z, about_x = np.radians(17), np.radians(-11)
    turn_z = np.array(
        [[np.cos(about_z), -np.sin(about_z), 0], [np.sin(about_z), np.cos(about_z), 0], [0, 0, 1]]
    )
    turn_x = np.array(
        [[1, 0, 0], [0, np.cos(about_x), -np.sin(about_x)], [0, np.sin(about_x), np.cos(about_x)]]
    )
    affine_ras = np.eye(4)
    affine_ras[:3, :3] = turn_z @ turn_x @ np.diag(spacing_mm * (-1, -1, 1))
    affine_ras[:3, 3] = (31.5, -12.25, 7.0)
    return smooth[0, 0].numpy().astype(np.int16), affine_ras


def run_bundle(bundle: Path, scans: Sequence[Path], out: Path) -> list[Path]:
    """Return the masks that the bundle writes for ``scans``, opened by MONAI without medssl.

    Raises:
        VerificationError: MONAI cannot run it, or its network is not what its metadata describes.
    """
    module = [sys.executable, "-m", open_bundle.__name__]
    run_alone([*module, bundle, out, *scans], failure="MONAI cannot run the bundle")
    if (out / NOT_DESCRIBED).is_file():
        raise VerificationError(
            "the network's input and output are not those that metadata.json describes",
            hint=REPORT,
        )
    return [next((out / str(number)).rglob("*.nii.gz")) for number in range(len(scans))]


def run_alone(command: Sequence[str | Path], *, failure: str, folder: Path | None = None) -> None:
    """Run one of our own modules in a process of its own, without a shell.

    Args:
        command: The interpreter and its arguments; whole paths where ``folder`` is given.
        failure: What it means if it fails, for the message.
        folder: Where it runs; None: here.

    Raises:
        VerificationError: It failed; the last line that it wrote is in the message.
    """
    done = subprocess.run(  # noqa: S603  our own module
        [str(part) for part in command],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise VerificationError(f"{failure}: {last[:_LONGEST]}", hint=REPORT)


def _compare(predictor: Predictor, scan: Path, mask: Path) -> int:
    volume = read_nifti(scan, modality=predictor.description.modality)
    mine_IJK = predictor.predict(volume)
    written: Any = nibabel.load(mask)
    theirs_IJK = np.asanyarray(written.dataobj)
    if theirs_IJK.shape != mine_IJK.shape or not np.allclose(
        written.affine, volume.affine_ras, atol=1e-3
    ):
        raise VerificationError("the bundle's mask is not on the scan's own grid", hint=REPORT)
    different = int(np.count_nonzero(theirs_IJK != mine_IJK))
    if different:
        raise VerificationError(
            f"{different} of {mine_IJK.size} voxels differ between the bundle and the model",
            hint=REPORT,
        )
    return int(mine_IJK.size)
