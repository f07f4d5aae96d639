"""How much faster pairs are learned from when what a frozen text encoder makes of them is kept.

    python -m pipelines.benchmarks.kept_text --out runs/kept_text.json

One training step of ``report_contrast`` (forward and backward) on slices and reports of many
sentences, on one thread: once the text encoder reads the batch's tokens, once it finds the
sentences' vectors, which it made before. Both steps have the same batch, and the same loss.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import torch
from rich.console import Console
from rich.table import Table

from medssl.cli.run import user_errors_explained
from medssl.data.study_views import StudyViews
from medssl.data.views import Batch, Texts
from medssl.methods.report_contrast import ReportContrast
from medssl.models.encoders.unet import UNetEncoder
from medssl.models.image_text import ImageTextConfig
from medssl.models.text.base import TextEncoder
from medssl.models.text.hf_folder import HFFolder
from medssl.models.text.minilm import MiniLM
from medssl.runs.environment import describe
from medssl.training.text_states import sentence_states

CLAIM: Final = 5.0
CLOSE: Final = 1e-4
FIRST_WORD: Final = 10
"""Numbers below are marks in small vocabularies."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON; 1 if keeping is less than five times as fast."""
    options = _options(arguments)
    torch.set_num_threads(1)
    with user_errors_explained():
        result = measure(options)
    show(result)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if result["holds"] else 1


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the times of both steps, in turns, and how far their losses are apart."""
    text: TextEncoder.Config = (
        HFFolder.Config(path=options.text) if options.text else MiniLM.Config()
    )
    torch.manual_seed(0)
    method = ReportContrast.Config(
        views=StudyViews(dims=2, crop_voxels=options.side),
        model=ImageTextConfig(text=text, dim=128),
    ).build(encoder=UNetEncoder.Config(dims=2, channels=(8, 16, 32, 64), depths=(1,) * 4).build())
    images, texts = images_of(options), texts_of(options, method.text)
    read = images._replace(texts=texts)
    state_UD = sentence_states(
        method.text, texts.token_BSL.flatten(0, 1), texts.token_mask_BSL.flatten(0, 1)
    )
    none = texts.token_BSL[..., :0]
    kept = read._replace(texts=texts._replace(token_BSL=none, token_mask_BSL=none.bool()))
    seconds: dict[str, list[float]] = {"read": [], "kept": []}
    losses = dict[str, float]()
    for turn in range(options.rounds + 1):
        for name, batch in (("read", read), ("kept", kept)):
            method.keep_text_states(state_UD if name == "kept" else None)
            took, losses[name] = step(method, batch)
            if turn:  # the first of each finds its memory
                seconds[name].append(took)
    ratios = [a / b for a, b in zip(seconds["read"], seconds["kept"], strict=True)]
    differs = abs(losses["read"] - losses["kept"])
    return {
        "batch": options.batch,
        "sentences": options.sentences,
        "tokens": options.tokens,
        "side": options.side,
        "text": method.text.config.name,
        "cpu_s": {name: median(found) for name, found in seconds.items()},
        "pairs_per_s": {name: options.batch / median(found) for name, found in seconds.items()},
        "ratio": median(ratios),
        "difference": differs,
        "claim": f"at least {CLAIM:g} times the pairs per second",
        "holds": median(ratios) >= CLAIM and differs <= CLOSE,
        "environment": describe(),
    }


def step(method: ReportContrast, batch: Batch) -> tuple[float, float]:
    """Return the CPU seconds of forward and backward, and the loss."""
    method.zero_grad(set_to_none=True)
    begin = time.process_time()
    loss = method.loss(batch, progress=0.0).total
    loss.backward()  # type: ignore[no-untyped-call]
    return time.process_time() - begin, float(loss.detach())


def images_of(options: argparse.Namespace) -> Batch:
    """Draw a slice of each study."""
    slices = torch.rand(options.batch, 1, options.side, options.side)
    present = torch.ones(options.batch, 1, 1, dtype=torch.bool)
    geometry = {"present_BVS": present, "position_mm_BVS": torch.zeros(present.shape)}
    return Batch([slices], geometry)


def texts_of(options: argparse.Namespace, text: TextEncoder) -> Texts:
    """Draw reports of sentences that are all different."""
    draw = torch.Generator().manual_seed(0)
    shape = (options.batch, options.sentences, options.tokens)
    numbers_BS = torch.arange(options.batch * options.sentences).view(shape[:2])
    alone_B = torch.arange(options.batch)
    return Texts(
        token_BSL=torch.randint(FIRST_WORD, text.tokenizer.size, shape, generator=draw),
        token_mask_BSL=torch.ones(shape, dtype=torch.bool),
        sentence_BS=numbers_BS,
        study_B=alone_B,
        text_B=alone_B,
        normal_B=torch.zeros(options.batch, dtype=torch.int8),
        label_BF=torch.empty(options.batch, 0, dtype=torch.int8),
    )


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    table = Table(
        title=f"A step on {result['batch']} pairs of a slice of {result['side']} pixels and "
        f"{result['sentences']} sentences of {result['tokens']} tokens, {result['text']}"
    )
    for column in ("texts", "CPU s", "pairs/s"):
        table.add_column(column, justify="left" if column == "texts" else "right")
    for name in ("read", "kept"):
        rate = result["pairs_per_s"][name]
        table.add_row(name, f"{result['cpu_s'][name]:.3f}", f"{rate:.1f}")
    console = Console()
    console.print(table)
    verdict = "holds" if result["holds"] else "does NOT hold"
    console.print(
        f"{result['ratio']:.1f} times; losses differ by {result['difference']:.1e}; "
        f"{result['claim']}: {verdict}"
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--sentences", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--text", type=Path, help="folder of a text encoder; without, MiniLM")
    parser.add_argument("--out", type=Path, help="JSON to write")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
