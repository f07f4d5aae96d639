"""Any text encoder that a hospital has as a folder of the transformers library."""

from pathlib import Path

from medssl.models.text.base import TextEncoder
from medssl.models.text_folder import check_text_folder


class HFFolder(TextEncoder):
    """A BERT or RoBERTa, such as CXR-BERT without its heads; others of the library may do.

    The folder holds ``config.json``, weights (``model.safetensors``, or ``pytorch_model.bin`` with
    tensors alone) and the files of the tokenizer. Code in it is never run.
    """

    class Config(TextEncoder.Config):
        path: Path
        """The folder; no name of a model on a hub. In the description of a stored model it is the
        folder beside that description, which alone is read."""

    config: Config

    def portable_config(self) -> Config:
        return self.config.model_copy(update={"path": Path("text")})

    def folder(self) -> Path:
        check_text_folder(self.config.path)
        return self.config.path
