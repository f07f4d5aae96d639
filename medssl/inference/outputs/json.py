"""Answers as JSON, for programs."""

from collections.abc import Sequence
from pathlib import Path

from medssl.inference.outputs.base import Output
from medssl.inference.predicted import Predicted
from medssl.runs.folder import write_json


class Json(Output):
    """``<name>.json``: answers, volumes in millilitres, how usual the scan is, and which model."""

    class Config(Output.Config):
        """No options."""

    def write(self, predicted: Predicted, folder: Path) -> Sequence[Path]:
        """Write what was predicted, but for masks."""
        path = folder / f"{predicted.name}.json"
        about = {
            "model": predicted.description.title,
            "weights_digest": predicted.description.weights_digest,
            "answers": dict(predicted.answers),
            "volumes_ml": predicted.volumes_ml,
            "distance": predicted.distance,
            "usual": predicted.usual,
            "warnings": list(predicted.warnings),
        }
        write_json(path, about)
        return (path,)
