"""Stage: pictures (PNG, JPEG) and a table of them to a crop store, for archives without DICOM.

A picture becomes a volume of one plane, grey, its first axis to the right of the picture and its
second downwards, which are taken for the patient's left and back. Its longest side has ``size_px``
pixels; views pad what is not square. Grey values have no unit, and nobody knows the width of a
pixel, so the store calls it 1 mm.

    OUT/pictures.csv   row of the table, keys and split of every picture in the store
    OUT/left_out.csv   row of the table, and why its picture is not there
"""

import csv
import io
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from medssl.config.base import Config
from medssl.data.entry import StoreEntry
from medssl.data.foreground import background_value, body_threshold
from medssl.data.resample import grid_change, resample
from medssl.data.store import ENTRIES, INDEX, CropStore
from medssl.data.store_writer import finished_entry, write_index, write_stored_volume
from medssl.errors import InputError, RejectedFileError
from medssl.io.deidentify import Pseudonymizer
from medssl.io.pictures import read_grey
from medssl.runs.digest import digest_json
from medssl.runs.folder import write_text
from medssl.runs.progress import task
from medssl.runs.stage import StageResult, StageRun, open_stage
from medssl.runs.tracking import TrackingConfig
from medssl.runs.workers import Workers, map_unordered

PICTURES, LEFT_OUT = "pictures.csv", "left_out.csv"
COLUMNS: Final = ("image", "patient", "study", "split", "modality")
SPACING_MM: Final = (1.0, 1.0, 1.0)


class PicturesConfig(Config):
    """Everything that pictures become a store by."""

    sources: Path
    """CSV in UTF-8, one row per picture: `image`, a path relative to the table; `patient`; and,
    where there are any, `study` (else a patient is one study), `split` (train, val, test; else
    train), `modality` (CT, MR; else unknown). Other columns are not read."""
    out: Path
    """Folder of the crop store."""
    key_file: Path
    """The secret key of the pseudonyms, as of `medssl ingest`."""
    create_key: bool = False
    """Make a new key where `key_file` does not exist, instead of refusing to run."""
    size_px: Annotated[int, Field(gt=0)] = 96
    """Longest side of a picture in the store."""
    workers: Workers = 0
    """Processes, 0 for one per core; or a cluster, as in `ingest`."""
    tracking: TrackingConfig = TrackingConfig()
    """Where the stage is recorded."""

    @model_validator(mode="after")
    def _key_lies_outside_the_store(self) -> Self:
        if self.key_file.resolve().is_relative_to(self.out.resolve()):
            raise ValueError("key_file must not lie in the store, which it would lay open")
        return self


class Picture(Config):
    """A row of the table."""

    image: Path
    patient: Annotated[str, Field(min_length=1)]
    study: str
    split: Literal["train", "val", "test"] = "train"
    modality: Literal["CT", "MR", "unknown"] = "unknown"


class Stored(NamedTuple):
    """A picture of the store, as ``pictures.csv`` lists it."""

    row: int
    """Of the table, from 0."""
    volume_key: str
    study_key: str
    patient_key: str
    split: str


class Outcome(NamedTuple):
    """What became of a row: an entry, or the reason there is none."""

    row: int
    entry: StoreEntry | None
    reason: str = ""


def store_pictures(config: PicturesConfig, *, overwrite: bool = False) -> StageResult:
    """Write the pictures of a table into a crop store, and check what was written.

    A picture that cannot be read is a row of ``left_out.csv``; an interrupted run goes on with
    the pictures that are not there yet. What is in the files is not compared with an earlier run:
    where they changed under the same names, set ``overwrite``.

    Raises:
        InputError: The table cannot be read, has patients in several splits, or no picture could.
        FolderError: ``out`` holds something else.
    """
    pictures = read_table(config.sources)
    key = Pseudonymizer.from_key_file(config.key_file, create=config.create_key)
    listed = [_keys(row, picture, key) for row, picture in enumerate(pictures)]
    about = [[*keys, picture.modality] for keys, picture in zip(listed, pictures, strict=True)]
    with open_stage(
        "pictures",
        config.out,
        config,
        inputs={"table": digest_json(about)},
        overwrite=overwrite,
        tracking=config.tracking,
    ) as run:
        if run.previous is not None:
            return run.previous
        write = partial(
            store_picture, folder=run.folder, size_px=config.size_px, resumed=run.resumed
        )
        work = list(zip(listed, pictures, strict=True))
        shared = [config.sources.parent, run.folder]
        with task("store pictures", len(work)) as progress:
            outcomes = list[Outcome]()
            for outcome in map_unordered(write, work, workers=config.workers, shared=shared):
                progress.advance(1)
                outcomes.append(outcome)
        return _finish(run, listed, sorted(outcomes))


