"""Stage: a selection of the library to a crop store at one spacing."""

import csv
import io
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from medssl.curation.sampling_table import FILE as SAMPLING
from medssl.curation.sampling_table import read_sampling_table, table_digest, weights_of
from medssl.curation.selection import Selection, read_selection, selection_folder
from medssl.curation.slices import slice_positions_mm
from medssl.data.aligned import Placed, SharedGrid, read_frames, shared_grids
from medssl.data.contrast_table import read_contrast_table
from medssl.data.entry import StoreEntry
from medssl.data.placing import grid_of, place_on_grid
from medssl.data.prepare_config import PrepareConfig
from medssl.data.slice_weights import weights_on_planes
from medssl.data.store import ENTRIES, INDEX, CropStore
from medssl.data.store_writer import finished_entry, write_index, write_stored_volume
from medssl.errors import InputError, MedSSLError
from medssl.library.catalog import catalog_path
from medssl.library.fingerprints.voxel_digest import voxel_digest
from medssl.library.volumes import read_volume
from medssl.runs.digest import digest_json
from medssl.runs.folder import write_text
from medssl.runs.progress import task
from medssl.runs.stage import StageResult, StageRun, open_stage
from medssl.runs.workers import map_unordered

__all__ = ["PrepareConfig", "prepare"]

LEFT_OUT = "left_out.csv"


class Job(NamedTuple):
    """One volume to prepare."""

    volume_key: str
    patient_key: str
    voxel_digest: str
    """Of the voxels that the selection was made of."""
    split: str
    view_of: str | None = None
    """The kept volume that it is another reconstruction of."""
    contrast: str | None = None
    """What the user called it."""


class Together(NamedTuple):
    """What one process prepares: a volume, or all that share a frame of reference."""

    jobs: tuple[Job, ...]
    placed: tuple[Placed, ...] = ()
    """Where they lie, if they are several."""


class Outcome(NamedTuple):
    """What became of it: an entry, or the reason there is none."""

    job: Job
    entry: StoreEntry | None
    reason: str = ""


def prepare(config: PrepareConfig, *, overwrite: bool = False) -> StageResult:
    """Write the kept volumes of a selection at one spacing, and check what was written.

    Volumes keep their own type of voxel. A volume that cannot be prepared is a row of
    ``left_out.csv``; an interrupted run goes on with the volumes that are not there yet.

    Raises:
        InputError: The selection is missing or empty, or no volume could be prepared.
        FolderError: ``out`` holds something else.
    """
    selection = read_selection(config.library, config.selection)
    inputs = {"selection": selection.digest}
    jobs = _jobs(selection)
    if config.views:
        jobs += _view_jobs(config.library, selection)
        inputs["views"] = digest_json(sorted(job[:5] for job in jobs if job.view_of))
    work = _arrange(config, jobs)
    if config.align_sequences or config.contrast_table:
        arranged = sorted([job.volume_key, job.contrast] for each in work for job in each.jobs)
        frames = sorted([job.volume_key for job in each.jobs] for each in work)
        inputs["sequences"] = digest_json([arranged, frames])
    sampling = sampling_table(config)
    if sampling is not None:
        inputs["sampling"] = table_digest(sampling)
    with open_stage(
        "prepare",
        config.out,
        config,
        inputs=inputs,
        overwrite=overwrite,
        tracking=config.tracking,
    ) as run:
        if run.previous is not None:
            return run.previous
        return _finish(config, run, list(_prepare_all(config, run, work, sampling)))


def sampling_table(config: PrepareConfig) -> Path | None:
    """Return the table of the selection's slice weights, None where there is or shall be none."""
    path = selection_folder(config.library, config.selection) / SAMPLING
    return path if config.slice_weights and path.is_file() else None


def prepare_together(
    work: Together, config: PrepareConfig, store: Path, sampling: Path | None, *, resumed: bool
) -> list[Outcome]:
    """Prepare volumes that may share a grid; each that cannot be prepared is left out alone."""
    done = [finished_entry(store, job.volume_key) for job in work.jobs if resumed]
    if done and all(done):
        return [Outcome(job, entry) for job, entry in zip(work.jobs, done, strict=True)]
    grids = shared_grids(work.placed, config.min_overlap, partial(grid_of, config=config))
    shared = {key: grid for grid in grids for key in grid.members}
    place = partial(prepare_one, config=config, store=store, sampling=sampling, resumed=resumed)
    return [place(job, grid=shared.get(job.volume_key)) for job in work.jobs]


def prepare_one(
    job: Job,
    config: PrepareConfig,
    store: Path,
    sampling: Path | None = None,
    *,
    resumed: bool,
    grid: SharedGrid | None = None,
) -> Outcome:
    """Prepare one volume; an expected failure becomes the reason why there is no entry.

    What an interrupted run with the same configuration has finished is taken as it is.
    """
    done = finished_entry(store, job.volume_key) if resumed else None
    if done is not None:
        return Outcome(job, done)
    try:
        volume = read_volume(config.library, job.volume_key)
        if voxel_digest(volume.array_IJK, volume.intensity) != job.voxel_digest:
            raise InputError("its voxels changed since the selection was made: curate again")
        array_IJK, affine_ras, statistics = place_on_grid(volume, config, grid)
        weights = _weights(sampling, job, affine_ras, array_IJK.shape)
    except MedSSLError as error:
        return Outcome(job, None, error.problem)
    entry = write_stored_volume(
        store,
        array_IJK,
        volume_key=job.volume_key,
        patient_key=job.patient_key,
        split=job.split,
        modality=volume.modality,
        intensity=volume.intensity,
        spacing_mm=config.spacing_mm,
        affine_ras=affine_ras.tolist(),
        view_of=job.view_of,
        group=grid.group if grid else None,
        contrast=job.contrast,
        **weights,
        **statistics,
    )
    return Outcome(job, entry)


