"""A task model over a whole volume, and its answer on the volume's own grid."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medssl.data.preprocessing import as_metatensor, build, compose, in_memory
from medssl.errors import RejectedFileError
from medssl.io.volume import Volume
from medssl.training.task_model import TaskModel, load_task_model


class Predictor:
    """Runs one task model on volumes in memory.

    The model's own preprocessing, inferer and postprocessing are used, as its exported bundle
    uses them, so both give the same mask.
    """

    def __init__(self, model: TaskModel, device: torch.device | str = "cpu") -> None:
        about = model.description
        self.description, self.device = about, torch.device(device)
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

        Raises:
            RejectedFileError: The volume has no contrast, so there is nothing to see in it.
        """
        if volume.array_IJK.min() == volume.array_IJK.max():
            raise RejectedFileError("constant", "every voxel has the same value")
        mask_1IJK = self._postprocess(self.logits(volume))["pred"]
        mask_IJK: NDArray[np.uint8] = mask_1IJK[0].numpy().astype(np.uint8)
        if mask_IJK.shape != volume.shape:
            raise AssertionError(f"mask {mask_IJK.shape} is not on the grid {volume.shape}")
        return mask_IJK


def choose_device(wanted: str) -> torch.device:
    """Return the device of that name; ``auto`` is a GPU when there is one."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(wanted)
