"""A task model over a whole volume: masks on the volume's own grid, or classes and numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medssl.data.preprocessing import as_metatensor, build, compose, in_memory
from medssl.errors import RejectedFileError
from medssl.io.volume import Volume
from medssl.tasks.regression import Regression
from medssl.tasks.segmentation import Segmentation
from medssl.training.task_model import TaskModel, load_task_model


class Predictor:
    """Runs one task model on volumes in memory.

    The model's own preprocessing, inferer and postprocessing are used, as its exported bundle
    uses them, so both give the same mask.
    """

    def __init__(self, model: TaskModel, device: torch.device | str = "cpu") -> None:
        about = model.description
        self.description, self.task, self.device = about, model.task, torch.device(device)
        self._network = model.network.to(self.device).eval()
        self._preprocess = compose(in_memory(about.preprocessing))
        self._inferer = build(about.inferer)
        self._postprocess = compose(
            about.postprocessing, references={"@preprocessing": self._preprocess}
        )

    @classmethod
    def load(cls, folder: Path, device: torch.device | str = "cpu") -> "Predictor":
        """Return a predictor for the task model in ``folder``; see ``load_task_model``."""
        return cls(load_task_model(folder), device)

    def logits(self, volume: Volume) -> dict[str, Any]:
        """Return the prepared ``image`` and the network's ``pred`` on it, both ``(C, I, J, K)``."""
        data: dict[str, Any] = self._preprocess(
            {"image": as_metatensor(volume.array_IJK, volume.affine_ras)}
        )
        with torch.inference_mode():
            image_1CIJK = data["image"][None].to(self.device)
            data["pred"] = self._inferer(image_1CIJK, self._network)[0].cpu()
        return data

    def predict(self, volume: Volume) -> NDArray[np.uint8]:
        """Return the class of every voxel of ``volume``: same shape, same axes.

        Regions are painted over each other in their order: the last one that a voxel is in counts.

        Raises:
            RejectedFileError: The volume has no contrast, so there is nothing to see in it.
        """
        if self.task.kind != "segmentation":
            raise ValueError(f"a {self.task.kind} has no mask: use `outputs`")
        decided_CIJK = self._answer(volume)["pred"].numpy()
        mask_IJK: NDArray[np.uint8] = decided_CIJK[0].astype(np.uint8)
        for number, region_IJK in enumerate(decided_CIJK[1:], start=2):
            mask_IJK[region_IJK > 0] = number
        if mask_IJK.shape != volume.shape:
            raise AssertionError(f"mask {mask_IJK.shape} is not on the grid {volume.shape}")
        return mask_IJK

    def masks(self, volume: Volume) -> NDArray[np.bool_]:
        """Return what is predicted of every answer of the task, ``(answers, I, J, K)``.

        Raises:
            RejectedFileError: As ``predict``.
        """
        if not isinstance(self.task, Segmentation):
            raise ValueError(f"a {self.task.kind} has no masks: use `outputs`")
        decided_CIJK = self._answer(volume)["pred"].numpy()
        if self.task.config.regions:
            return np.asarray(decided_CIJK > 0)
        return np.stack([decided_CIJK[0] == number for number in range(1, len(self.task.labels))])

    def outputs(self, volume: Volume) -> NDArray[np.float64]:
        """Return what is predicted of the whole volume, ``(answers,)``.

        Logits of classes; numbers in the units of their columns.

        Raises:
            RejectedFileError: As ``predict``.
        """
        self._check_contrast(volume)
        pred = self.logits(volume)["pred"].double()
        values = self.task.in_units(pred) if isinstance(self.task, Regression) else pred
        return np.asarray(values.numpy(), np.float64)

    def _answer(self, volume: Volume) -> dict[str, Any]:
        self._check_contrast(volume)
        answer: dict[str, Any] = self._postprocess(self.logits(volume))
        return answer

    def _check_contrast(self, volume: Volume) -> None:
        if volume.array_IJK.min() == volume.array_IJK.max():
            raise RejectedFileError("constant", "every voxel has the same value")


def choose_device(wanted: str) -> torch.device:
    """Return the device of that name; ``auto`` is a GPU when there is one."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(wanted)
