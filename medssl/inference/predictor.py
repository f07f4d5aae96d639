"""A task model over a whole volume: masks on the volume's own grid, or classes and numbers."""

from collections.abc import Sequence
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medssl.data.preprocessing import as_metatensor, build, compose, in_memory
from medssl.errors import RejectedFileError
from medssl.inference.predicted import Masks
from medssl.inference.slabs import SlabSegmenter, can_segment
from medssl.io.reasons import reject
from medssl.io.volume import Volume
from medssl.tasks.classification import Classification
from medssl.tasks.regression import Regression
from medssl.tasks.segmentation import Segmentation
from medssl.training.reference import scan_vector
from medssl.training.task_model import TaskModel, load_task_model

_DECISION = "AsDiscreted"
"""The last step of a segmentation: from probabilities to classes."""


class Predictor:
    """Runs one task model on volumes in memory.

    The model's own preprocessing, inferer and postprocessing are used, as its exported bundle
    uses them, so both give the same mask.
    """

    def __init__(
        self,
        model: TaskModel,
        device: torch.device | str = "cpu",
        mirror_axes: Sequence[int] = (),
        *,
        half: bool = False,
    ) -> None:
        """Put a model on a device.

        Args:
            model: The network, its task and its description.
            device: Where it runs.
            mirror_axes: Axes I, J, K (0, 1, 2) along which every window is also seen mirrored,
                alone and together; the network's outputs, mirrored back, are averaged.
            half: Compute in half precision where the device is a GPU.
        """
        about = model.description
        self.description, self.task, self.device = about, model.task, torch.device(device)
        self._half = half and self.device.type == "cuda"
        self._network = model.network.to(self.device).eval()
        self._encoder, self.reference = model.encoder, model.reference
        self._slabs = (
            SlabSegmenter(about=about, task=model.task, device=self.device)
            if isinstance(model.task, Segmentation) and can_segment(about)
            else None
        )
        self._preprocess = compose(in_memory(about.preprocessing))
        self._inferer = build(about.inferer)
        specs = about.postprocessing
        decided = [spec for spec in specs if spec["_target_"] == _DECISION]
        references = {"@preprocessing": self._preprocess}
        self._activate = compose(
            [spec for spec in specs if spec not in decided], references=references
        )
        self._decide = compose(decided)
        axes = [axis + 2 for axis in mirror_axes]
        self._mirrored = list(
            chain.from_iterable(combinations(axes, count) for count in range(len(axes) + 1))
        )

    @classmethod
    def load(cls, folder: Path, device: torch.device | str = "cpu") -> "Predictor":
        """Return a predictor for the task model in ``folder``; see ``load_task_model``."""
        return cls(load_task_model(folder), device)

    @property
    def labels(self) -> tuple[str, ...]:
        """Name of every number in a mask, the background first."""
        return ("background", *self.task.answers)

    def logits(self, volume: Volume, seen_1IJK: Tensor | None = None) -> dict[str, Any]:
        """Return the prepared ``image`` and the network's ``pred`` on it, both ``(C, I, J, K)``.

        Of tasks about whole volumes ``pred`` is ``(C,)``.

        Args:
            volume: The scan.
            seen_1IJK: What the model's own transforms made of it, where that is known.
        """
        data: dict[str, Any] = {"image": self._prepared(volume) if seen_1IJK is None else seen_1IJK}
        with torch.inference_mode():
            image_1CIJK = data["image"][None].to(self.device)
            data["pred"] = self._inferer(image_1CIJK, self._forward)[0].cpu()
        return data

    def _prepared(self, volume: Volume) -> Tensor:
        given = {"image": as_metatensor(volume.array_IJK, volume.affine_ras)}
        return torch.as_tensor(self._preprocess(given)["image"])

    def _forward(self, x_BCIJK: Tensor) -> Tensor:
        """Return the network's output, mirrored images included; in parts where memory is short."""
        try:
            with torch.autocast(self.device.type, torch.float16, enabled=self._half):
                outputs = [self._seen(x_BCIJK, axes) for axes in self._mirrored]
        except torch.OutOfMemoryError:
            middle = len(x_BCIJK) // 2
            if middle == 0:
                raise reject("out_of_memory") from None
            return torch.cat([self._forward(part) for part in torch.split(x_BCIJK, middle)])
        summed = sum(outputs[1:], start=outputs[0])
        mean = summed / len(outputs) if len(outputs) > 1 else summed
        return mean.float() if self._half else mean

    def _seen(self, x_BCIJK: Tensor, axes: tuple[int, ...]) -> Tensor:
        output: Tensor = self._network(x_BCIJK.flip(axes) if axes else x_BCIJK)
        return output.flip(axes) if axes and self.task.kind == "segmentation" else output

    def probabilities(self, volume: Volume, seen_1IJK: Tensor | None = None) -> dict[str, Any]:
        """Return the ``pred`` that decisions are made of, on the volume's own grid.

        Args:
            volume: The scan.
            seen_1IJK: As ``logits``.

        Raises:
            RejectedFileError: The volume has no contrast, so there is nothing to see in it.
        """
        _check_contrast(volume)
        answer: dict[str, Any] = self._activate(self.logits(volume, seen_1IJK))
        return answer

    def decided(self, volume: Volume, data: dict[str, Any]) -> NDArray[np.float32]:
        """Return a segmentation's decision on probabilities, ``(C, I, J, K)``.

        C is 1 for class numbers, or the number of regions.
        """
        if self.task.kind != "segmentation":
            raise ValueError(f"a {self.task.kind} has no masks: use `outputs`")
        decided_CIJK: NDArray[np.float32] = self._decide(dict(data))["pred"].numpy()
        if decided_CIJK.shape[1:] != volume.shape:
            raise AssertionError(f"mask {decided_CIJK.shape} is not on the grid {volume.shape}")
        return decided_CIJK

    def predict(self, volume: Volume) -> NDArray[np.uint8]:
        """Return the class of every voxel of ``volume``: same shape, same axes.

        Regions are painted over each other in their order: the last one that a voxel is in counts.

        Raises:
            RejectedFileError: As ``probabilities``.
        """
        return self.segment(volume).painted_IJK

    def see(self, volume: Volume) -> Tensor:
        """Return what the network sees of ``volume``, ``(1, I, J, K)``.

        Raises:
            RejectedFileError: As ``probabilities``.
        """
        _check_contrast(volume)
        return self._prepared(volume) if self._slabs is None else self._slabs.see(volume)

    def distance(self, seen_1IJK: Tensor) -> float | None:
        """Return how far a scan is from those the model was trained on; None if nobody can tell."""
        if self.reference is None:
            return None
        window = self.description.patch_voxels
        return self.reference.distance(scan_vector(self._encoder, seen_1IJK, window, self.device))

    def segment(self, volume: Volume, seen_1IJK: Tensor | None = None) -> Masks:
        """Return what is predicted of every answer of the task.

        Args:
            volume: The scan.
            seen_1IJK: What ``see`` made of it, where that is known.

        Raises:
            RejectedFileError: As ``probabilities``.
        """
        if self.task.kind != "segmentation":
            raise ValueError(f"a {self.task.kind} has no masks: use `outputs`")
        if self._slabs is None:
            return self.segment_at_once(volume, seen_1IJK)
        with torch.inference_mode():
            image_1IJK = self.see(volume) if seen_1IJK is None else seen_1IJK
            return self._slabs.segment(volume, image_1IJK, self._forward)

    def segment_at_once(self, volume: Volume, seen_1IJK: Tensor | None = None) -> Masks:
        """Return the same, with MONAI's own transforms: more memory, the same voxels.

        Args:
            volume: The scan.
            seen_1IJK: As ``logits``.

        Raises:
            RejectedFileError: As ``probabilities``.
        """
        decided_CIJK = self.decided(volume, self.probabilities(volume, seen_1IJK))
        if isinstance(self.task, Segmentation) and self.task.config.regions:
            return Masks(names=self.task.answers, regions_CIJK=decided_CIJK > 0)
        return Masks(names=self.task.answers, numbers_IJK=decided_CIJK[0].astype(np.uint8))

    def masks(self, volume: Volume) -> NDArray[np.bool_]:
        """Return what is predicted of every answer of the task, ``(answers, I, J, K)``.

        Raises:
            RejectedFileError: As ``probabilities``.
        """
        return self.segment(volume).stacked_CIJK

    def outputs(self, volume: Volume, seen_1IJK: Tensor | None = None) -> NDArray[np.float64]:
        """Return what is predicted of the whole volume, ``(answers,)``.

        Logits of classes; numbers in the units of their columns.

        Args:
            volume: The scan.
            seen_1IJK: What ``see`` made of it, where that is known.

        Raises:
            RejectedFileError: As ``probabilities``.
        """
        if self.task.kind == "segmentation":
            raise ValueError("a segmentation has masks: use `masks`")
        _check_contrast(volume)
        pred = self.logits(volume, seen_1IJK)["pred"].double()
        values = self.task.in_units(pred) if isinstance(self.task, Regression) else pred
        return np.asarray(values.numpy(), np.float64)

    def answers(self, volume: Volume, seen_1IJK: Tensor | None = None) -> dict[str, float]:
        """Return what is predicted of the whole volume, by name: probabilities, or numbers.

        Args:
            volume: The scan.
            seen_1IJK: What ``see`` made of it, where that is known.

        Raises:
            RejectedFileError: As ``probabilities``.
        """
        outputs = self.outputs(volume, seen_1IJK)
        if isinstance(self.task, Classification):
            outputs = self.task.probabilities(torch.from_numpy(outputs)[None])[0].numpy()
        return dict(zip(self.task.answers, outputs.tolist(), strict=True))


