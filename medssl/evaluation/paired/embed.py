"""The embed stage: studies or scans to vectors, and so to an index that can be searched."""

from pathlib import Path
from typing import Annotated, Literal, Self

import pandas as pd
from pydantic import Field, model_validator

from medssl.data.store import CropStore
from medssl.evaluation.paired.fast_index import Kind, load_faiss
from medssl.evaluation.paired.index import INDEX, VECTORS, write_index
from medssl.evaluation.paired.options import ModelOptions, chosen_pairs
from medssl.evaluation.paired.scans import store_scans
from medssl.evaluation.paired.studies import LeftOut, embed_studies
from medssl.inference.sources import digest_sources, find_sources
from medssl.reports.pairs import read_pairs
from medssl.runs.digest import digest_file
from medssl.runs.folder import atomic_path
from medssl.runs.stage import StageResult, open_stage

STORE, LEFT_OUT, PARTS = "store", "left_out.csv", "embeddings"


class EmbedConfig(ModelOptions):
    """Everything ``medssl embed`` reads."""

    pairs: Path | None = None
    """The pairs that `medssl reports pair` made; or give `inputs`."""
    store: Path | None = None
    """The crop store that holds their volumes."""
    split: Literal["train", "val", "test", "all"] = "all"
    """Which of their studies."""
    inputs: tuple[Path, ...] = ()
    """NIfTI files, folders of them, or folders of DICOM files, each a study without a report."""
    modality: str = "CT"
    """What NIfTI files show, which do not say so: CT in Hounsfield units, or MR."""
    out: Path
    """Folder for the vectors."""
    images: Annotated[int, Field(gt=0)] | None = None
    """Slices or series of a study that are shown; null: as many as in training."""
    index: Kind = "exact"
    """How the nearest are found. `exact` compares every row; with faiss (the extra `index`), `hnsw`
    and `ivf` are faster among millions and may miss some, and `flat` compares every row too."""

    @model_validator(mode="after")
    def _one_kind_of_data(self) -> Self:
        if (self.pairs is None) != (self.store is None):
            raise ValueError("pairs and store belong together: give both, or inputs")
        if (self.pairs is None) == (not self.inputs):
            raise ValueError("give either pairs and store, or inputs")
        return self


def embed(config: EmbedConfig, *, overwrite: bool = False) -> StageResult:
    """Embed studies and their reports, or scans.

    Leaves ``vectors.parquet``, ``index.json`` and ``left_out.csv``, which together are what
    ``medssl search`` looks in; of scans also ``store``. Interrupted, it embeds no study twice.

    Raises:
        InputError: The model or the data cannot be read, or do not fit, or the index needs faiss,
            which is not installed.
        FolderError: ``config.out`` holds something else, and ``overwrite`` is off.
    """
    if config.index != "exact":
        load_faiss()  # before anything is embedded
    inputs = {"model": config.model_digest}
    if config.pairs is not None and config.store is not None:
        inputs |= {
            "store": CropStore(config.store).digest,
            "pairs": read_pairs(config.pairs).digest,
        }
    else:
        inputs["scans"] = digest_sources(find_sources(config.inputs))
    with open_stage(
        "embed", config.out, config, inputs=inputs, tracking=config.tracking, overwrite=overwrite
    ) as run:
        if run.previous:
            return run.previous
        subject = config.subject(config.images)
        unreadable: tuple[LeftOut, ...] = ()
        if config.pairs is not None and config.store is not None:
            store = CropStore(config.store)
            pairs = chosen_pairs(read_pairs(config.pairs), config.split, config.pairs)
        else:
            store, pairs, unreadable = store_scans(
                config.inputs, config.out / STORE, subject.spacing_mm, config.modality
            )
        found = embed_studies(subject, store, pairs, config.out / PARTS)
        left_out = [*unreadable, *found.left_out]
        write_index(config.out, subject, found, config.index)
        with atomic_path(config.out / LEFT_OUT) as partial:
            pd.DataFrame(left_out, columns=LeftOut._fields).to_csv(partial, index=False)
        return run.finish(
            summary={
                "studies": len(found.pairs),
                "with_report": len(found.with_text().pairs),
                "left_out": len(left_out),
                "dimensions": found.image_ND.shape[1],
            },
            look_at={"vectors": VECTORS, "index": INDEX, "left out": LEFT_OUT},
            outputs={"vectors": digest_file(config.out / VECTORS)},
        )
