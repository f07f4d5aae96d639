"""Bring a registered model here, by name and version or alias."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from medssl.errors import InputError
from medssl.runs.destination import Destination
from medssl.runs.folder import atomic_path
from medssl.runs.mlflow.connection import connect, store_errors_explained

SCHEME = "models:/"
_ADDRESS = re.compile(r"models:/+(?P<name>[^/:@]+)(?:@(?P<alias>[\w-]+)|/(?P<version>\d+))")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A model that is here."""

    folder: Path
    """What was registered, and nothing else."""
    digest: str
    """SHA-256 of its weights, as the registry says."""
    version: str


def fetch_model(address: str, to: Destination, cache: Path, files: tuple[str, ...]) -> Fetched:
    """Return the registered model ``address``, downloaded unless the cache has it.

    Only files of the given names are kept; nothing is opened.

    Args:
        address: ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.
        to: The store.
        cache: Folder of models by the digest of their weights.
        files: Names of files; the first must be there.

    Raises:
        InputError: It is no such address, or the model was not registered by medssl.
        StoreError: The store cannot be reached, or has no such model.
    """
    asked = _ADDRESS.fullmatch(address)
    if asked is None:
        raise InputError(
            f"{address!r} is no address of a registered model",
            hint="write models:/NAME@ALIAS or models:/NAME/VERSION, such as models:/spleen/3",
        )
    with store_errors_explained(to):
        client = connect(to.uri)
        found = (
            client.get_model_version_by_alias(asked["name"], asked["alias"])
            if asked["alias"]
            else client.get_model_version(asked["name"], asked["version"])
        )
        digest = str(found.tags.get("medssl.digest", ""))
        if not _DIGEST.fullmatch(digest):
            raise InputError(
                f"{address} was not registered by medssl: nothing says what its weights are",
                hint="register a run with `medssl register`",
            )
        folder = cache / digest
        if not folder.is_dir():
            with atomic_path(folder) as partial:
                _download(str(found.source), to, partial, files)
    return Fetched(folder=folder, digest=digest, version=str(found.version))


def _download(source: str, to: Destination, folder: Path, files: tuple[str, ...]) -> None:
    from mlflow.artifacts import download_artifacts

    everything = folder / "everything"
    everything.mkdir(parents=True)
    download_artifacts(artifact_uri=source, dst_path=str(everything), tracking_uri=to.uri)
    first = next(iter(sorted(everything.rglob(files[0]))), None)
    if first is None:
        raise InputError(f"the registered model has no {files[0]}: medssl did not make it")
    for name in files:
        if (first.parent / name).is_file():
            shutil.move(first.parent / name, folder / name)
    shutil.rmtree(everything)
