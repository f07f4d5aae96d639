"""A tiny crop store of smooth random volumes, so that places in a volume can be told apart."""

from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from medssl.data.store_writer import write_index, write_stored_volume


def write_store(
    path: Path, *, train: int = 6, val: int = 2, size: int = 24, per_group: int = 1
) -> Path:
    rng = np.random.default_rng(0)
    entries = []
    for n in range(train + val):
        smooth = gaussian_filter(rng.standard_normal((size, size, size)), 3)
        array = (1000 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.int16)
        entries.append(
            write_stored_volume(
                path,
                array,
                volume_key=f"v{n:02d}",
                patient_key=f"p{n:02d}",
                split="train" if n < train else "val",
                modality="MR",
                intensity="arbitrary",
                spacing_mm=(3.0, 3.0, 3.0),
                affine_ras=tuple(map(tuple, np.diag([3.0, 3.0, 3.0, 1.0]).tolist())),
                background=0.0,
                foreground_above=50.0,
                p005=0.0,
                p995=1000.0,
                group=f"g{n // per_group}" if per_group > 1 else None,
            )
        )
    write_index(path, entries, (3.0, 3.0, 3.0))
    return path
