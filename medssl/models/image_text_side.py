"""What stands in an image-text model for the side that its folder does not hold."""

from pathlib import Path
from typing import NoReturn

from torch import Tensor, nn

from medssl.errors import InputError
from medssl.models.encoders.base import Encoder
from medssl.models.text.base import TextEncoder


class AbsentEncoder(Encoder):
    """No image encoder: whoever asks it is told so.

    Args:
        width: Length of the embeddings that the one left out makes.
        folder: What holds the text side alone, for the message.
    """

    def __init__(self, width: int, folder: Path) -> None:
        nn.Module.__init__(self)
        self.channels, self.strides, self._folder = (width,), (1,), folder

    def features(self, x_BCIJK: Tensor) -> NoReturn:
        raise _not_held(self._folder, "text side", "images")


class AbsentText(TextEncoder):
    """No text encoder: whoever asks it is told so.

    Args:
        width: Length of the vectors that the one left out makes.
        folder: What holds the image side alone, for the message.
    """

    def __init__(self, width: int, folder: Path) -> None:
        nn.Module.__init__(self)
        self.embed_dim, self.max_tokens, self._folder = width, 0, folder

    def stages(self) -> list[nn.Module]:
        return []

    def states(self, ids_NL: Tensor, mask_NL: Tensor) -> NoReturn:
        raise _not_held(self._folder, "image side", "texts")

    def embed(self, *texts: object, **options: object) -> NoReturn:
        raise _not_held(self._folder, "image side", "texts")


def _not_held(folder: Path, held: str, asked: str) -> InputError:
    return InputError(
        f"{folder}: it holds the {held} of the model alone, and cannot embed {asked}",
        hint="export both sides: format.parts both",
    )
