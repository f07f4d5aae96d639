"""What became of one file, in words: ``medssl ingest --explain PATH``."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from medssl.errors import InputError
from medssl.io.deidentify import Pseudonymizer
from medssl.io.sources.folder import candidate_names
from medssl.io.sources.opening import is_address
from medssl.library.catalog import read_catalog
from medssl.library.outcomes import read_outcomes


def explain(library: Path, path: Path | str, key_file: Path) -> str:
    """Return what became of the file at ``path`` when it was ingested into ``library``.

    A member of an archive is written ``archive.zip!/member``, an object by its whole address.

    The key finds the file's row: the library itself, apart from its private table, does not know
    where files lay. The text repeats the path the caller gave, so it is for the caller's eyes.

    Raises:
        InputError: nothing was ingested yet, the key is missing, or the file was never seen.
    """
    pseudonymizer = Pseudonymizer.from_key_file(key_file)
    outcomes = read_outcomes(library).set_index("file_key")
    keys = (pseudonymizer.file_key(name) for name in _names(str(path)))
    file_key = next((key for key in keys if key in outcomes.index), None)
    if file_key is None:
        raise InputError(
            f"{path} was not seen by any ingest of {library}",
            hint="is it in one of the sources, and is this the key the library was made with?",
        )
    row = outcomes.loc[file_key]
    if row["outcome"] != "converted":
        return f"{path}: {row['outcome']} ({row['reason_code']})\n  {row['reason']}"
    catalog = read_catalog(library).set_index("volume_key")
    volume_key = str(row["volume_key"])
    refused = f"\n  in part only ({row['reason_code']}): {row['reason']}" if row["reason"] else ""
    return f"{path}: converted\n  {_described(volume_key, catalog.loc[volume_key])}{refused}"


def _names(text: str) -> Iterable[str]:
    return [text] if is_address(text) else candidate_names(Path(text))


def _described(volume_key: str, row: Any) -> str:
    shape = " x ".join(str(row[f"shape_{axis}"]) for axis in "ijk")
    spacing = " x ".join(f"{row[f'spacing_{axis}_mm']:.3g}" for axis in "ijk")
    unit = "in HU" if row["intensity"] == "hu" else "in arbitrary units"
    noticed = f"; noticed: {', '.join(row['flags'])}" if len(row["flags"]) else ""
    return (
        f"volume {volume_key}: {row['modality']} of {shape} voxels, {spacing} mm, {unit}, "
        f"made of {row['source_files']} file(s){noticed}"
    )
