"""A method with the weights of a checkpoint, to be looked at and not trained on."""

from pathlib import Path

import torch

from medssl.errors import InputError
from medssl.methods.base import Method


def load_method_weights(method: Method, checkpoint: Path) -> None:
    """Set a method's weights to those that a pretraining saved.

    Raises:
        InputError: The file cannot be read, or its weights are not this method's.
    """
    try:
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
        method.load_state_dict({k.removeprefix("method."): v for k, v in saved.items()})
    except Exception as error:  # noqa: BLE001 - torch and zipfile raise anything
        raise InputError(
            f"{checkpoint}: the checkpoint cannot be read ({type(error).__name__})",
            hint="it is damaged, or belongs to another configuration than the one beside it",
        ) from None