def _weights(
    sampling: Path | None, job: Job, affine_ras: NDArray[np.float64], shape: tuple[int, ...]
) -> dict[str, Any]:
    """Return ``slice_axis`` and ``slice_weights`` of an entry, nothing for a volume not weighed.

    Another reconstruction has the weights of the kept one, at the same places in mm.
    """
    key = job.view_of or job.volume_key
    known = weights_of(read_sampling_table(sampling, [key])) if sampling else {}
    if key not in known:
        return {}
    axis, weights_N, slices_mm = known[key]
    planes_mm = slice_positions_mm(affine_ras, axis, shape[axis])
    return {
        "slice_axis": axis,
        "slice_weights": weights_on_planes(weights_N, slices_mm, planes_mm),
    }


def _jobs(selection: Selection) -> list[Job]:
    if selection.kept.empty:
        raise InputError(
            "the selection keeps no volume, so there is nothing to prepare",
            hint="its report says why each volume was excluded",
        )
    columns = ["volume_key", "patient_key", "voxel_digest", "split"]
    rows = selection.kept.sort_values("volume_key")[columns]
    return [Job(*map(str, row)) for row in rows.itertuples(index=False)]


def _view_jobs(library: Path, selection: Selection) -> list[Job]:
    """Return the jobs of other reconstructions, in the split of the scan they show."""
    view_of = {str(view): row for row in selection.kept.to_dict("records") for view in row["views"]}
    columns = ["volume_key", "voxel_digest"]
    catalog = pq.read_table(catalog_path(library), columns=columns).to_pylist()
    return [
        Job(
            key,
            str(kept["patient_key"]),
            row["voxel_digest"],
            str(kept["split"]),
            str(kept["volume_key"]),
        )
        for row in sorted(catalog, key=lambda row: str(row["volume_key"]))
        if (kept := view_of.get(key := str(row["volume_key"])))
    ]


def _arrange(config: PrepareConfig, jobs: list[Job]) -> list[Together]:
    """Return the jobs as the pieces of work they are, with what the user said of each volume."""
    said = read_contrast_table(config.contrast_table) if config.contrast_table else {}
    named = {key: row.contrast or None for key, row in said.items()}
    by_key = {job.volume_key: job._replace(contrast=named.get(job.volume_key)) for job in jobs}
    work: list[Together] = []
    if config.align_sequences:
        scans = [job.volume_key for job in jobs if job.view_of is None]
        work += [
            Together(tuple(by_key.pop(p.volume_key) for p in placed), placed)
            for placed in read_frames(config.library, scans, said)
        ]
    return work + [Together((job,)) for job in by_key.values()]


def _prepare_all(
    config: PrepareConfig, run: StageRun, work: list[Together], sampling: Path | None
) -> Iterator[Outcome]:
    prepare_work = partial(
        prepare_together, config=config, store=run.folder, sampling=sampling, resumed=run.resumed
    )
    with task("prepare volumes", sum(len(each.jobs) for each in work)) as progress:
        shared = [config.library, run.folder]
        for outcomes in map_unordered(prepare_work, work, workers=config.workers, shared=shared):
            progress.advance(len(outcomes))
            yield from outcomes


def _finish(config: PrepareConfig, run: StageRun, outcomes: list[Outcome]) -> StageResult:
    entries = [outcome.entry for outcome in outcomes if outcome.entry is not None]
    left_out = [outcome for outcome in outcomes if outcome.entry is None]
    _write_left_out(run.folder / LEFT_OUT, left_out)
    if not entries:
        raise InputError(
            f"none of the {len(left_out)} volumes could be prepared: {left_out[0].reason}",
            hint=f"see {run.folder / LEFT_OUT}",
        )
    digest = write_index(run.folder, entries, config.spacing_mm)
    CropStore(run.folder).verify()
    splits = Counter(entry.split for entry in entries)
    views = sum(entry.view_of is not None for entry in entries)
    aligned = config.align_sequences
    weighed = sum(entry.slice_weights is not None for entry in entries)
    return run.finish(
        summary={
            "volumes": len(entries),
            **({"other_views": views} if config.views else {}),
            **({"weighed": weighed} if weighed else {}),
            **({"groups": len({e.group for e in entries} - {None})} if aligned else {}),
            "left_out": len(left_out),
            **{f"volumes_{split}": count for split, count in sorted(splits.items())},
            "megavoxels": round(sum(int(np.prod(entry.shape)) for entry in entries) / 1e6, 1),
            "store_digest": digest,
        },
        look_at={"index": INDEX, "volumes": ENTRIES, "left out": LEFT_OUT},
        outputs={"store": digest},
    )


def _write_left_out(path: Path, left_out: list[Outcome]) -> None:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["volume_key", "reason"])
    rows.writerows(sorted((outcome.job.volume_key, outcome.reason) for outcome in left_out))
    write_text(path, text.getvalue())
