"""An exported bundle and the evaluation in its card, made once for all tests that need them."""

import functools
from pathlib import Path

from medssl.evaluation.evaluate import EvaluateConfig, evaluate
from medssl.export.export import ExportConfig, export
from tests.finetuned import finetuned

QUIET = {"enabled": False}


def config(out, **changes):
    options = {
        "run": finetuned() / "pretrained",
        "format": {"name": "monai_bundle"},
        "out": out,
        "tracking": QUIET,
    }
    return ExportConfig.model_validate(options | changes)


@functools.cache
def bundle() -> Path:
    """Return the folder of a bundle; read it, do not change it."""
    root = finetuned().parent
    evaluate(EvaluateConfig(finetune=finetuned(), out=root / "evaluation", tracking=QUIET))
    card = {"evaluation": root / "evaluation", "licence": "CC-BY-4.0", "authors": "A. Tester"}
    settings = config(root / "export", name="balls_segmentation", card=card)
    export(settings)
    return settings.artefact
