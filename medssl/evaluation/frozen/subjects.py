"""Encoders to be asked, each beside one of the same kind that never learned anything."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medssl.config.load import validate
from medssl.data.normalize import IntensityConfig
from medssl.data.store import CropStore
from medssl.errors import InputError
from medssl.evaluation.frozen.source import Grid
from medssl.models.encoders.base import Encoder
from medssl.models.weights import WEIGHTS, load_encoder
from medssl.runs.digest import digest_file
from medssl.runs.private import read_config
from medssl.training.pretrain import PretrainConfig
from medssl.training.restore import load_method_weights
from medssl.training.start import build_method

CHECKPOINT = ".ckpt"
RANDOM = "random"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One encoder and how it is to be fed."""

    name: str
    encoder: Encoder
    grid: Grid
    twin: str | None
    """The name of its random twin; None of a twin itself."""


def weights_of(path: Path) -> Path:
    """Return the file of an encoder's weights: of a checkpoint itself, or in a folder.

    Raises:
        InputError: There is none.
    """
    file = path if path.suffix == CHECKPOINT else path / WEIGHTS
    if not file.is_file():
        raise InputError(
            f"{path}: there is no encoder here",
            hint="give the folder of a finished pretraining or an exported encoder, or a "
            "checkpoint: RUN/checkpoints/step-00001000.ckpt",
        )
    return file


def digests(paths: Mapping[str, Path]) -> dict[str, str]:
    """Return the digest of each encoder's weights, by name."""
    return {name: digest_file(weights_of(path)) for name, path in paths.items()}


def load_subjects(
    paths: Mapping[str, Path], fed: Mapping[str, Any], *, trust_names: bool, seed: int
) -> list[Subject]:
    """Return the encoders and the random twins, one for each architecture and grid.

    Args:
        paths: Name -> folder of an encoder, or a checkpoint of a pretraining.
        fed: `spacing_mm` and `intensity` where they are not those of each one's training.
        trust_names: Allow a third party's encoder; see ``medssl.config.stored``.
        seed: Draws the weights of the twins.

    Raises:
        InputError: An encoder cannot be read, or nothing says how to feed it.
    """
    found: list[Subject] = []
    twins: dict[str, Subject] = {}
    for name, path in paths.items():
        encoder, about = _load(path, trust_names)
        grid = _grid(path, {**about, **fed})
        kind = f"{encoder.config} {grid}"
        if kind not in twins:
            twins[kind] = Subject(
                name=f"{RANDOM}_{name}", encoder=untrained(encoder, seed), grid=grid, twin=None
            )
        found.append(Subject(name=name, encoder=encoder, grid=grid, twin=twins[kind].name))
    return [*found, *twins.values()]


def untrained(encoder: Encoder, seed: int) -> Encoder:
    """Return an encoder of the same kind with the weights it would have before any training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        twin: Encoder = encoder.config.build()  # type: ignore[union-attr,operator]
        return twin


def _load(path: Path, trust_names: bool) -> tuple[Encoder, dict[str, Any]]:
    if path.suffix != CHECKPOINT:
        return load_encoder(path, trust_names=trust_names)
    run = path.parent.parent
    tree = read_config(run)
    if tree is None:
        raise InputError(
            f"{path}: there is no config.yaml in {run}, so this is no checkpoint of a pretraining",
            hint="leave checkpoints in the run folder that they were saved in",
        )
    config = validate(PretrainConfig, tree, where=str(run / "config.yaml"))
    with torch.random.fork_rng(devices=[]):
        method = build_method(config.method, config.encoder, None)
    load_method_weights(method, path)
    about = {
        "spacing_mm": list(CropStore(config.store).spacing_mm),
        "intensity": config.data.intensity.model_dump(mode="json"),
    }
    return method.kept_encoder, about


def _grid(path: Path, about: Mapping[str, Any]) -> Grid:
    missing = [key for key in ("spacing_mm", "intensity") if key not in about]
    if missing:
        raise InputError(
            f"{path}: the encoder does not say with which {' and '.join(missing)} it was trained",
            hint="set `spacing_mm` and `intensity`, as those who trained it describe them",
        )
    i, j, k = about["spacing_mm"]
    intensity = validate(IntensityConfig, about["intensity"], where=f"the encoder in {path}")
    return Grid((i, j, k), intensity)
