"""What VoCo's loss costs beside the same loss taken pair by pair.

    python -m pipelines.benchmarks.voco_loss_head --out runs/voco_loss_head.json

Forward and backward of everything behind the projector, on one thread. The pair-by-pair form is
written here from the formulas as the published code computes them: each random crop is compared
with the base crops of a volume in a call of its own, and so is each pair of base crops. Both give
the same values, which is checked in float64; times are in float32, as in training, in turns, so
that a busy machine slows both alike.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from medssl.losses import voco
from medssl.losses.voco import Projections
from medssl.runs.environment import describe

EPS = 1e-6
CLAIM = 30
CLOSE = 1e-8
Loss = Callable[[Projections, Projections, Tensor], Tensor]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON; 1 if ours costs more than 1/30 or differs."""
    options = _options(arguments)
    torch.set_num_threads(1)
    rows = {name: compare(name, options) for name in FORMS}
    result = {
        "volumes": options.volumes,
        "random_crops": options.crops,
        "base_crops": options.bases,
        "dim": options.dim,
        "rows": rows,
        "claim": f"at most 1/{CLAIM} of the pair-by-pair form, equal to {CLOSE:g} in float64",
        "holds": all(r["ratio"] >= CLAIM and r["difference"] <= CLOSE for r in rows.values()),
        "environment": describe(),
    }
    show(result)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if result["holds"] else 1


def compare(variant: str, options: argparse.Namespace) -> dict[str, float]:
    """Return the median milliseconds of both forms of one variant, and how far values differ."""
    ours, pairs = FORMS[variant]
    exact = _draw(options, torch.float64)
    pairs_of_values = zip(_step(ours, *exact), _step(pairs, *exact), strict=True)
    difference = max(float((a - b).abs().max()) for a, b in pairs_of_values)
    drawn = _draw(options, torch.float32)
    times_ms: dict[str, list[float]] = {"ours": [], "pairs": []}
    for _ in range(options.rounds):
        for name, loss in (("ours", ours), ("pairs", pairs)):
            begin = time.perf_counter()
            _step(loss, *drawn)
            times_ms[name].append((time.perf_counter() - begin) * 1e3)
    ours_ms, pairs_ms = median(times_ms["ours"]), median(times_ms["pairs"])
    return {
        "ours_ms": ours_ms,
        "pairs_ms": pairs_ms,
        "ratio": pairs_ms / ours_ms,
        "difference": difference,
        "rounds": options.rounds,
    }


def pairs_released(student: Projections, teacher: Projections, labels_BNK: Tensor) -> Tensor:
    """The objective of the released CVPR 2024 code (arXiv:2402.17300)."""
    total = labels_BNK.new_zeros(())
    for volume, labels_NK in enumerate(labels_BNK):
        s_NK = 0.5 * (
            _crop_by_crop(student.random_BND[volume], teacher.base_BKD[volume])
            + _crop_by_crop(teacher.random_BND[volume], student.base_BKD[volume])
        )
        log_NK = -torch.log(1 - (labels_NK - s_NK).abs() + EPS)
        apart_NK = (labels_NK == 0).long()
        total = total + (labels_NK * log_NK).sum() / (labels_NK.sum() + EPS)
        total = total + (apart_NK * s_NK**2).sum() / (apart_NK.sum() + EPS)
        total = total + _pair_by_pair(student.base_BKD[volume])
    return total / len(labels_BNK)


def pairs_large_scale(student: Projections, teacher: Projections, labels_BNK: Tensor) -> Tensor:
    """The large-scale objective (arXiv:2410.09890)."""
    total = labels_BNK.new_zeros(())
    for volume, labels_NK in enumerate(labels_BNK):
        other = (volume + 1) % len(labels_BNK)
        student_ND, teacher_ND = student.random_BND[volume], teacher.random_BND[volume]
        intra_NK = _crop_by_crop(student_ND, teacher.base_BKD[volume])
        agreed_NK = _crop_by_crop(teacher_ND, teacher.base_BKD[other]).detach()
        inter_NK = _crop_by_crop(student_ND, student.base_BKD[other])
        total = total + _entropy(labels_NK, intra_NK) + _entropy(agreed_NK, inter_NK)
        total = total + _pair_by_pair(student.base_BKD[volume])
    return total / len(labels_BNK)


