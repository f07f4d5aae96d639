"""The adapt stage: weights from elsewhere in, an encoder's folder out that every stage takes."""

import json
import logging
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, SerializeAsAny

from medssl.config.choice import choice
from medssl.models.adapt import LoadReport
from medssl.models.encoders.base import Encoder
from medssl.models.foreign import weights_file
from medssl.models.weights import DESCRIPTION, EXPORTED_DESCRIPTION, WEIGHTS, save_encoder
from medssl.runs.digest import digest_file
from medssl.runs.folder import read_json, write_json
from medssl.runs.stage import StageResult, open_stage
from medssl.runs.tracking import TrackingConfig
from medssl.training.start import StartFrom

REPORT = "adapt_report.json"

_log = logging.getLogger(__name__)


class AdaptConfig(StartFrom):
    """Everything ``medssl adapt`` reads."""

    out: Path
    """Folder for the encoder."""
    encoder: Annotated[SerializeAsAny[Encoder.Config], choice("medssl.models.encoders")]
    """What is filled, by the name of its file in medssl/models/encoders; its options are those of
    the file's network, but for the channels of the input, 2D or 3D, and the window."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Decides the weights that the file does not have."""
    tracking: TrackingConfig = TrackingConfig()
    """Where the run is recorded."""


def adapt(config: AdaptConfig, *, overwrite: bool = False) -> StageResult:
    """Write an encoder with a file's weights, its decoder where there is one, and a report.

    Raises:
        InputError: The file cannot be read, or fills less of the encoder than is asked for.
        FolderError: ``config.out`` holds something else, and ``overwrite`` is off.
    """
    inputs = config.digests()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        encoder: Encoder = config.encoder.build()
        report, decoder = config.load(encoder)  # before anything is left
    _log.info("Adapted weights: %s", report)
    with open_stage(
        "adapt",
        config.out,
        config,
        inputs=inputs,
        tracking=config.tracking,
        overwrite=overwrite,
    ) as run:
        if run.previous:
            return run.previous
        about = _about(config, inputs["start"], report)
        save_encoder(config.out, encoder, decoder=decoder, **about)
        write_json(config.out / REPORT, report.as_json())
        return run.finish(
            summary={**report.counts(), "share": report.share, "decoder": report.decoder},
            look_at={"report": REPORT, "encoder": WEIGHTS},
            outputs={"encoder": digest_file(config.out / WEIGHTS)},
        )


def _about(config: AdaptConfig, digest: str, report: LoadReport) -> dict[str, Any]:
    """Return where the weights are from, and what their own description says of their training."""
    origin = {
        "file": report.source,
        "digest": digest,
        "found_at": report.found_at,
        **report.counts(),
    }
    return {**_described(weights_file(config.weights).parent), "adapted_from": origin}


def _described(folder: Path) -> dict[str, Any]:
    for name in (DESCRIPTION, EXPORTED_DESCRIPTION):
        if (folder / WEIGHTS).is_file() and (folder / name).is_file():
            try:
                about = dict(read_json(folder / name))
            except (json.JSONDecodeError, TypeError, ValueError):
                return {}
            return {key: value for key, value in about.items() if key != "encoder"}
    return {}
