"""A page to look at, with a viewer inside."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from medssl.inference.outputs.base import Output
from medssl.inference.page.page import write_prediction_page
from medssl.inference.predicted import Predicted


class Page(Output):
    """``pages/<name>.html``: scan, overlay, volumes and the model, in one file without a network.

    It holds the scan's voxels, and so what they show of a face.
    """

    class Config(Output.Config):
        """How large pages may be."""

        most_mib: Annotated[float, Field(gt=0)] = 64.0
        """The most that a scan may take on its page, as int16 before it is packed; a larger one
        is shown coarser, and the page says so."""

    config: Config

    def write(self, predicted: Predicted, folder: Path) -> Sequence[Path]:
        """Write the page."""
        path = folder / "pages" / f"{predicted.name}.html"
        write_prediction_page(path, predicted, self.config.most_mib)
        return (path,)
