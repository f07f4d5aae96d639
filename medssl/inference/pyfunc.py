"""A task model as MLflow opens it: ``mlflow.pyfunc.load_model(...).predict(path or array)``.

What is logged is the model's own folder, safetensors and JSON; this module is its loader, so
that nothing is unpickled. It needs medssl, not MLflow.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medssl.errors import InputError
from medssl.inference.predictor import Predictor, choose_device
from medssl.inference.sources import find_sources, read_source
from medssl.io.narrow import narrow
from medssl.io.volume import Volume
from medssl.training.task_model import load_task_model
from medssl.training.task_package import AFFINE, default_affine

_AXES = 3


class PyfuncModel:
    """What MLflow wraps: one method, ``predict``."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        """Return a mask on the input's own grid, or a list of them for several inputs.

        Of tasks about whole volumes: the probabilities of the classes, or the numbers in their
        units, in the order of the model's labels.

        Args:
            model_input: A path of a NIfTI file or of a folder of DICOM files; a (I, J, K) array;
                or a list, or a table of one column, of paths.
            params: ``affine_ras`` of an array, voxel index to millimetres, RAS+. Without it the
                array is taken to lie on the model's own grid: its axes to the right, to the
                front and up, its voxels of the model's spacing.

        Raises:
            InputError: It is none of these.
            RejectedFileError: A file cannot be read, or a volume shows nothing.
        """
        if hasattr(model_input, "iloc"):  # a table, as MLflow's clients send one
            model_input = list(model_input.iloc[:, 0])
        if isinstance(model_input, str | Path):
            return self._predict_path(Path(model_input))
        if isinstance(model_input, Sequence) and all(
            isinstance(x, str | Path) for x in model_input
        ):
            return [self._predict_path(Path(path)) for path in model_input]
        return self._answer(self._volume(model_input, (params or {}).get(AFFINE)))

    def _answer(self, volume: Volume) -> Any:
        if self._predictor.task.kind == "segmentation":
            return self._predictor.predict(volume)
        return np.asarray([*self._predictor.answers(volume).values()], np.float64)

    def _predict_path(self, path: Path) -> Any:
        modality = self._predictor.description.modality
        volumes = [
            volume for source in find_sources([path]) for volume in read_source(source, modality)
        ]
        predicted = [self._answer(volume) for volume in volumes]
        return predicted[0] if len(predicted) == 1 else predicted

    def _volume(self, voxels: Any, affine: Any) -> Volume:
        about = self._predictor.description
        array_IJK = np.asarray(voxels)
        if array_IJK.ndim != _AXES or array_IJK.dtype.kind not in "iuf" or not array_IJK.size:
            raise InputError(
                f"expected a path or an array of three axes, got {array_IJK.dtype} of shape "
                f"{array_IJK.shape}",
                hint="one volume at a time, without axes for a batch or channels",
            )
        matrix = default_affine(about) if affine is None else np.asarray(affine, dtype=np.float64)
        try:
            return Volume(
                array_IJK=narrow(array_IJK),
                affine_ras=matrix.reshape(4, 4),
                modality=about.modality,
            )
        except ValueError as error:
            raise InputError(
                f"{AFFINE} is no affine matrix of voxels to millimetres",
                hint="give 16 numbers, row after row, invertible, the last four 0 0 0 1",
            ) from error


def _load_pyfunc(path: str) -> PyfuncModel:
    """Return the model in the folder ``path``; MLflow calls this by name."""
    return PyfuncModel(Predictor(load_task_model(Path(path)), choose_device("auto")))
