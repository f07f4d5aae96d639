"""A transformer that reads text, kept in a folder as the transformers library writes it.

Everything is read from the folder: no hub, no code from it, no telemetry. The library is imported
when the first such folder is opened.
"""

import json
import os
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from medssl.errors import InputError
from medssl.models.tokenizer import Tokenizer
from medssl.runs.folder import read_json

DESCRIPTION: Final = "config.json"
WEIGHTS: Final = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
"""Any of them will do; the first that is there is read."""
TOKENIZERS: Final = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model")
_SAME_AS: Final = {"cxr-bert": "bert"}
"""Networks that are another's with heads of their own, which are not used."""
_UNUSED: Final = "pooler."


def check_text_folder(folder: Path) -> None:
    """Say what a folder lacks.

    Raises:
        InputError: It is no folder, or description, weights or tokenizer are missing.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder",
            hint="give the folder of a downloaded model; medssl opens no model by its name on a "
            "hub",
        )
    wanted = {"description": (DESCRIPTION,), "weights": WEIGHTS, "tokenizer": TOKENIZERS}
    for what, names in wanted.items():
        if not any((folder / name).is_file() for name in names):
            raise InputError(
                f"{folder}: a text folder lacking its {what}: no {' or '.join(names)}",
                hint="copy all files of the model into the folder, those of its tokenizer too",
            )


def read_network(folder: Path, *, weights: bool = True) -> nn.Module:
    """Return the network of a folder, in evaluation mode, in float32.

    Args:
        folder: With ``config.json``.
        weights: Read them, from safetensors or else a file of tensors alone; without, they are
            random.

    Raises:
        InputError: The installed transformers does not know the network, or the weights are
            damaged or not all there.
    """
    transformers = _transformers()
    config = _network_config(folder)
    try:
        if not weights:
            network: nn.Module = transformers.AutoModel.from_config(config)
            lacking = set[str]()
        else:
            network, report = transformers.AutoModel.from_pretrained(
                folder,
                config=config,
                local_files_only=True,
                trust_remote_code=False,
                weights_only=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
            lacking = {n for n in report["missing_keys"] if not n.startswith(_UNUSED)}
            lacking |= {str(n) for n in report["mismatched_keys"]}
    except InputError:
        raise
    except Exception as error:  # whatever a damaged file makes the libraries raise
        raise InputError(
            f"{folder}: the weights cannot be read ({type(error).__name__})",
            hint="the files are damaged, or hold more than tensors; safetensors are best",
        ) from error
    if lacking:
        raise InputError(
            f"{folder}: {len(lacking)} tensors of the network are not among the weights, such as "
            f"{min(lacking)}",
            hint="description and weights belong to different models",
        )
    if getattr(network, "pooler", None) is not None:
        del network.pooler  # no state passes through it, so it would never get a gradient
        network.register_module("pooler", None)
    return network.eval()


def read_tokenizer(folder: Path) -> tuple[Tokenizer, int | None]:
    """Return the tokenizer of a folder, and the tokens its model was made for, if it says so.

    Raises:
        InputError: Files are damaged, or of a kind that the tokenizers library cannot run.
    """
    transformers = _transformers()
    try:
        theirs = transformers.AutoTokenizer.from_pretrained(
            folder, config=_network_config(folder), local_files_only=True, trust_remote_code=False
        )
    except InputError:
        raise
    except Exception as error:  # whatever a damaged file makes the libraries raise
        raise InputError(
            f"{folder}: the tokenizer cannot be read ({type(error).__name__})",
            hint="its files are damaged or of another model; copy them again",
        ) from error
    rust = getattr(theirs, "backend_tokenizer", None)
    if rust is None:
        raise InputError(
            f"{folder}: the tokenizer is one that only Python code can run",
            hint="bring a tokenizer.json, which most models have",
        )
    limit = int(theirs.model_max_length)
    return Tokenizer(rust.to_str(), theirs.pad_token or theirs.eos_token), (
        limit if limit < _NO_LIMIT else None
    )


def write_text_folder(
    folder: Path, network: nn.Module, tokenizer: Path, marks: tuple[str, str, str, str, str]
) -> None:
    """Write a network and its tokenizer as the transformers library does.

    Args:
        folder: Where; made if it is missing.
        network: One of that library.
        tokenizer: What :meth:`Tokenizer.write` wrote.
        marks: What pads, is unknown, begins, ends, and hides.
    """
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    theirs = _transformers().PreTrainedTokenizerFast(
        tokenizer_file=str(tokenizer),
        model_max_length=int(network.config.max_position_embeddings),  # type: ignore[union-attr, arg-type]
        **dict(zip(names, marks, strict=True)),
    )
    theirs.save_pretrained(folder)
    library: Any = network
    library.save_pretrained(folder)


_NO_LIMIT: Final = 10**9
"""Tokenizers without a limit say some number far above."""


def _network_config(folder: Path) -> Any:
    """Return the description of the network, without what would have code imported."""
    transformers = _transformers()
    try:
        options = read_json(folder / DESCRIPTION)
        kind = str(options.pop("model_type"))
    except (OSError, json.JSONDecodeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{folder}: {DESCRIPTION} does not describe a network ({type(error).__name__})",
            hint="copy it again from where the model comes from",
        ) from None
    options.pop("auto_map", None)
    try:
        config = transformers.AutoConfig.for_model(_SAME_AS.get(kind, kind), **options)
    except ValueError:
        raise InputError(
            f"{folder}: a network of kind {kind!r}, which transformers {transformers.__version__} "
            "does not have",
            hint="a newer transformers may have it; code that comes with a model is never run",
        ) from None
    if config.is_encoder_decoder:
        raise InputError(
            f"{folder}: {kind} is an encoder with a decoder, and only encoders can be used",
            hint="choose a model of one part, such as BERT, RoBERTa or ModernBERT",
        )
    return config


def _transformers() -> Any:
    """Import the library, told to stay on this machine and to keep quiet."""
    os.environ.update(
        {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TRANSFORMERS_OFFLINE": "1"}
    )
    try:
        import transformers
    except ImportError:
        raise InputError(
            "text encoders need the package transformers, which is not installed",
            hint="pip install 'medssl[text]'",
        ) from None
    library: Any = transformers
    library.logging.set_verbosity_error()
    library.logging.disable_progress_bar()
    return library
