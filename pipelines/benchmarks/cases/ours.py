"""Runs ``medssl ingest`` on a case and says what is not as it must be."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread

from medssl.ingest.ingest import IngestConfig, ingest
from medssl.io.volume import Volume
from medssl.library.catalog import read_catalog
from medssl.library.outcomes import read_outcomes, read_paths
from medssl.library.volumes import read_volume
from medssl.runs.tracking import TrackingConfig
from pipelines.benchmarks.cases.case import Case, Expected, shown
from pipelines.benchmarks.cases.judge import Made, fault, matched

_SAMPLES = 40
_WORST_SAMPLE = 0.51


@dataclass(frozen=True, eq=False)
class Ingested:
    """What became of a folder: its volumes with their catalog's rows, and the other files."""

    library: Path
    volumes: list[tuple[Volume, Any]]
    others: Counter[tuple[str, str]]
    summary: dict[str, Any]

    def __str__(self) -> str:
        """Return it in a few words, as ``Expect`` does."""
        made = [f"{len(self.volumes)} vol"] if self.volumes else []
        return ", ".join([*made, *shown(self.others)])

    @property
    def made(self) -> list[Made]:
        """What the other tools are compared by."""
        return [Made(volume.array_IJK, volume.affine_ras) for volume, _ in self.volumes]

    @property
    def digests(self) -> list[str]:
        """What must not depend on names and order of files."""
        return sorted(row.voxel_digest for _, row in self.volumes)


def run(case: Case, source: Path, scratch: Path) -> Ingested:
    """Ingest ``source``, the files of ``case``, into a library below ``scratch``."""
    library = scratch / "library"
    result = ingest(
        IngestConfig(
            sources=(str(source),),
            library=library,
            key_file=scratch / "key",
            create_key=True,
            workers="inline",
            tracking=TrackingConfig(enabled=False),
            **dict(case.config),
        )
    )
    rows = list(read_catalog(library).itertuples())
    files = read_outcomes(library)
    others = files[files["outcome"] != "converted"]
    return Ingested(
        library=library,
        volumes=[(read_volume(library, str(row.volume_key)), row) for row in rows],
        others=Counter(zip(others["outcome"], others["reason_code"], strict=True)),
        summary=dict(result.summary),
    )


def faults(case: Case, found: Ingested) -> list[str]:
    """Return everything that is not as the case wants it."""
    return [*_accounts(found), *_others(case, found), *_volumes(case, found)]


def _accounts(found: Ingested) -> Iterator[str]:
    kinds = [found.summary[kind] for kind in ("converted", "skipped", "quarantined")]
    if sum(kinds) != found.summary["files"]:
        yield f"{kinds} do not add up to {found.summary['files']} files"


def _others(case: Case, found: Ingested) -> Iterator[str]:
    wanted = dict(case.expect.others)
    codes = {code for _, code in found.others}
    if dict(found.others) != wanted and not (codes and codes <= set(case.expect.either)):
        yield f"files: {', '.join(shown(found.others)) or 'none'}; expected {case.expect}"


def _volumes(case: Case, found: Ingested) -> Iterator[str]:
    for volume, _ in found.volumes:
        if np.linalg.det(volume.affine_ras[:3, :3]) <= 0:
            yield "a left-handed grid"
    wanted, count = case.expect.volumes, case.expect.count
    if wanted is None:
        if count not in (None, len(found.volumes)):
            yield f"{len(found.volumes)} volume(s); expected {count}"
        yield from _against_files(found)
        return
    if len(found.volumes) != len(wanted):
        yield f"{len(found.volumes)} volume(s); expected {len(wanted)}"
    yield from filter(None, matched(found.made, wanted, lenient=False))
    pairs = list(zip(found.made, found.volumes, strict=True))
    for one in wanted:
        fitting = [row for made, (_, row) in pairs if not fault(made, one)]
        for row in fitting[:1]:
            yield from _bookkeeping(one, row)


def _bookkeeping(wanted: Expected, row: Any) -> Iterator[str]:
    """Say what the catalog does not tell of a volume as it should."""
    if wanted.intensity and row.intensity != wanted.intensity:
        yield f"intensity {row.intensity}; expected {wanted.intensity}"
    if tuple(row.regularized) != wanted.regularized:
        yield f"regularized {list(row.regularized)}; expected {list(wanted.regularized)}"
    if not set(wanted.flags) <= set(row.flags):
        yield f"flags {list(row.flags)}; expected {list(wanted.flags)}"


def _against_files(found: Ingested) -> Iterator[str]:
    """Compare volumes that were not resampled with pixels of the files, read by pydicom."""
    paths = read_paths(found.library)
    for volume, _ in found.volumes:
        if volume.regularized or not volume.slices:
            continue
        for index, source in enumerate(volume.slices):
            if source.frame_index is None:
                worst = _worst_sample(volume, index, Path(paths[source.file_key]))
                if worst > _WORST_SAMPLE:
                    yield f"a slice differs from its file by {worst:.3g}"
                    break


def _worst_sample(volume: Volume, index: int, path: Path) -> float:
    """Return the largest difference between points of a file and the volume at their place."""
    ds = dcmread(path)
    pixels = ds.pixel_array * float(ds.get("RescaleSlope", 1)) + float(
        ds.get("RescaleIntercept", 0)
    )
    rng = np.random.default_rng(index)
    rows, columns = (rng.integers(0, n, _SAMPLES) for n in pixels.shape)
    row, column = np.reshape(ds.ImageOrientationPatient, (2, 3)).astype(float)
    down, across = map(float, ds.PixelSpacing)
    lps = (
        np.array(ds.ImagePositionPatient, float)
        + np.outer(columns * across, row)
        + np.outer(rows * down, column)
    )
    ras = lps * (-1, -1, 1)
    inverse = np.linalg.inv(volume.affine_ras)
    at = np.rint(ras @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
    if (at < 0).any() or (at >= volume.shape).any():
        return float("inf")
    return float(np.abs(volume.array_IJK[tuple(at.T)] - pixels[rows, columns]).max())