def read_table(path: Path) -> tuple[Picture, ...]:
    """Return the rows of a table of pictures, in its order.

    Raises:
        InputError: It is missing, has no column `image` or `patient`, has a value that is not
            allowed, or has a patient in several splits. No value of it is repeated.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"the table of pictures cannot be read ({type(error).__name__})",
            hint="give a CSV in UTF-8",
        ) from None
    table = csv.DictReader(io.StringIO(text))
    missing = [name for name in COLUMNS[:2] if name not in (table.fieldnames or ())]
    if missing:
        raise InputError(
            f"the table of pictures has no column {' and no column '.join(missing)}",
            hint=f"its columns are {', '.join(COLUMNS)}, of which the first two are needed",
        )
    found = tuple(_picture(number, row, path.parent) for number, row in enumerate(table))
    splits = dict[str, set[str]]()
    for picture in found:
        splits.setdefault(picture.patient, set()).add(picture.split)
    torn = sum(len(of_patient) > 1 for of_patient in splits.values())
    if torn:
        raise InputError(
            f"{torn} of {len(splits)} patients have pictures in several splits",
            hint="give all pictures of a patient one split",
        )
    return found


def read_stored(store: Path) -> Iterator[Stored]:
    """Yield what ``pictures.csv`` of a finished store lists, in the order of the table."""
    with (store / PICTURES).open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield Stored(**{**row, "row": int(row["row"])})  # type: ignore[arg-type]


def store_picture(
    work: tuple[Stored, Picture], *, folder: Path, size_px: int, resumed: bool
) -> Outcome:
    """Store one picture; one that cannot be read becomes the reason why there is no entry."""
    keys, picture = work
    done = finished_entry(folder, keys.volume_key) if resumed else None
    if done is not None:
        return Outcome(keys.row, done)
    try:
        pixels = read_grey(picture.image)
    except RejectedFileError as error:
        return Outcome(keys.row, None, error.problem)
    array_IJK, affine_ras = scaled(pixels, size_px)
    p005, p995 = (float(value) for value in np.percentile(array_IJK, (0.5, 99.5)))
    entry = write_stored_volume(
        folder,
        array_IJK,
        volume_key=keys.volume_key,
        patient_key=keys.patient_key,
        split=keys.split,
        modality=picture.modality,
        intensity="arbitrary",
        spacing_mm=SPACING_MM,
        affine_ras=affine_ras.tolist(),
        background=background_value(float(array_IJK.min()), "arbitrary"),
        foreground_above=body_threshold(p005, p995, "arbitrary"),
        p005=p005,
        p995=p995,
    )
    return Outcome(keys.row, entry)


def scaled(pixels: NDArray[Any], size_px: int) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return a picture as one plane whose longest side has ``size_px`` pixels, and its affine.

    Args:
        pixels: (rows, columns), rows downwards.
        size_px: Pixels along the longest side.
    """
    lying_IJK = np.ascontiguousarray(pixels.T)[:, :, None]
    longest_px = max(pixels.shape)
    # the picture at the size of its own pixels, such that the new ones are 1 mm wide
    affine_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid_change([size_px / longest_px] * 2 + [1], 0)
    return resample(lying_IJK, affine_ras, SPACING_MM)


def _picture(number: int, row: dict[str, Any], beside: Path) -> Picture:
    given = {name: (row.get(name) or "").strip() for name in COLUMNS}
    given = {name: value for name, value in given.items() if value}
    try:
        picture = Picture.model_validate({"study": given.get("patient", ""), **given})
    except ValidationError as error:
        names = ", ".join(dict.fromkeys(str(found["loc"][0]) for found in error.errors()))
        raise InputError(
            f"row {number} of the table of pictures, counted from 0 below the header, has a value "
            f"that is missing or not allowed in: {names}",
            hint="split is train, val or test; modality is CT, MR or unknown",
        ) from None
    return picture.model_copy(update={"image": beside / picture.image})


def _keys(row: int, picture: Picture, key: Pseudonymizer) -> Stored:
    study_key = key.study_key(f"{picture.patient}|{picture.study}")
    return Stored(
        row,
        key.volume_key(study_key, str(row), picture.image.name),
        study_key,
        key.patient_key(picture.patient),
        picture.split,
    )


def _finish(run: StageRun, listed: Sequence[Stored], outcomes: Sequence[Outcome]) -> StageResult:
    entries = [outcome.entry for outcome in outcomes if outcome.entry is not None]
    left_out = [outcome for outcome in outcomes if outcome.entry is None]
    there = [listed[outcome.row] for outcome in outcomes if outcome.entry is not None]
    _write_csv(run.folder / LEFT_OUT, ("row", "reason"), [(o.row, o.reason) for o in left_out])
    _write_csv(run.folder / PICTURES, Stored._fields, there)
    if not entries:
        why = f": {left_out[0].reason}" if left_out else ", for the table has no rows"
        raise InputError(
            f"none of the {len(left_out)} pictures could be stored{why}",
            hint=f"see {run.folder / LEFT_OUT}",
        )
    digest = write_index(run.folder, entries, SPACING_MM)
    CropStore(run.folder).verify()
    return run.finish(
        summary={
            "pictures": len(entries),
            "left_out": len(left_out),
            "studies": len({keys.study_key for keys in there}),
            "patients": len({keys.patient_key for keys in there}),
            "store_digest": digest,
        },
        look_at={
            "index": INDEX, "volumes": ENTRIES, "pictures": PICTURES, "left out": LEFT_OUT,
        },
        outputs={"store": digest},
    )  # fmt: skip


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, text.getvalue())