def _entropy(labels_NK: Tensor, s_NK: Tensor) -> Tensor:
    positive = (labels_NK * -torch.log(1 - (labels_NK - s_NK).abs() + EPS)).sum()
    apart_NK = (labels_NK == 0).long()
    negative = (apart_NK * -torch.log(1 - s_NK + EPS)).sum()
    return positive / (labels_NK.sum() + EPS) + negative / (apart_NK.sum() + EPS)


def _crop_by_crop(random_ND: Tensor, base_KD: Tensor) -> Tensor:
    rows = [F.cosine_similarity(z_D[None], base_KD, dim=1)[None] for z_D in random_ND]
    return torch.cat(rows).relu()


def _pair_by_pair(base_KD: Tensor) -> Tensor:
    count, total = 0, base_KD.new_zeros(1)
    for k in range(len(base_KD)):
        for other in range(k + 1, len(base_KD)):
            cosine = F.cosine_similarity(base_KD[k][None], base_KD[other][None].detach(), dim=1)
            total, count = total + cosine.relu() ** 2, count + 1
    return total.sum() / count


def our_released(student: Projections, teacher: Projections, labels_BNK: Tensor) -> Tensor:
    """All pairs at once."""
    parts = voco.released(student, teacher, labels_BNK, asymmetric=True)
    return torch.stack(list(parts.values())).sum()


def our_large_scale(student: Projections, teacher: Projections, labels_BNK: Tensor) -> Tensor:
    """All pairs at once."""
    parts = voco.large_scale(student, teacher, labels_BNK, asymmetric=True)
    return torch.stack(list(parts.values())).sum()


FORMS: dict[str, tuple[Loss, Loss]] = {
    "released": (our_released, pairs_released),
    "large_scale": (our_large_scale, pairs_large_scale),
}


def _step(loss: Loss, student: Projections, teacher: Projections, labels: Tensor) -> list[Tensor]:
    """Return the loss and its gradients: what one training step takes."""
    total = loss(student, teacher, labels)
    return [total.detach(), *torch.autograd.grad(total, tuple(student))]


def _draw(
    options: argparse.Namespace, dtype: torch.dtype
) -> tuple[Projections, Projections, Tensor]:
    """Draw projections, of which some agree, and labels of which three in four are 0."""
    draw = torch.Generator().manual_seed(0)

    def projections() -> Projections:
        shape = (options.volumes, options.crops + options.bases, options.dim)
        z = torch.randn(shape, generator=draw, dtype=torch.float64) + 0.5
        random, base = z.to(dtype).tensor_split([options.crops], dim=1)
        return Projections(random.clone().requires_grad_(), base.clone().requires_grad_())

    student, teacher = projections(), projections().detach()
    shape = (options.volumes, options.crops, options.bases)
    labels_BNK = torch.rand(shape, generator=draw, dtype=torch.float64)
    labels_BNK[..., options.bases // 4 :] = 0
    return student, teacher, (labels_BNK / labels_BNK.sum(2, keepdim=True)).to(dtype)


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    shape = (
        f"{result['volumes']} volumes, {result['random_crops']} random and "
        f"{result['base_crops']} base crops, {result['dim']} numbers each"
    )
    table = Table(title=f"VoCo's loss, forward and backward, one thread: {shape}")
    for column in ("variant", "ours ms", "pair by pair ms", "ratio", "largest difference"):
        table.add_column(column, justify="left" if column == "variant" else "right", no_wrap=True)
    for name, row in result["rows"].items():
        ours, pairs = f"{row['ours_ms']:.2f}", f"{row['pairs_ms']:.1f}"
        table.add_row(name, ours, pairs, f"{row['ratio']:.1f}", f"{row['difference']:.1e}")
    console = Console()
    console.print(table)
    console.print(f"{result['claim']}: {'yes' if result['holds'] else 'NO'}")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--volumes", type=int, default=8)
    parser.add_argument("--crops", type=int, default=4, help="random crops per volume")
    parser.add_argument("--bases", type=int, default=16, help="base crops per volume")
    parser.add_argument("--dim", type=int, default=2048, help="length of a projection")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, help="where to write the numbers as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
