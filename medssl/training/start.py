"""Weights that training begins with instead of random ones."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field

from medssl.config.base import Config
from medssl.methods.base import Method
from medssl.models.adapt import LoadReport, load_weights
from medssl.models.decoders import Decoder
from medssl.models.encoders.base import Encoder
from medssl.models.foreign import read_weights, weights_file
from medssl.models.weights import DECODER
from medssl.runs.digest import digest_file

_log = logging.getLogger(__name__)


class StartFrom(Config):
    """Which weights, and how much of the encoder they must fill."""

    weights: Path
    """A file that torch.save or safetensors wrote, or a folder: of a pretraining or an exported
    encoder, of a MONAI bundle, of an nnssl checkpoint."""
    part: str | None = None
    """Which network, where the file holds several: `teacher`, `student`; null where it has one."""
    min_loaded: Annotated[float, Field(ge=0, le=1)] = 0.9
    """The least share of the encoder's parameters that the file must fill."""
    decoder: bool = True
    """Take the file's decoder as well, where it has a whole one."""

    def digests(self) -> dict[str, str]:
        """Return the digests of the files that are read, for the manifest.

        Raises:
            InputError: There is no such file.
        """
        file = weights_file(self.weights)
        files = {"start": file, "start_decoder": file.with_name(DECODER)}
        return {name: digest_file(path) for name, path in files.items() if path.is_file()}

    def load(self, encoder: Encoder) -> tuple[LoadReport, Decoder | None]:
        """Set the encoder's weights; return what became of each, and the decoder if there is one.

        Raises:
            InputError: As in ``read_weights`` and ``load_weights``.
        """
        return load_weights(
            encoder,
            read_weights(self.weights),
            part=self.part,
            min_loaded=self.min_loaded,
            with_decoder=self.decoder,
        )

    def check(self, encoder: Encoder.Config) -> None:
        """Raise InputError unless the weights can be read and fit; draws nothing.

        To be called before a run leaves anything, and then :func:`build_method` inside it.
        """
        with torch.random.fork_rng(devices=[]):
            report, decoder = self.load(encoder.build())
        if decoder is not None:  # `build_method` knows
            report = replace(report, decoder="whole in the file, for a method that keeps one")
        _log.info("Weights to begin with: %s", report)

    def origin(self) -> dict[str, str]:
        """Return the file's name and digests: what an encoder trained further is derived from."""
        return {"file": weights_file(self.weights).name, **self.digests()}


def build_method(method: Method.Config, encoder: Encoder.Config, start: StartFrom | None) -> Method:
    """Return a method on its encoder before the first step, from ``start`` or at random.

    Raises:
        InputError: ``start`` cannot be read or does not fit.
    """
    network: Encoder = encoder.build()
    decoder = None
    if start is not None:
        _, decoder = start.load(network)  # first, so that a method's teacher is a copy of it
    built: Method = method.build(encoder=network)
    if decoder is not None and built.decoder is not None:
        built.decoder.load_state_dict(decoder.state_dict())
        _log.info("The decoder is taken whole as well")
    elif decoder is not None:
        _log.info(
            "The file's decoder is not used: the method %s has no decoder to begin with",
            method.name,
        )
    return built
