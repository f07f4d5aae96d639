"""What losses of images and texts cost beside plain InfoNCE, alone and in a training step.

    python -m pipelines.benchmarks.image_text_losses --out runs/image_text_losses.json

Forward and backward on one thread, in CPU seconds, in turns. Plain InfoNCE is CLIP's: two
cross-entropies with the diagonal as their classes, written here. Ours begin with the codes of
studies and texts, so that the targets are made within what is measured, by the default policy;
four in ten rows have a report in common with another, and half are normal. A step is a
small vision transformer on slices, whose reports come as embeddings of a frozen text encoder that
were computed before, a projection each, and the loss: larger networks leave the loss a smaller
share. All losses have the same towers and the same batch. What a loss adds to a step is judged by
what it costs alone more than plain InfoNCE, over a step with that: it is less than steps differ
among each other, so whole steps, measured too, show no more than that nothing else is slow.

That multi-positive targets which are only the diagonal give plain InfoNCE is checked in float64.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from medssl.losses.image_text import ImageTextLoss
from medssl.losses.pair_targets import FalseNegativePolicy, false_negative_rate, pair_targets
from medssl.models.encoders.vit import ViTEncoder
from medssl.runs.environment import describe

CLAIM: Final = 0.03
CLOSE: Final = 1e-12
PLAIN: Final = "plain InfoNCE"
CLAIMED: Final = "multi_positive"
POLICY: Final = FalseNegativePolicy()
ALL_NEGATIVE: Final = FalseNegativePolicy(
    same_study="negative", same_text="negative", both_normal="negative"
)
TEXT_DIM: Final = 384


class Codes(NamedTuple):
    """What a policy asks of a batch."""

    study_B: Tensor
    text_B: Tensor
    normal_B: Tensor


Loss = Callable[[Tensor, Tensor, Codes, Tensor], Tensor]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON; 1 if multi-positive adds over 3 % to a step."""
    options = _options(arguments)
    torch.set_num_threads(1)
    alone, step = loss_alone(options), training_step(options)
    rows: dict[str, Any] = {
        name: {
            "alone": alone[name],
            "step": step[name],
            "added": (alone[name]["cpu_ms"] - alone[PLAIN]["cpu_ms"]) / step[PLAIN]["cpu_ms"],
        }
        for name in FORMS
    }
    differs = difference(options.batch, options.dim)
    result = {
        "batch": options.batch,
        "dim": options.dim,
        "side": options.side,
        "false_negative_rate": float(false_negative_rate(pair_targets(POLICY, *codes(options)))),
        "rows": rows,
        "difference": differs,
        "claim": f"multi-positive adds at most {CLAIM:.0%} to a step with {PLAIN}",
        "holds": rows[CLAIMED]["added"] <= CLAIM and differs <= CLOSE,
        "environment": describe(),
    }
    show(result)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if result["holds"] else 1


def plain(image_BD: Tensor, text_BD: Tensor, _: Codes, scale: Tensor) -> Tensor:
    """InfoNCE as CLIP has it."""
    logits_BB = scale * image_BD @ text_BD.mT
    own_B = torch.arange(len(logits_BB))
    return (F.cross_entropy(logits_BB, own_B) + F.cross_entropy(logits_BB.mT, own_B)) / 2


def ours(loss: ImageTextLoss, policy: FalseNegativePolicy = POLICY) -> Loss:
    """Return one of ours with its targets made in front of it."""

    def with_targets(image_BD: Tensor, text_BD: Tensor, codes: Codes, scale: Tensor) -> Tensor:
        return loss.of(image_BD, text_BD, pair_targets(policy, *codes), scale, bias=-10.0)

    return with_targets


FORMS: dict[str, Loss] = {
    PLAIN: plain,
    "info_nce": ours(ImageTextLoss(name="info_nce")),
    CLAIMED: ours(ImageTextLoss()),
    "siglip": ours(ImageTextLoss(name="siglip")),
    "dcl": ours(ImageTextLoss(name="dcl")),
}


