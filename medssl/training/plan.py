"""``medssl pretrain --plan``: what a pretraining will take, before anything is spent."""

from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from medssl.data.store import CropStore
from medssl.data.views import Batch
from medssl.errors import InputError
from medssl.methods.base import Method
from medssl.reports.pairs import read_pairs
from medssl.training.gpus import find_gpu
from medssl.training.module import PretrainModule
from medssl.training.pretrain import PretrainConfig
from medssl.training.rehearsal import noise_batch, tensors_of
from medssl.training.step_cost import StepCost, without_computing

_HALF = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
_GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one device does and holds, and how long it takes."""

    gpu: str
    encoder: str
    method: str
    encoder_parameters: int
    parameters: int
    """Of everything the method holds, slow copies included."""
    trained_parameters: int
    devices: int
    steps: int
    samples: int
    """Seen by all devices together."""
    epochs: float | None
    """The same in passes over the store; None where there is no store yet."""
    samples_per_step: int
    crops_per_step: int
    """Of one device."""
    flops_per_step: float
    """Forward, backward and optimiser, of one device; an addition and a product are two."""
    bytes_moved_per_step: float
    seconds_per_step: float
    hours: float
    memory_gib: dict[str, float]
    """By what takes it; ``total`` is their sum."""
    gpu_memory_gib: float
    fits: bool
    to_hold_less: list[str]
    """Settings that would take less memory, of those that are not chosen yet."""
    disk_gib: dict[str, float]
    assumed: str

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class _Costs:
    """Of the first and the last step of a training, of the optimiser, and its state."""

    steps: list[StepCost]
    optimizer: StepCost
    state_bytes: int


def plan(config: PretrainConfig) -> Plan:
    """Return what a pretraining will take; nothing is trained, and no file is written.

    The step is the method's own, at its real size, without its arithmetic (see ``step_cost``).

    Raises:
        ConfigError: The GPU is not known, or the devices cannot share the batch evenly.
    """
    config, card = config.in_steps(), find_gpu(config.plan.gpu)
    accumulate, steps = config.engine.accumulate, config.schedule.steps
    rows = config.engine.own_share(config.loader.volumes_per_batch, "loader.volumes_per_batch")
    module = _module(config)
    with torch.random.fork_rng(devices=[]):
        batch = noise_batch(module.method, rows, config.method)
        costs = _measure(module, batch, config)
    memory = _memory(module, batch, costs, config)
    half = config.engine.precision in _HALF
    rates = (
        1e12 * config.plan.compute_utilisation * (card.half_tflops if half else card.single_tflops),
        1e9 * config.plan.bandwidth_utilisation * card.bandwidth_gb_s,
        1e-6 * config.plan.launch_us,
    )
    seconds = accumulate * fmean([step.seconds(*rates) for step in costs.steps])
    seconds += costs.optimizer.seconds(*rates)
    samples_per_step = config.loader.volumes_per_batch * accumulate
    volumes = _volumes(config)
    return Plan(
        gpu=card.title,
        encoder=config.encoder.name,
        method=config.method.name,
        encoder_parameters=_count(module.method.encoder),
        parameters=_count(module.method),
        trained_parameters=sum(p.numel() for p in module.parameters() if p.requires_grad),
        devices=config.engine.place.world,
        steps=steps,
        samples=steps * samples_per_step,
        epochs=steps * samples_per_step / volumes if volumes else None,
        samples_per_step=samples_per_step,
        crops_per_step=accumulate * sum(len(view) for view in batch.views_BCIJK),
        flops_per_step=accumulate * fmean([step.flops for step in costs.steps]),
        bytes_moved_per_step=accumulate * fmean([step.moved_bytes for step in costs.steps])
        + costs.optimizer.moved_bytes,
        seconds_per_step=seconds,
        hours=steps * seconds / 3600,
        memory_gib=memory,
        gpu_memory_gib=card.memory_gib,
        fits=memory["total"] <= card.memory_gib,
        to_hold_less=_to_hold_less(config),
        disk_gib=_disk(module.method, costs, config),
        assumed=_assumed(config, half),
    )


def _to_hold_less(config: PretrainConfig) -> list[str]:
    engine = config.engine
    unused = {
        "loader.volumes_per_batch lower, engine.accumulate higher": (
            config.loader.volumes_per_batch > engine.place.world
        ),
        "engine.precision=bf16-mixed": engine.precision not in _HALF,
        "engine.checkpoint_activations=true": not engine.checkpoint_activations,
    }
    method = [f"method.{setting}" for setting in config.method.to_hold_less]
    return [setting for setting, is_unused in unused.items() if is_unused] + method


def _module(config: PretrainConfig) -> PretrainModule:
    """Return what trains, on one device and not compiled; its weights are never written."""
    alone = {"devices": 1, "strategy": "auto", "compile": False}
    with torch.random.fork_rng(devices=[]), without_computing([]):
        method: Method = config.method.build(encoder=config.encoder.build())
        return PretrainModule(
            method,
            optimizer=config.optimizer,
            schedule=config.schedule,
            engine=config.engine.model_copy(update=alone),
            seed=config.seed,
        )


def _measure(module: PretrainModule, batch: Batch, config: PretrainConfig) -> _Costs:
    batch = module.transfer_batch_to_device(batch, torch.device("cpu"), 0)
    given = [*module.state_dict().values(), *tensors_of(batch)]
    last = 1 - 1 / config.schedule.steps
    costs = [_one_step(module, batch, progress, given, config) for progress in (0.0, last)]
    optimizer = config.optimizer.build(module.method, module.method.encoder)
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    with without_computing([*given, *gradients]) as cost:
        optimizer.step()
    state = [x for of in optimizer.state.values() for x in of.values() if isinstance(x, Tensor)]
    return _Costs(costs, cost, _bytes(state))


def _one_step(
    module: PretrainModule,
    batch: Batch,
    progress: float,
    given: list[Tensor],
    config: PretrainConfig,
) -> StepCost:
    module.zero_grad(set_to_none=True)
    dtype = _HALF.get(config.engine.precision)
    with without_computing(given) as cost:
        module.method.before_step(progress=progress)
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            loss = module.method.loss(batch, progress=progress).total
        loss.backward()  # type: ignore[no-untyped-call]
    return cost


def _memory(
    module: PretrainModule, batch: Batch, costs: _Costs, config: PretrainConfig
) -> dict[str, float]:
    """Return the GiB of one device, by what takes them."""
    shares = config.engine.place.world if config.engine.sharded else 1
    weights = _bytes(module.state_dict().values()) / shares
    gradients = _bytes(p for p in module.parameters() if p.requires_grad) / shares
    peak = max(step.peak_bytes for step in costs.steps)
    parts = {
        "weights": weights,
        "gradients": gradients,
        "optimiser": costs.state_bytes / shares,
        "activations": max(peak - gradients * shares, 0),
        "batch": 2 * _bytes(tensors_of(batch)),  # the next one is on its way
        "reserve": config.plan.reserve_gib * _GIB,
    }
    in_gib = {name: size / _GIB for name, size in parts.items()}
    return {**in_gib, "total": sum(in_gib.values())}


def _disk(method: Method, costs: _Costs, config: PretrainConfig) -> dict[str, float]:
    """Return the GiB that the run leaves, and those that one checkpoint takes."""
    checkpoint = _bytes(method.state_dict().values()) + costs.state_bytes
    kept = (config.rhythm.keep_checkpoints + 1) * checkpoint  # one more while it is written
    encoder = _bytes(method.encoder.state_dict().values())
    decoder = _bytes(method.decoder.state_dict().values()) if method.decoder is not None else 0
    parts = {"checkpoint": checkpoint, "checkpoints": kept, "encoder": encoder + decoder}
    return {name: size / _GIB for name, size in parts.items()}


def _volumes(config: PretrainConfig) -> int:
    """Return how many volumes or studies a training draws from; 0 where there are none yet."""
    try:
        if config.pairs is not None:
            return len(read_pairs(config.pairs.folder).split("train"))
        return len(CropStore(config.store).keys(config.data.split))
    except InputError:
        return 0


def _assumed(config: PretrainConfig, half: bool) -> str:
    numbers = config.plan
    rate = "half" if half else "single"
    return (
        f"{numbers.compute_utilisation:.0%} of the card's published {rate}-precision rate, "
        f"{numbers.bandwidth_utilisation:.0%} of its memory's, and no operation under "
        f"{numbers.launch_us:g} microseconds; nothing fused or compiled, and data that never "
        "keeps it waiting. An estimate: time 50 steps before a long run."
    )


def _bytes(tensors: Any) -> int:
    return sum(x.numel() * x.element_size() for x in tensors)


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
