"""Encoders as pretrainings leave them, small, and exports of them."""

import torch

from medssl.config.choice import find
from medssl.export.export import export
from medssl.export.model_card import CardConfig
from medssl.models.weights import save_encoder
from tests.export.bundles import config

OPTIONS = {
    "unet": {"channels": (4, 6, 8), "depths": (1, 2, 1), "residual": True, "decoder_convs": 1},
    "swin_unetr": {"feature_size": 12},
    "segresnet": {"width": 4, "blocks": (1, 1, 1)},
    "vit": {},
}
METHOD = {"name": "mae", "views": {"crops": {"crop_voxels": [32, 24, 16]}}}


def write_run(folder, name, *, with_decoder=False, seed=5, **options):
    """Write an encoder folder; every tensor is drawn, also those that begin as 0 or 1."""
    torch.manual_seed(seed)
    component = find("medssl.models.encoders", name).Config
    given = {**OPTIONS[name], **options}
    encoder = (component(**given) if given else component.tiny()).build()
    decoder = encoder.decoder() if with_decoder else None
    for module in filter(None, (encoder, decoder)):
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    save_encoder(
        folder,
        encoder,
        decoder=decoder,
        spacing_mm=[1.0, 1.5, 2.0],
        intensity={"mr": {"name": "mr"}},
        method=METHOD,
    )
    return folder


def exported(run, out, form, *, card=None, **options):
    """Export ``run``, and return the artefact's folder."""
    settings = config(out, run=run, format={"name": form, **options}, card=card or {})
    export(settings)
    return settings.artefact


def run_and_artefact(root, form):
    """Return a small run, and the folder that ``form`` wrote of it, not verified."""
    run, folder = write_run(root / "run", "vit"), root / "folder"
    folder.mkdir()
    form.write(run, folder, CardConfig())
    return run, folder
