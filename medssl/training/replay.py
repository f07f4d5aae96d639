"""``medssl replay``: the batch at which a training broke, once more, watched module by module."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from medssl.config.load import load
from medssl.data.store import CropStore
from medssl.data.views import Batch
from medssl.errors import InputError
from medssl.methods.base import Method, ReportMethod
from medssl.runs.manifest import Manifest
from medssl.training.checkpoint import FOLDER, latest
from medssl.training.engine import seed_batch
from medssl.training.offending import Offence, load_share, odd_image, shares
from medssl.training.pair_stream import open_pairs
from medssl.training.pretrain import PretrainConfig
from medssl.training.restore import load_method_weights
from medssl.training.start import build_method
from medssl.training.step_cost import tensors_in
from medssl.training.text_states import keep_states

_AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass(frozen=True)
class Finding:
    """Where the first value appears that is not a finite number."""

    where: Literal["batch", "weights", "module", "loss", "gradient", "nowhere"]
    name: str = ""
    """Of the view, weight, module, part of the loss, or weight whose gradient it is."""


@dataclass(frozen=True)
class Replayed:
    """What a replay found."""

    offence: Offence
    folder: Path
    """Where the batch is kept."""
    weights_step: int
    """Steps done when the weights that it was replayed with were saved; 0 for the first ones."""
    finding: Finding

    @property
    def words(self) -> str:
        """What was found, for people."""
        name = self.finding.name
        return {
            "batch": f"the batch itself: {name} holds it. Look at the volumes and their intensity.",
            "weights": f"the weights: {name} holds it already.",
            "module": f"the output of the module {name}, whose input is finite.",
            "loss": f"the loss, behind the last module: {name}.",
            "gradient": f"the gradient of {name}; everything on the way to the loss is finite.",
            "nowhere": "nothing: with these weights all is finite, so they went wrong in the "
            f"{self.offence.step - self.weights_step} steps after them. Lower optimizer.lr, set "
            "optimizer.clip_norm, or save more often (rhythm.checkpoint_steps) and try again.",
        }[self.finding.where]


def replay(run: Path) -> Replayed:
    """Repeat the step that broke a pretraining, with the weights that were saved last before it.

    Of several processes each one's share of the batch is tried, until something is found.

    Args:
        run: The run folder; nothing in it is changed. What a frozen text encoder makes of the
            sentences is kept there, where the training did not leave it.

    Raises:
        InputError: No batch is kept there, or it, the configuration, the weights or the reports
            do not fit.
    """
    folders, manifest = shares(run), Manifest.read(run)
    if manifest is None or manifest.config_digest != load_share(folders[0])[0].config_digest:
        raise InputError(
            f"{run}: the batch kept here comes from a training with another configuration",
            hint="run the training again; the same configuration breaks at the same batch",
        )
    config = load(PretrainConfig, run / "config.yaml")
    method, steps = _last_weights(config, run, manifest.inputs)
    tried = list[Replayed]()
    for folder in folders:
        offence, batch = load_share(folder)
        # a loss may change a method; what the last share does to it does not matter
        fresh = method if folder == folders[-1] else deepcopy(method)
        finding = first_nonfinite(fresh, batch, offence, config)
        tried.append(Replayed(offence, folder, steps, finding))
        if finding.where != "nowhere":
            return tried[-1]
    return tried[0]


def first_nonfinite(
    method: Method, batch: Batch, offence: Offence, config: PretrainConfig
) -> Finding:
    """Return where the first value that is not finite appears when ``batch`` is learned from."""
    if image := odd_image(batch):
        return Finding("batch", image)
    for name, tensor in [*method.named_parameters(), *method.named_buffers()]:
        if not _finite(tensor):
            return Finding("weights", name)
    dtype = _AUTOCAST.get(config.engine.precision)
    with _watched(method.train()) as watch, torch.autocast("cpu", dtype, enabled=bool(dtype)):
        seed_batch(offence.seed, offence.batch_index, offence.process)
        output = method.loss(batch, progress=offence.progress)
    if watch.first is not None:
        return Finding("module", watch.first)
    if not _finite(output.total):
        bad = [name for name, part in output.parts.items() if not _finite(part)]
        return Finding("loss", ", ".join(bad) or "the total")
    output.total.backward()  # type: ignore[no-untyped-call]
    return _first_gradient(method, watch.order)


def _first_gradient(method: Method, order: list[str]) -> Finding:
    """Gradients run backwards: the module that came last has the first of them."""
    last_use = {name: position for position, name in enumerate(order)}
    bad = [n for n, p in method.named_parameters() if p.grad is not None and not _finite(p.grad)]
    if not bad:
        return Finding("nowhere")
    return Finding("gradient", max(bad, key=lambda n: last_use.get(n.rpartition(".")[0], -1)))


@dataclass
class _Watch:
    """Which modules ran, in the order in which they ended, and the first that broke."""

    first: str | None = None
    order: list[str] = field(default_factory=list)

    def hook(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        """Return what is to be called when the module of that name has run."""

        def look(_module: nn.Module, _inputs: Any, output: Any) -> None:
            self.order.append(name)
            if self.first is None and not all(map(_finite, tensors_in(output))):
                self.first = name

        return look


@contextmanager
def _watched(method: Method) -> Iterator[_Watch]:
    watch = _Watch()
    named = [(name, module) for name, module in method.named_modules() if name]
    hooks = [module.register_forward_hook(watch.hook(name)) for name, module in named]
    try:
        yield watch
    finally:
        for hook in hooks:
            hook.remove()


def _finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())


def _last_weights(
    config: PretrainConfig, run: Path, inputs: Mapping[str, str]
) -> tuple[Method, int]:
    """Return the method as the last checkpoint has it, or as it was before the first step."""
    torch.manual_seed(config.seed)
    method = build_method(config.method, config.encoder, config.start_from)
    if isinstance(method, ReportMethod):
        _know_reports(method, config, run, inputs)
    resume = latest(run / FOLDER)
    if resume.path is not None:
        load_method_weights(method, resume.path)
    return method, resume.steps


def _know_reports(
    method: ReportMethod, config: PretrainConfig, run: Path, inputs: Mapping[str, str]
) -> None:
    """Tell a method the sentences of its reports, as a pretraining does: a batch numbers them."""
    store, size = CropStore(config.store), config.loader.volumes_per_batch
    pairs = open_pairs(config.pairs, config.method, store, config.data.intensity, batch_size=size)
    if pairs is None:
        return
    if (store.digest, pairs.digest) != (inputs.get("store"), inputs.get("pairs")):
        raise InputError(
            f"{run}: the crop store or the reports are no longer those of the training",
            hint="put them back: the batch that is kept names its sentences by their numbers",
        )
    method.know_sentences(pairs.text.sentences)
    if method.text.frozen:
        keep_states(method, pairs, run)
