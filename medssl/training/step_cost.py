"""What one training step costs, found out without computing it.

The step runs as it will, through the method, its encoder and back, but every large operation is
left out: its result is memory that is reserved and never touched. Small ones are computed, so
that masks, indices and counts are what they will be. A network of any size takes seconds, and
its shapes, floating-point operations and memory are exact, those of the same step run eagerly.
"""

import mmap
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

_LARGE = 2**16
"""Elements from which on an operation is left out."""
_ATEN = torch.ops.aten
_NEVER_LEFT_OUT = {_ATEN.alias, _ATEN._unsafe_view, _ATEN._reshape_alias, _ATEN.lift_fresh}
_ATTENTION = _ATEN._scaled_dot_product_flash_attention_for_cpu
_ATTENTION_BACK = _ATEN._scaled_dot_product_flash_attention_for_cpu_backward


@dataclass
class StepCost:
    """What a step takes of a device."""

    operations: list[tuple[int, int]] = field(default_factory=list)
    """Of each operation its FLOPs (a multiplication and an addition are two) and the bytes that
    it reads and writes."""
    peak_bytes: int = 0
    """Most memory held at once by what the step made, gradients included."""
    saved_bytes: int = 0
    """Activations kept for the way back."""

    @property
    def flops(self) -> int:
        """FLOPs in all."""
        return sum(flops for flops, _ in self.operations)

    @property
    def moved_bytes(self) -> int:
        """Bytes read and written in all."""
        return sum(moved for _, moved in self.operations)

    def seconds(self, flops_per_s: float, bytes_per_s: float, least_s: float = 0.0) -> float:
        """Return the time of all operations, one after the other.

        Each is bound by arithmetic or by memory (Williams et al., "Roofline", CACM 2009).

        Args:
            flops_per_s: How fast it computes.
            bytes_per_s: How fast it reads and writes.
            least_s: No operation takes less.
        """
        return sum(max(f / flops_per_s, b / bytes_per_s, least_s) for f, b in self.operations)


@contextmanager
def without_computing(given: Iterable[Tensor]) -> Iterator[StepCost]:
    """Count, inside the context, what operations cost instead of computing them.

    What is built inside, such as a network, is not initialised: its memory is reserved only.

    Args:
        given: What was there before, such as weights: the step does not pay for it.
    """
    cost = StepCost()
    there = {_key(tensor) for tensor in given}
    saved: dict[int, int] = {}

    def save(tensor: Tensor) -> Tensor:
        if _key(tensor) not in there:
            saved[_key(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(save, lambda x: x)
    with _untouched(), _Counted(cost, there), hooks:
        yield cost
    cost.saved_bytes = sum(saved.values())


@contextmanager
def _untouched() -> Iterator[None]:
    """Leave new memory as it is: a deterministic training has torch fill all of it."""
    deterministic: Any = torch.utils.deterministic
    before = deterministic.fill_uninitialized_memory
    deterministic.fill_uninitialized_memory = False
    try:
        yield
    finally:
        deterministic.fill_uninitialized_memory = before


def _key(tensor: Tensor) -> int:
    """Return what tensors that share memory have in common while it lives."""
    return int(tensor.untyped_storage()._cdata)


class _Counted(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, cost: StepCost, given: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.cost = cost
        self._held, self._seen = 0, set(given)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        inputs = tensors_in((args, kwargs))
        formula = _flop_formula(func)
        # Whole numbers are computed: indices and counts decide what happens next.
        floating = sum(x.numel() for x in inputs if x.is_floating_point())
        large = formula is not None or floating >= _LARGE
        as_it_is = func.is_view or func._overloadpacket in _NEVER_LEFT_OUT
        out = _skipped(func, args, kwargs) if large and not as_it_is else func(*args, **kwargs)
        if not as_it_is:
            flops = 0 if formula is None else int(formula(*args, **kwargs, out_val=out))
            moved = sum(x.numel() * x.element_size() for x in [*inputs, *tensors_in(out)])
            self.cost.operations.append((flops, moved))
            self._hold(tensors_in(out))
        return out

    def _hold(self, made: Iterable[Tensor]) -> None:
        for tensor in made:
            if _key(tensor) not in self._seen:
                storage = tensor.untyped_storage()
                self._held += storage.nbytes()
                self._seen.add(_key(tensor))
                weakref.finalize(storage, self._release, _key(tensor), storage.nbytes())
        self.cost.peak_bytes = max(self.cost.peak_bytes, self._held)

    def _release(self, key: int, size: int) -> None:
        self._held -= size
        self._seen.discard(key)


def _flop_formula(func: Any) -> Callable[..., Any] | None:
    packet = func._overloadpacket
    if packet is _ATTENTION:
        return _attention_flops
    if packet is _ATTENTION_BACK:
        return _attention_back_flops
    formula: Callable[..., Any] | None = flop_registry.get(packet)
    return formula


def _attention_flops(q: Tensor, k: Tensor, v: Tensor, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(q.shape, k.shape, v.shape))  # type: ignore[no-untyped-call]


def _attention_back_flops(g: Tensor, q: Tensor, k: Tensor, v: Tensor, *_: Any, **__: Any) -> int:
    flops = sdpa_backward_flop_count(g.shape, q.shape, k.shape, v.shape)  # type: ignore[no-untyped-call]
    return int(flops)


def _skipped(func: Any, args: Any, kwargs: Any) -> Any:
    """Return what ``func`` would, without its values; what it changes in place stays as it is."""
    try:
        out = func(*tree_map(_on_meta, args), **tree_map(_on_meta, kwargs))
    except (NotImplementedError, RuntimeError):  # its result's shape depends on values
        return func(*args, **kwargs)
    changed = _changed_in_place(func, args, kwargs)
    if changed:
        return changed[0] if len(changed) == 1 else tuple(changed)
    return tree_map(_reserved, out)


def _changed_in_place(func: Any, args: Any, kwargs: Any) -> list[Any]:
    """Return the arguments that ``func`` writes to and hands back."""
    arguments = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | kwargs
    written = {
        frozenset(a.alias_info.before_set): arguments.get(a.name)
        for a in func._schema.arguments
        if a.alias_info is not None and a.alias_info.is_write
    }
    returned = [r.alias_info for r in func._schema.returns if r.alias_info is not None]
    return [written[frozenset(alias.before_set)] for alias in returned]


def _on_meta(x: Any) -> Any:
    if isinstance(x, Tensor):
        return torch.empty_strided(x.size(), x.stride(), dtype=x.dtype, device="meta")
    return torch.device("meta") if isinstance(x, torch.device) else x


def _reserved(x: Any) -> Any:
    if not isinstance(x, Tensor):
        return x
    if x.numel() < _LARGE:
        return torch.empty_strided(x.size(), x.stride(), dtype=x.dtype).zero_()
    # Pages of the system are zero and cost nothing until they are touched; the allocator's may have
    # been used before. Zero makes comparisons of what was never computed false: loops that draw
    # until all fits then end.
    elements = 1 + sum((n - 1) * step for n, step in zip(x.size(), x.stride(), strict=True))
    pages = mmap.mmap(-1, elements * x.element_size())
    return torch.frombuffer(pages, dtype=x.dtype).as_strided(x.size(), x.stride())


def tensors_in(tree: Any) -> list[Tensor]:
    """Return the tensors in lists, tuples and dictionaries, however they are nested."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
