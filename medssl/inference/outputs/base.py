"""What an output is: it writes a prediction down, in a form that somebody asks for."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from medssl.config.choice import Configurable
from medssl.inference.predicted import Predicted

OUTPUTS = "medssl.inference.outputs"


class Output(Configurable):
    """``write`` once per volume, then ``close`` once."""

    class Config(Configurable.Config):
        """The options of one output."""

    dicom: ClassVar[bool] = False
    """Whether it writes DICOM, which an archive can keep."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def write(self, predicted: Predicted, folder: Path) -> Sequence[Path]:
        """Write ``predicted`` below ``folder``; return the files, none where it has nothing to say.

        Files are written whole or not at all, and are called after ``predicted.name``.

        Raises:
            RejectedFileError: This prediction cannot be written in this form; its row says so.
        """
        raise NotImplementedError

    def close(self, folder: Path) -> dict[str, str]:
        """Finish; return what to look at: label -> path relative to ``folder``."""
        return {}
