"""Prove that a MONAI bundle is the model it was made from, by opening it as MONAI does."""

import ast
import logging
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.bundle import ConfigWorkflow, verify_net_in_out
from numpy.typing import NDArray

from medssl.errors import MedSSLError
from medssl.inference.predictor import Predictor
from medssl.io.nifti import read_nifti, write_nifti
from medssl.runs.folder import read_json
from medssl.training.task_model import ModelDescription, load_task_model

REPORT = "nothing was kept; this is a defect of medssl, please report it"
METADATA, INFERENCE = "configs/metadata.json", "configs/inference.json"
REQUIRED_METADATA = (
    "schema", "version", "monai_version", "pytorch_version", "numpy_version",
    "required_packages_version", "task", "description", "authors", "copyright",
    "network_data_format",
)  # fmt: skip
"""What MONAI's schema of 2024-07-25 requires; it is not shipped, so the names are."""

_ROOTS = {"monai", "torch"}
_BUILTINS = {"sorted"}
_REFERENCE = re.compile(r"@[\w:#]+")


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
    with tempfile.TemporaryDirectory() as folder, _quiet():
        _run_net_in_out(bundle)
        oblique = Path(folder) / "oblique.nii.gz"
        array_IJK, affine_ras = oblique_phantom(predictor.description)
        write_nifti(array_IJK, affine_ras, oblique)
        counts = {
            "real_scan_voxels_equal": _compare(predictor, bundle, real_volume, Path(folder)),
            "oblique_voxels_equal": _compare(predictor, bundle, oblique, Path(folder)),
        }
    return {**counts, "voxels_different": 0}


def check_metadata(metadata: Mapping[str, Any]) -> None:
    """Raise VerificationError unless all required entries are there."""
    missing = [name for name in REQUIRED_METADATA if name not in metadata]
    if missing:
        raise VerificationError(f"metadata.json lacks {', '.join(missing)}", hint=REPORT)


def check_expressions(config: Any) -> None:
    """Raise VerificationError if the bundle names anything that is not MONAI's or torch's."""
    for key, text in _strings(config):
        strange = set()
        if text.startswith("$"):
            strange = _foreign_names(text[1:])
        elif key == "_target_" and "." in text and text.partition(".")[0] not in _ROOTS:
            strange = {text}
        if strange:
            raise VerificationError(
                f"the bundle's {text!r} reaches for {', '.join(sorted(strange))}", hint=REPORT
            )


def _foreign_names(expression: str) -> set[str]:
    """Return the names an expression uses that are neither its own nor allowed."""
    nodes = list(ast.walk(ast.parse(_REFERENCE.sub("reference_", expression), mode="eval")))
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    loops = [node.target for node in nodes if isinstance(node, ast.comprehension)]
    own = {target.id for target in loops if isinstance(target, ast.Name)}
    private = {n.attr for n in nodes if isinstance(n, ast.Attribute) and n.attr.startswith("_")}
    hidden = {"a lambda" for node in nodes if isinstance(node, ast.Lambda)}
    return (used - own - _ROOTS - _BUILTINS - {"reference_"}) | private | hidden


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


def run_bundle(bundle: Path, scan: Path, out: Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return the mask that the bundle writes for ``scan``, and its affine.

    Every part comes from the bundle's own configuration, through ``monai.bundle``; only the
    device and the output folder are set. The parts are called here, as MONAI's evaluator calls
    them, so that pytorch-ignite need not be installed.
    """
    workflow = ConfigWorkflow(
        config_file=str(bundle / INFERENCE),
        meta_file=str(bundle / METADATA),
        logging_file=False,
        workflow_type="inference",
        bundle_root=str(bundle),
        output_dir=str(out),
        device="$torch.device('cpu')",
    )
    workflow.initialize()
    parse = workflow.parser.get_parsed_content
    network = parse("network").eval()
    data = parse("preprocessing")({"image": str(scan)})
    with torch.no_grad():
        data["pred"] = parse("inferer")(data["image"][None], network)[0]
    parse("postprocessing")(data)
    (written,) = out.rglob("*.nii.gz")
    image: Any = nibabel.load(written)
    return np.asanyarray(image.dataobj), image.affine


def _compare(predictor: Predictor, bundle: Path, scan: Path, scratch: Path) -> int:
    volume = read_nifti(scan, modality=predictor.description.modality)
    mine_IJK = predictor.predict(volume)
    with tempfile.TemporaryDirectory(dir=scratch) as out:
        theirs_IJK, affine_ras = run_bundle(bundle, scan, Path(out))
    if theirs_IJK.shape != mine_IJK.shape or not np.allclose(
        affine_ras, volume.affine_ras, atol=1e-3
    ):
        raise VerificationError("the bundle's mask is not on the scan's own grid", hint=REPORT)
    different = int(np.count_nonzero(theirs_IJK != mine_IJK))
    if different:
        raise VerificationError(
            f"{different} of {mine_IJK.size} voxels differ between the bundle and the model",
            hint=REPORT,
        )
    return int(mine_IJK.size)


def _run_net_in_out(bundle: Path) -> None:
    try:
        verify_net_in_out(
            net_id="network_def",
            meta_file=str(bundle / METADATA),
            config_file=str(bundle / INFERENCE),
            device="cpu",
        )
    except (ValueError, KeyError) as error:
        raise VerificationError(
            "the network's input and output are not those that metadata.json describes",
            hint=REPORT,
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep MONAI's notes on optional packages and its summaries out of the way."""
    known = logging.root.manager.loggerDict.items()
    levels = [
        (logger, logger.level)
        for name, logger in known
        if name.startswith("monai") and isinstance(logger, logging.Logger)
    ]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*NvImgCodecPydicomReader.*")
        for logger, _ in levels:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in levels:
                logger.setLevel(level)


def _strings(tree: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield every string of a JSON tree, with the key it stands under."""
    if isinstance(tree, str):
        yield key, tree
    elif isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from _strings(value, name)
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from _strings(value, key)
