"""Bytes that autograd keeps of one micro-batch between forward and backward, by saved-tensor hooks.

Each storage counts once, whole, at its first name; parameters, buffers and the tables named are not the micro-batch's. What is
kept past autograd's hooks (an attribute of a function's context, a closure) is seen by `living_bytes`, which follows every
storage that an operator has made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from hwprofiles.calibration.counting.origins import tensors_in


@dataclass(frozen=True, slots=True)
class Kept:
    """A storage that waits for the backward: the module that saved it first, and the tensor as that saved it."""

    module: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    num_bytes: int


class _Packed:
    """A saved tensor in autograd's hands: gone with the graph that holds it.

    Detached: a function's saved output would else hold its own graph.
    """

    def __init__(self, tensor: Tensor, module: str, number: int) -> None:
        self.tensor, self.module, self.number = tensor.detach(), module, number


class _Modules:
    """The name of the module that runs."""

    def __init__(self, model: nn.Module) -> None:
        self.running: list[str] = [""]
        self._handles = [
            handle
            for name, module in model.named_modules()
            for handle in (
                module.register_forward_pre_hook(self._enter(name)),
                module.register_forward_hook(self._leave, always_call=True),
            )
        ]

    def _enter(self, name: str) -> Callable[..., None]:
        return lambda module, args: self.running.append(name)

    def _leave(self, *unused: Any) -> None:
        self.running.pop()

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()


class Saved:
    """What the hooks have seen. `kept()`: of it what is kept at this moment."""

    def __init__(self, model: nn.Module, excluded: Iterable[Tensor]) -> None:
        own = [*model.parameters(), *model.buffers(), *excluded]
        self._excluded = {tensor.untyped_storage()._cdata for tensor in own}
        self._alive: WeakSet[_Packed] = WeakSet()
        self._count = 0
        self.modules = _Modules(model)

    def pack(self, tensor: Tensor) -> _Packed:
        """Notes a tensor that autograd saves."""
        self._count += 1
        packed = _Packed(tensor, self.modules.running[-1], self._count)
        self._alive.add(packed)
        return packed

    def kept(self) -> list[Kept]:
        """Every storage that waits for a backward, once, in the order in which they were saved first."""
        result: dict[int, Kept] = {}
        for packed in sorted(self._alive, key=lambda each: each.number):
            tensor = packed.tensor
            storage = tensor.untyped_storage()
            if storage._cdata not in self._excluded and storage.nbytes():
                entry = Kept(packed.module, tuple(tensor.shape), tensor.dtype, storage.nbytes())
                result.setdefault(storage._cdata, entry)
        return list(result.values())


@contextmanager
def saved_by(model: nn.Module, excluded: Iterable[Tensor] = ()) -> Iterator[Saved]:
    """Watches what a forward inside saves. excluded: tables that are neither parameters nor buffers (rope's)."""
    saved = Saved(model, excluded)
    with ExitStack() as stack:
        stack.callback(saved.modules.close)
        stack.enter_context(saved_tensors_hooks(saved.pack, lambda packed: packed.tensor))
        yield saved


def total_bytes(kept: Iterable[Kept]) -> int:
    """Sum of the storages."""
    return sum(each.num_bytes for each in kept)


class Allocated(TorchDispatchMode):
    """Follows every storage that an operator inside makes. A weak reference keeps a storage's identity from another."""

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[int, tuple[StorageWeakRef, int]] = {}
        self._given: dict[int, StorageWeakRef] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        for tensor in (*tensors_in(args), *tensors_in(options)):
            storage = tensor.untyped_storage()
            if storage._cdata not in self._made:
                self._given.setdefault(storage._cdata, StorageWeakRef(storage))
        out = func(*args, **options)
        for tensor in tensors_in(out):
            storage = tensor.untyped_storage()
            if storage._cdata not in self._given:
                self._made.setdefault(storage._cdata, (StorageWeakRef(storage), storage.nbytes()))
        return out

    def living_bytes(self) -> int:
        """Bytes of the storages made inside that something still holds."""
        return sum(num_bytes for reference, num_bytes in self._made.values() if not reference.expired())
