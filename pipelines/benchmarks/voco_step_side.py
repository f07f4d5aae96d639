"""One side of ``voco_step``: reads an order as JSON from stdin, prints its numbers as JSON."""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import torch
from torch import Tensor, nn

from medssl.data.views import Batch
from medssl.methods.voco import VoCo
from medssl.models.encoders.swin_unetr import SwinUNETREncoder
from pipelines.benchmarks.voco_step import LEAN, OURS

GFLOP_PER_CROP = 82.8 * 3
"""Forward and backward of the base network on 64^3 voxels, counted with multiply-adds as two."""
COUNTED = (48, 64)
"""The channels and the voxels along a crop's side that it was counted for."""
WARM_UPS = 3
Order = dict[str, Any]
Step = Callable[[], Tensor]


def main() -> None:
    """Run a first step and then the measured ones."""
    order: Order = json.load(sys.stdin)
    torch.set_num_threads(order["threads"])
    device = torch.device(order["device"])
    step, check = (our_step if order["side"] == OURS else published_step)(order, device)
    step()
    cpu_s, wall_s = measured(step, order["steps"], device)
    crops = order["volumes"] * (order["crops"] + order["bases"])
    print(
        json.dumps(
            {
                "cpu_s": cpu_s,
                "wall_s": wall_s,
                "crops_per_s": crops / wall_s,
                "peak_gib": peak_gib(device),
                "matrix_share": matrix_share(crops / wall_s, order, device),
                "check": check,
            }
        )
    )


def our_step(order: Order, device: torch.device) -> tuple[Step, float]:
    """Return a step of ours, and a number that tells its embeddings."""
    torch.manual_seed(0)
    encoder = SwinUNETREncoder(SwinUNETREncoder.Config(feature_size=order["features"]))
    method = VoCo(VoCo.Config(regulariser="asymmetric"), encoder)
    fill(encoder)
    method.to(device)
    random_BCIJK, base_BCIJK, labels_BNK = draw(order, device)
    check = embedding_sum(encoder.embed, base_BCIJK)
    batch = Batch([random_BCIJK, base_BCIJK], {"position_labels_BNK": labels_BNK})
    loss = method.loss
    if order["compile"]:
        encoder.embed = torch.compile(encoder.embed)  # type: ignore[method-assign]
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-4, amsgrad=True)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=order["precision"] == "bf16")

    def step() -> Tensor:
        with autocast:
            total = loss(batch, progress=0.0).total
        total.backward()  # type: ignore[no-untyped-call]
        method.before_step(progress=0.0)
        optimizer.step()
        optimizer.zero_grad()
        return total.detach()

    return step, check


def published_step(order: Order, device: torch.device) -> tuple[Step, float]:
    """Return a step of the published code as its training script takes it."""
    # It imports another network's package, which this variant does not use.
    for name in ("", ".architectures", ".architectures.unet", ".building_blocks"):
        sys.modules[f"dynamic_network_architectures{name}"] = MagicMock()
    sys.modules["dynamic_network_architectures.building_blocks.helper"] = MagicMock()
    sys.path.insert(0, f"{order['reference']}/Self-supervised")
    voco_head: ModuleType = __import__("models.voco_head", fromlist=["VoCoHead"])
    model: Any = voco_head.VoCoHead(
        argparse.Namespace(
            spatial_dims=3,
            in_channels=1,
            feature_size=order["features"],
            dropout_path_rate=0.0,
            use_checkpoint=order["side"] != LEAN,
        )
    )
    fill(model.backbone)
    model.to(device)
    random_BCIJK, base_BCIJK, labels_BNK = draw(order, device)
    check = embedding_sum(model.backbone, base_BCIJK)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, amsgrad=True)
    on_gpu = device.type == "cuda"
    scaler = torch.amp.GradScaler(enabled=on_gpu)

    def step() -> Tensor:
        with torch.autocast("cuda", torch.float16, enabled=on_gpu):
            total: Tensor = model(_AsTensor(random_BCIJK), _AsTensor(base_BCIJK), labels_BNK)
        scaler.scale(total.sum()).backward()  # type: ignore[no-untyped-call]
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        return total.detach()

    return step, check


def draw(order: Order, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return the same random crops, base crops and labels for every side."""
    torch.manual_seed(1)
    volumes, bases, side = order["volumes"], order["bases"], (order["crop"],) * 3
    random_BCIJK = torch.rand(volumes * order["crops"], 1, *side)
    base_BCIJK = torch.rand(volumes * bases, 1, *side)
    labels_BNK = torch.rand(volumes, order["crops"], bases)
    labels_BNK[..., 4:] = 0  # a crop touches at most four of a layer
    labels_BNK = labels_BNK / labels_BNK.sum(2, keepdim=True)
    return random_BCIJK.to(device), base_BCIJK.to(device), labels_BNK.to(device)


@torch.no_grad()
def fill(backbone: nn.Module) -> None:
    """Give networks whose tensors have the same names the same weights."""
    torch.manual_seed(2)
    for name, weight in sorted(backbone.named_parameters()):
        if weight.ndim > 1 or name.endswith("bias"):
            weight.normal_(std=0.02)


@torch.no_grad()
def embedding_sum(embed: Callable[[Tensor], Tensor], x_BCIJK: Tensor) -> float:
    """Return a number that two embeddings share only if they are alike."""
    # In TF32 two orders of the same sums differ by more than CLOSE.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        z_BD = embed(x_BCIJK[:1]).double()
    weights_D = torch.linspace(1, 2, z_BD.shape[1], dtype=torch.double, device=z_BD.device)
    return float((z_BD.abs() * weights_D).sum())


def measured(step: Step, steps: int, device: torch.device) -> tuple[float, float]:
    """Return CPU and wall seconds of one step."""
    wait: Callable[[], Any] = torch.cuda.synchronize if device.type == "cuda" else int
    wait()
    before, begin = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    for _ in range(steps):
        step()
    wait()
    after, wall_s = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter() - begin
    cpu_s = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return cpu_s / steps, wall_s / steps


def peak_gib(device: torch.device) -> float:
    """Return the most memory held at once: the GPU's, or the process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def matrix_share(crops_per_s: float, order: Order, device: torch.device) -> float | None:
    """Return the share of the GPU's measured rate of bf16 matrix products.

    What is counted are the products of the published network, its padding included. None on a
    CPU, and for sizes of network or crop other than :data:`COUNTED`.
    """
    if device.type != "cuda" or (order["features"], order["crop"]) != COUNTED:
        return None
    return crops_per_s * GFLOP_PER_CROP / matrix_gflop_per_s(device)


def matrix_gflop_per_s(device: torch.device, size: int = 8192, rounds: int = 20) -> float:
    """Return how many 10^9 operations a second go into bf16 matrix products.

    The first products are not measured: they choose and load the kernel.
    """
    a = torch.ones(size, size, device=device, dtype=torch.bfloat16)
    for _ in range(WARM_UPS):
        torch.mm(a, a)
    _cpu_s, wall_s = measured(lambda: torch.mm(a, a), rounds, device)  # it waits for those before
    return 2 * size**3 / wall_s / 1e9


class _AsTensor:
    """A tensor as MONAI's loader hands it over: the published code asks it for a plain one."""

    def __init__(self, x: Tensor) -> None:
        self.x = x

    def as_tensor(self) -> Tensor:
        return self.x

    def size(self) -> torch.Size:
        return self.x.size()


if __name__ == "__main__":
    main()