class Ensemble(Predictor):
    """Several task models of one task, such as the folds of a data set, that answer together.

    Probabilities of voxels are averaged, and logits or numbers of whole volumes. Every member
    prepares a scan for itself, in its own way.
    """

    def __init__(self, members: Sequence[Predictor]) -> None:
        """Join predictors.

        Raises:
            ValueError: They answer different questions.
        """
        first = members[0]
        if any(other.task.answers != first.task.answers for other in members):
            raise ValueError("the models of an ensemble must predict the same things")
        self.members, self.task, self.description = members, first.task, first.description
        self.device = first.device

    def probabilities(self, volume: Volume, seen_1IJK: Tensor | None = None) -> dict[str, Any]:
        """Return the mean of what the members would decide by; see ``Predictor``."""
        answers = [member.probabilities(volume) for member in self.members]
        summed = sum((answer["pred"] for answer in answers[1:]), start=answers[0]["pred"])
        return {**answers[0], "pred": summed / len(answers)}

    def decided(self, volume: Volume, data: dict[str, Any]) -> NDArray[np.float32]:
        """Return the decision on the mean."""
        return self.members[0].decided(volume, data)

    def segment(self, volume: Volume, seen_1IJK: Tensor | None = None) -> Masks:
        """Return the masks of the mean."""
        return self.segment_at_once(volume)

    def outputs(self, volume: Volume, seen_1IJK: Tensor | None = None) -> NDArray[np.float64]:
        """Return the mean of the members' outputs."""
        outputs = [member.outputs(volume) for member in self.members]
        return np.asarray(np.mean(outputs, axis=0), np.float64)


def _check_contrast(volume: Volume) -> None:
    if volume.array_IJK.min() == volume.array_IJK.max():
        raise RejectedFileError("constant", "every voxel has the same value")


def choose_device(wanted: str) -> torch.device:
    """Return the device of that name; ``auto`` is a GPU when there is one."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(wanted)
