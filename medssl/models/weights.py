"""Encoders on disk: safetensors for the weights, JSON for how to build them; nothing executable."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from medssl.config.base import Config
from medssl.config.stored import read_component
from medssl.errors import InputError
from medssl.models.decoders import Decoder
from medssl.models.encoders.base import Encoder
from medssl.runs.folder import atomic_path, read_json, write_json

WEIGHTS, DESCRIPTION = "encoder.safetensors", "encoder.json"
DECODER = "decoder.safetensors"
"""There when the pretraining trained a decoder too."""
EXPORTED_DESCRIPTION = "config.json"
"""What the description is called in an exported encoder, where other tools look for it."""


def save_encoder(
    folder: Path, encoder: Encoder, *, decoder: Decoder | None = None, **about: Any
) -> None:
    """Write ``encoder.safetensors``, ``encoder.json`` and any decoder into ``folder``.

    Args:
        folder: Where; made if it is missing.
        encoder: What; its weights are written as they are, on the CPU.
        decoder: One of this encoder's, worth keeping; written as ``decoder.safetensors``.
        about: JSON values a later user needs, such as the spacing and intensities it was
            trained with.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config: Config = encoder.config  # type: ignore[assignment]
    write_tensors(folder / WEIGHTS, encoder.state_dict())
    if decoder is not None:
        write_tensors(folder / DECODER, decoder.state_dict())
    write_json(folder / DESCRIPTION, {"encoder": config.model_dump(mode="json"), **about})


def write_tensors(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write tensors as they are, on the CPU, whole or not at all."""
    plain = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    with atomic_path(path) as partial:
        partial.write_bytes(save(plain))


def load_decoder(folder: Path, encoder: Encoder) -> Decoder | None:
    """Return the decoder that was trained beside ``encoder``; None when ``folder`` has none.

    Raises:
        InputError: The file is damaged, or is not a decoder of this encoder.
    """
    if not (folder / DECODER).is_file():
        return None
    decoder = encoder.decoder()
    try:
        decoder.load_state_dict(load_file(folder / DECODER))
    except (SafetensorError, RuntimeError) as error:
        raise InputError(
            f"{folder}: {DECODER} does not fit the encoder beside it ({type(error).__name__})",
            hint="it is damaged or belongs to another run; remove it to use the encoder alone",
        ) from error
    return decoder


def load_encoder(folder: Path, *, trust_names: bool = False) -> tuple[Encoder, dict[str, Any]]:
    """Return the encoder that ``folder`` holds, with its weights, and its description.

    Args:
        folder: Of a finished pretraining, or of an exported encoder.
        trust_names: Allow a third party's encoder; see ``medssl.config.stored``.

    Raises:
        InputError: Files are missing or damaged, or the weights are not this encoder's.
    """
    exported = (folder / EXPORTED_DESCRIPTION).is_file() and not (folder / DESCRIPTION).is_file()
    description = EXPORTED_DESCRIPTION if exported else DESCRIPTION
    for name in (WEIGHTS, description):
        if not (folder / name).is_file():
            raise InputError(
                f"{folder}: no {name}, so this is not an encoder folder",
                hint="give the folder of a finished pretraining, or of an exported encoder; "
                "`medssl adapt` makes one of published weights",
            )
    try:
        about: dict[str, Any] = read_json(folder / description)
        config = read_component("medssl.models.encoders", about["encoder"], trust_names=trust_names)
        encoder: Encoder = config.build()
        report = encoder.load_state_dict(load_file(folder / WEIGHTS), strict=False)
    except (json.JSONDecodeError, KeyError, ValueError, SafetensorError, RuntimeError) as error:
        raise InputError(
            f"{folder}: the encoder cannot be read ({type(error).__name__})",
            hint="the files are damaged or from another version; export the encoder again",
        ) from error
    wrong = [*report.missing_keys, *report.unexpected_keys]
    if wrong:
        raise InputError(
            f"{folder}: {len(wrong)} tensors do not fit the encoder described beside them, "
            f"such as {wrong[0]}",
            hint="weights and description belong to different runs; export the encoder again",
        )
    return encoder, about
