"""Keep a slice when its embedding points elsewhere than those of the kept ones nearby."""

from pathlib import Path
from typing import Annotated, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from medssl.curation.slices import VolumeSlices
from medssl.curation.strategies.base import Floats, Leader, Places
from medssl.errors import InputError

CELLS: Final = 64
COLUMNS: Final = ("volume_key", "index", "embedding")


class Embedding(Leader):
    """Cosine of embeddings: of an encoder's, from a table, or of principal components.

    Curation runs no network. An encoder's embeddings come as a Parquet file of ``volume_key``,
    ``index`` (of the slice) and ``embedding`` (a list of numbers), which
    ``pipelines/embed_slices.py`` writes. Without one, the slices of a volume are described by the
    principal components of their thumbnails of 64 x 64 cells.
    """

    class Config(Leader.Config):
        table: Path | None = None
        """Parquet file of embeddings; null for principal components of thumbnails."""
        components: Annotated[int, Field(gt=0)] = 32
        """Principal components kept, where there is no table."""
        min_cosine: Annotated[float, Field(gt=-1, lt=1)] = 0.6
        """Slices whose embeddings have at least this cosine are alike."""

    config: Config

    @property
    def spec(self) -> str:
        """Name where the embeddings are from."""
        source = "table" if self.config.table else "pca"
        return f"{self.config.name}.{source}/{self.version}"

    @property
    def threshold(self) -> float:
        """Return the least cosine of two slices that are alike."""
        return self.config.min_cosine

    def describe(self, slices: VolumeSlices) -> Floats:
        """Return (N, D) embeddings of length 1; one without any length stays 0."""
        if self.config.table:
            found = read_embeddings(self.config.table, slices.volume_key, len(slices))
        else:
            found = principal_components(slices.pooled(CELLS), self.config.components)
        length = np.sqrt((found**2).sum(axis=1, keepdims=True))
        return found / np.where(length > 0, length, 1.0)

    def scores(self, described: Floats, one: int, others: Places) -> Floats:
        """Return the cosines, summed in one order on every machine."""
        cosines: Floats = (described[others] * described[one]).sum(axis=1)
        return cosines


def principal_components(cells_NHW: np.ndarray, count: int) -> Floats:
    """Return (N, count) coordinates of slices along the directions in which they differ most.

    By the N x N matrix of inner products, which is exact before it is centred: whole numbers
    below 2^53 (Schoelkopf et al. 1998, with the linear kernel).
    """
    flat_NP = cells_NHW.reshape(len(cells_NHW), -1).astype(np.float64)
    products_NN = flat_NP @ flat_NP.T
    mean_N = products_NN.mean(axis=1)
    centred_NN = products_NN - mean_N[:, None] - mean_N[None, :] + mean_N.mean()
    values, vectors = np.linalg.eigh(centred_NN)
    largest = slice(None, -count - 1, -1)
    coordinates: Floats = vectors[:, largest] * np.sqrt(np.maximum(values[largest], 0.0))
    return coordinates


def read_embeddings(table: Path, volume_key: str, slices: int) -> Floats:
    """Return (slices, D) embeddings of one volume.

    Raises:
        InputError: There is no such table, or not one embedding for each slice.
    """
    try:
        rows = pq.read_table(
            table, columns=list(COLUMNS), filters=[("volume_key", "==", volume_key)]
        )
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(
            f"{table} is no Parquet file with the columns {', '.join(COLUMNS)} "
            f"({type(error).__name__})",
            hint="write it with pipelines/embed_slices.py",
        ) from None
    rows = rows.sort_by("index")
    if rows["index"].to_pylist() != list(range(slices)):
        raise InputError(
            f"{table} holds {len(rows)} embeddings of the volume {volume_key}, "
            f"wanted one for each of its {slices} slices",
            hint="write it again for this library",
        )
    return np.array(rows["embedding"].to_pylist(), np.float64)
