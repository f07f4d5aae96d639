"""Studies with and without a bright square, reports that tell, and a tiny model that learned."""

import json

import numpy as np
import torch
from torch.nn import functional as F

from medssl.data.store import CropStore
from medssl.data.store_writer import write_index, write_stored_volume
from medssl.data.study_views import StudyViews
from medssl.models.encoders.unet import UNetEncoder
from medssl.models.image_text import ImageTextConfig
from medssl.models.image_text_folder import save_image_text
from medssl.models.text.hf_folder import HFFolder
from medssl.reports.pairs import Pair, Section, write_pairs

SPACING_MM = (2.0, 2.0, 2.0)
SIZE = 16
SAYS = ("No effusion is seen.", "There is an effusion on the left.")
WORDS = (
    "[PAD] [UNK] [CLS] [SEP] [MASK] no not there is an a effusion seen present on the left right"
)
WORDS += " nodule of fluid ct mr scan . 's"
FINDINGS = ("effusion", "nodule")


def text_folder(folder):
    """Write a tiny BERT with random weights and a tokenizer of a few words."""
    from transformers import BertConfig, BertModel

    folder.mkdir(parents=True)
    words = WORDS.split()
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True})
    )
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
    )
    torch.manual_seed(0)
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def has_square(number):
    return number % 2


def volume(number, planes=3):
    """Return a study's voxels in HU: noise, and a bright square where there is an effusion."""
    rng = np.random.default_rng(number)
    array_IJK = rng.normal(-200, 60, (SIZE, SIZE, planes))
    if has_square(number):
        array_IJK[9:14, 3:8] += 900
    return array_IJK.astype(np.int16)


def key(number):
    return f"v{number:03d}"


def write_store(folder, studies):
    entries = [
        write_stored_volume(
            folder,
            volume(number),
            volume_key=key(number),
            patient_key=f"p{number // 2:03d}",
            split="test",
            modality="MR" if has_square(number) else "CT",
            intensity="hu",
            spacing_mm=SPACING_MM,
            affine_ras=np.diag([*SPACING_MM, 1.0]).tolist(),
            background=-1000.0,
            foreground_above=-500.0,
            p005=-400.0,
            p995=800.0,
        )
        for number in range(studies)
    ]
    write_index(folder, entries, SPACING_MM)
    return CropStore(folder)


def pair(number, split):
    there = has_square(number)
    return Pair(
        study_key=f"s{number:03d}",
        patient_key=f"p{number // 2:03d}",
        split=split,
        volume_keys=(key(number),),
        sections=(Section(name="findings", text=SAYS[there]),),
        labels={"effusion": there},
        normal=not there,
    )


def write_studies(folder, studies=24, val=8):
    """Write ``folder/store`` and ``folder/pairs``; the first ``val`` studies are of that split."""
    store = write_store(folder / "store", studies)
    pairs = [pair(number, "val" if number < val else "test") for number in range(studies)]
    write_pairs(folder / "pairs", pairs, FINDINGS)
    return store, pairs


def write_model(folder, *, steps=40, bias=None):
    """Write a model of slices that has learned what a square is called."""
    text = text_folder(folder / "text_source")
    torch.manual_seed(0)
    encoder = UNetEncoder.Config(dims=2, channels=(4, 8), depths=(1, 1), decoder_convs=1).build()
    config = ImageTextConfig(
        text=HFFolder.Config(path=text), dim=8, places_stride=2, first_bias=bias
    )
    model = config.build(encoder).train()
    views = StudyViews(dims=2, crop_voxels=SIZE, images=2)
    x_NCIJ = torch.from_numpy(np.stack([volume(n, 1)[..., 0] for n in range(100, 116)]))
    x_NCIJ = ((x_NCIJ[:, None].float() + 1000) / 2000).clamp(0, 1)
    said_2D = model.embed_texts(SAYS).detach()
    wanted_ND = said_2D[[has_square(n) for n in range(100, 116)]]
    other_ND = said_2D[[1 - has_square(n) for n in range(100, 116)]]
    trained = [*model.encoder.parameters(), *model.image_head.parameters()]
    optimizer = torch.optim.Adam(trained, lr=0.02)
    for _ in range(steps):
        image_ND = model.embed_images(x_NCIJ)
        apart_N = (image_ND * (other_ND - wanted_ND)).sum(1)
        loss = F.softplus(20 * apart_N).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    save_image_text(
        folder / "model",
        model,
        method={"name": "report_contrast", "views": views.model_dump(mode="json")},
        intensity={"ct": {"window_hu": [-1000.0, 1000.0]}},
        spacing_mm=list(SPACING_MM),
    )
    return folder / "model"
