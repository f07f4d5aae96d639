"""Embed images and texts with an exported folder, in a process of its own that has no network.

    python -m medssl.export.open_image_text FOLDER ASKED ANSWERED THREADS

``ASKED`` holds ``images.safetensors`` (x_NCIJK, mask_BS, position_mm_BS) and ``texts.json``;
``ANSWERED`` gets the unit vectors of what the folder can embed, and scale and bias.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from medssl.export.open_program import refuse_connections
from medssl.models.image_text_folder import INDEX, SIDES, load_image_text
from medssl.models.weights import write_tensors
from medssl.runs.folder import read_json

IMAGES, TEXTS = "images.safetensors", "texts.json"


def main(folder: Path, asked: Path, answered: Path, threads: int) -> None:
    """Write the vectors of everything asked that ``folder`` can embed."""
    refuse_connections()
    torch.set_num_threads(threads)
    model, _ = load_image_text(folder, trust_names=True)
    images, texts = load_file(asked / IMAGES), read_json(asked / TEXTS)
    parts = read_json(folder / INDEX).get("parts") or SIDES
    given = {"scale": model.scale.detach().reshape(1)}
    if model.bias is not None:
        given["bias"] = model.bias.detach().reshape(1)
    with torch.no_grad():
        if "image" in parts:
            given["images"] = model.embed_images(**images)
        if "text" in parts:
            given["texts"] = model.embed_texts(texts)
    write_tensors(answered, given)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
