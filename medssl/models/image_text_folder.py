"""An image-text model on disk: an encoder folder that every stage can use, and what reads texts.

    encoder.safetensors, encoder.json   as of any pretraining
    text.safetensors, text/             weights of the text encoder; its description and tokenizer
    heads.safetensors                   poolings, projections, scale and bias
    image_text.json                     options, and SHA-256 of every file above; written last

Nothing but the folder is needed to load it.
"""

import json
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file

from medssl.config.stored import read_component
from medssl.errors import InputError
from medssl.models.image_text import ImageTextConfig, ImageTextModel
from medssl.models.text.base import STORED_DESCRIPTION, STORED_TOKENIZER, TextEncoder
from medssl.models.weights import DESCRIPTION, WEIGHTS, load_encoder, save_encoder, write_tensors
from medssl.runs.digest import digest_file
from medssl.runs.folder import read_json, write_json

FORMAT_VERSION: Final = 1
INDEX, TEXT_WEIGHTS, HEADS = "image_text.json", "text.safetensors", "heads.safetensors"
TEXT: Final = "text"
_FILES: Final = (
    WEIGHTS,
    DESCRIPTION,
    TEXT_WEIGHTS,
    HEADS,
    f"{TEXT}/{STORED_DESCRIPTION}",
    f"{TEXT}/{STORED_TOKENIZER}",
)
_COMPONENTS: Final = {
    "text": "medssl.models.text",
    "image_pooling": "medssl.models.slice_pooling",
    "sentence_pooling": "medssl.models.slice_pooling",
}
_OWN_FILES: Final = ("encoder.", "text.")
"""Tensors that are not among the heads."""


def save_image_text(folder: Path, model: ImageTextModel, **about: Any) -> None:
    """Write a model; weights of the text encoder too, trained or not.

    Args:
        folder: Where; made if it is missing.
        model: What.
        about: JSON values a later user needs, such as spacing, intensities and views; they are
            kept in ``encoder.json``.
    """
    (folder / TEXT).mkdir(parents=True, exist_ok=True)
    save_encoder(folder, model.encoder, **about)
    write_tensors(folder / TEXT_WEIGHTS, model.text.state_dict())
    model.text.write_description(folder / TEXT)
    heads = {n: v for n, v in model.state_dict().items() if not n.startswith(_OWN_FILES)}
    write_tensors(folder / HEADS, heads)
    index = {
        "format_version": FORMAT_VERSION,
        "model": model.config.model_dump(mode="json"),
        "sha256": {name: digest_file(folder / name) for name in _FILES},
    }
    write_json(folder / INDEX, index)


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
        _check_files(folder, sha256)
        components = {
            name: read_component(package, options[name], trust_names=trust_names)
            for name, package in _COMPONENTS.items()
        }
        config = ImageTextConfig.model_validate({**options, **components})
        encoder, about = load_encoder(folder, trust_names=trust_names)
        text: TextEncoder = config.text.build(stored=folder / TEXT)
        text.load_state_dict(load_file(folder / TEXT_WEIGHTS))
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
    lacking = [n for n in report.missing_keys if not n.startswith(_OWN_FILES)]
    if lacking or report.unexpected_keys:
        raise InputError(
            f"{folder}: {HEADS} does not fit {INDEX}, such as "
            f"{(lacking + report.unexpected_keys)[0]}",
            hint="the files belong to different runs",
        )
    return model.eval(), about


def _check_files(folder: Path, sha256: dict[str, str]) -> None:
    for name in _FILES:
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