def loss_alone(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return what forward and backward of each loss cost, from embeddings to their gradients."""
    image_BD, text_BD, scale = embeddings(options.batch, options.dim, torch.float32)
    known = codes(options)

    def run(loss: Loss) -> None:
        total = loss(image_BD, text_BD, known, scale)
        torch.autograd.grad(total, (image_BD, text_BD, scale))

    return in_turns(run, options.rounds)


def training_step(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return what forward and backward of towers and loss cost."""
    torch.manual_seed(0)
    encoder = ViTEncoder.Config(dims=2, width=options.width, depth=options.depth, maps=1).build()
    heads = nn.ModuleList(nn.Linear(d, options.dim) for d in (encoder.embed_dim, TEXT_DIM))
    scale = nn.Parameter(torch.tensor(14.3))
    x_BCIJ = torch.randn(options.batch, 1, options.side, options.side)
    report_BD, known = torch.randn(options.batch, TEXT_DIM), codes(options)
    weights = [*encoder.parameters(), *heads.parameters(), scale]

    def run(loss: Loss) -> None:
        image_BD = F.normalize(heads[0](encoder.embed(x_BCIJ)), dim=1)
        text_BD = F.normalize(heads[1](report_BD), dim=1)
        total = loss(image_BD, text_BD, known, scale)
        torch.autograd.grad(total, weights, allow_unused=True)

    return in_turns(run, options.step_rounds)


def in_turns(run: Callable[[Loss], None], rounds: int) -> dict[str, dict[str, float]]:
    """Return each form's median CPU milliseconds and median ratio to plain InfoNCE's turn."""
    times_ms: dict[str, list[float]] = {name: [] for name in FORMS}
    for loss in FORMS.values():
        run(loss)  # the first call of each finds its memory
    for _ in range(rounds):
        for name, loss in FORMS.items():
            begin = time.process_time()
            run(loss)
            times_ms[name].append((time.process_time() - begin) * 1e3)
    return {
        name: {
            "cpu_ms": median(found),
            "ratio": median(a / b for a, b in zip(found, times_ms[PLAIN], strict=True)),
        }
        for name, found in times_ms.items()
    }


def difference(batch: int, dim: int) -> float:
    """Return how far multi-positive with nothing but the diagonal is from plain InfoNCE."""
    drawn, row_B = embeddings(batch, dim, torch.float64), torch.arange(batch)
    image_BD, text_BD, scale = drawn
    known = Codes(row_B, row_B, row_B < 0)
    found = []
    for loss in (plain, ours(ImageTextLoss(), ALL_NEGATIVE)):
        total = loss(image_BD, text_BD, known, scale)
        found.append([total.detach(), *torch.autograd.grad(total, drawn)])
    return max(float((a - b).abs().max()) for a, b in zip(*found, strict=True))


def embeddings(batch: int, dim: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Draw unit vectors of images and texts that ask for gradients, and a scale."""
    draw = torch.Generator().manual_seed(0)
    z = F.normalize(torch.randn(2, batch, dim, generator=draw, dtype=torch.float64), dim=2)
    image_BD, text_BD = (part.to(dtype).clone().requires_grad_() for part in z)
    return image_BD, text_BD, torch.tensor(14.3, dtype=dtype, requires_grad=True)


def codes(options: argparse.Namespace) -> Codes:
    """Draw texts of which some are equal, and which of them find nothing."""
    draw, rows = torch.Generator().manual_seed(0), (options.batch,)
    text_B = torch.randint(0, 2 * options.batch, rows, generator=draw)
    normal_B = torch.randint(0, 2, rows, generator=draw, dtype=torch.bool)
    return Codes(torch.arange(options.batch), text_B, normal_B)


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    table = Table(
        title=f"Forward and backward, one thread, batch {result['batch']}, dim {result['dim']}"
    )
    columns = ("loss", "alone, CPU ms", "to plain", "step, CPU ms", "to plain", "added")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for name, parts in result["rows"].items():
        numbers = [
            text
            for part in (parts["alone"], parts["step"])
            for text in (f"{part['cpu_ms']:.1f}", f"{part['ratio']:.3f}")
        ]
        table.add_row(name, *numbers, f"{parts['added']:.2%}")
    console = Console()
    console.print(table)
    rate = result["false_negative_rate"]
    console.print(f"{rate:.0%} of the rows have a pair that is no negative")
    console.print(f"multi-positive of the diagonal differs by {result['difference']:.1e}")
    console.print(f"{result['claim']}: {'yes' if result['holds'] else 'NO'}")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--dim", type=int, default=512, help="length of an embedding")
    parser.add_argument("--side", type=int, default=64, help="pixels along a side of a slice")
    parser.add_argument("--width", type=int, default=96, help="of the vision transformer")
    parser.add_argument("--depth", type=int, default=4, help="its blocks")
    parser.add_argument("--rounds", type=int, default=40, help="of the loss alone")
    parser.add_argument("--step-rounds", type=int, default=5, help="of the step")
    parser.add_argument("--out", type=Path, help="where to write the numbers as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
