"""A text encoder that was trained on a hospital's own reports."""

from pathlib import Path
from typing import Final

from medssl.errors import InputError
from medssl.models.text.base import TextEncoder
from medssl.models.text_folder import check_text_folder

FOLDER: Final = "text"
"""Within the folder of `medssl text train`."""


class Scratch(TextEncoder):
    """What ``medssl text train`` left: in any language, with nothing from elsewhere."""

    class Config(TextEncoder.Config):
        path: Path
        """The folder that `medssl text train` wrote."""

    config: Config

    def folder(self) -> Path:
        folder = self.config.path / FOLDER
        if not folder.is_dir():
            raise InputError(
                f"{self.config.path}: no finished training of a text encoder",
                hint="make one with `medssl text train`; for a model from elsewhere use the text "
                "encoder hf_folder",
            )
        check_text_folder(folder)
        return folder
