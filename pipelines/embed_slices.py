"""Describe every slice of a library by an encoder, for ``medssl curate`` to read.

    python -m pipelines.embed_slices LIBRARY STORE ENCODER --out embeddings.parquet

Curation runs no network: it comes before one. Once there is one, this table lets it choose again
by what the encoder sees: ``slices: {name: embedding, table: embeddings.parquet}``.

The encoder looks at the volumes of a crop store, at the spacing and intensities it was trained
with, in thick slabs that overlap. The embedding of a plane is the mean of every feature map over
the part of it at that place, less the mean of all planes of the volume: what sets it apart.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from medssl.curation.sampling_table import slice_facts
from medssl.curation.slices import slice_positions_mm
from medssl.data.normalize import IntensityConfig
from medssl.data.store import CropStore
from medssl.errors import InputError, MedSSLError
from medssl.library.catalog import catalog_path
from medssl.models.encoders.base import Encoder
from medssl.models.weights import load_encoder
from medssl.runs.folder import atomic_path

SLAB, CONTEXT = 32, 16
"""Planes described at once, and planes seen on either side of them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table; 1 where something is missing."""
    options = _options(arguments)
    try:
        store = CropStore(options.store)
        encoder, about = load_encoder(options.encoder, trust_names=options.trust_encoder)
        trained_mm = tuple(about.get("spacing_mm", store.spacing_mm))
        if trained_mm != store.spacing_mm:
            raise InputError(
                f"the store has a spacing of {store.spacing_mm} mm, the encoder was trained at "
                f"{trained_mm}",
                hint="prepare a store at that spacing",
            )
        count = write_embeddings(
            options.out, options.library, store, encoder.eval(), about.get("intensity", {})
        )
    except MedSSLError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{count} slices described in {options.out}")
    return 0


def write_embeddings(
    out: Path, library: Path, store: CropStore, encoder: Encoder, intensity: dict[str, Any]
) -> int:
    """Write ``volume_key``, ``index`` and ``embedding`` of every slice; return how many."""
    scales = IntensityConfig.model_validate(intensity)
    columns = ["volume_key", "affine_ras"]
    affine_of = {
        row["volume_key"]: np.array(row["affine_ras"], np.float64).reshape(4, 4)
        for row in pq.read_table(catalog_path(library), columns=columns).to_pylist()
    }
    schema = pa.schema(
        {"volume_key": pa.string(), "index": pa.int32(), "embedding": pa.list_(pa.float32())}
    )
    count = 0
    with atomic_path(out) as unfinished, pq.ParquetWriter(unfinished, schema) as writer:
        for key in sorted(store.keys()):
            facts = slice_facts(library, [key])[key]
            axis, slices = int(facts["slice_axis"]), len(facts["foreground"])
            planes_PD = embed_planes(store, key, axis, encoder, scales)
            affine_ras = np.array(store.entry(key).affine_ras)
            planes_mm = slice_positions_mm(affine_ras, axis, len(planes_PD))
            slices_mm = slice_positions_mm(affine_of[key], axis, slices)
            nearest = np.abs(slices_mm[:, None] - planes_mm[None, :]).argmin(axis=1)
            rows = {
                "volume_key": [key] * slices,
                "index": np.arange(slices, dtype=np.int32),
                "embedding": planes_PD[nearest].tolist(),
            }
            writer.write_table(pa.table(rows, schema=schema))
            count += slices
    return count


def embed_planes(
    store: CropStore, volume_key: str, axis: int, encoder: Encoder, scales: IntensityConfig
) -> NDArray[np.float32]:
    """Return (P, D), one embedding per plane of a stored volume across ``axis``, centred."""
    found = [
        torch.cat(
            [_along(m, axis, n)[:, part] for m, n in zip(maps, encoder.strides, strict=True)]
        ).T
        for maps, part in _slabs(store, volume_key, axis, encoder, scales)
    ]
    planes_PD = torch.cat(found)
    centred: NDArray[np.float32] = (planes_PD - planes_PD.mean(dim=0)).numpy().astype(np.float32)
    return centred


def _slabs(
    store: CropStore, volume_key: str, axis: int, encoder: Encoder, scales: IntensityConfig
) -> Iterator[tuple[list[torch.Tensor], torch.Tensor]]:
    """Yield the maps of a slab, and which of its planes it was read for."""
    entry, coarsest = store.entry(volume_key), max(encoder.strides)
    size = [-(-length // coarsest) * coarsest for length in entry.shape]
    size[axis] = -(-(SLAB + 2 * CONTEXT) // coarsest) * coarsest
    for begin in range(0, entry.shape[axis], SLAB):
        start = [0, 0, 0]
        start[axis] = begin - CONTEXT
        box_IJK = scales.normalize(store.read(volume_key, start, size), entry)
        with torch.inference_mode():
            maps = encoder.features(torch.from_numpy(box_IJK)[None, None])
        wanted = min(SLAB, entry.shape[axis] - begin)
        yield maps, torch.arange(CONTEXT, CONTEXT + wanted)


def _along(level_BCIJK: torch.Tensor, axis: int, stride: int) -> torch.Tensor:
    """Return (C, planes) the mean of a map across ``axis``, repeated for the planes under it."""
    others = [2 + other for other in range(3) if other != axis]
    return level_BCIJK.mean(others)[0].repeat_interleave(stride, dim=1)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("library", type=Path, help="what `medssl ingest` wrote")
    parser.add_argument("store", type=Path, help="what `medssl prepare` wrote of it")
    parser.add_argument("encoder", type=Path, help="of a finished pretraining, or exported")
    parser.add_argument("--out", type=Path, required=True, help="the table")
    parser.add_argument("--trust-encoder", action="store_true", help="one of a third party")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
