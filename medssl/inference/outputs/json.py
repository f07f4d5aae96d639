"""What was predicted, but for masks, as JSON: for programs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medssl import __version__
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
        write_json(path, facts(predicted))
        return (path,)


def facts(predicted: Predicted) -> dict[str, Any]:
    """Return all that was predicted but masks; nothing of it says whose scan it is."""
    about = predicted.description
    return {
        "model": about.title,
        "weights_digest": about.weights_digest,
        "medssl": __version__,
        "answers": dict(predicted.answers),
        "conclusions": predicted.conclusions,
        "volumes_ml": {name: round(ml, 4) for name, ml in predicted.volumes_ml.items()},
        "distance": predicted.distance,
        "usual": predicted.usual,
        "warnings": list(predicted.warnings),
        "notice": "For research. Not for diagnosis.",
    }
