"""Recompute by named module: what a module made is dropped in the forward pass and made again when the backward asks for it.

rmsnorm, swiglu, mla_up_proj: their outputs are operands of what follows; `again` drops them where the followers keep them and
runs the module alone again (its followers, the products, do not run again). attention, mlp, moe, shared_expert, layer:
`checkpointed` runs the whole module again (Chen et al., arXiv:1604.06174), every product in it, as Megatron-LM does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.names import nearest
from hwprofiles.problem import Problem

MODULES: Final = ("rmsnorm", "mla_up_proj", "swiglu", "mlp", "attention", "layer", "moe", "shared_expert")

Function = Callable[..., Any]

_THREAD = threading.local()


def checked(modules: Sequence[str] | frozenset[str]) -> frozenset[str]:
    """The names as a set. Raises CalibrationError for a name that is none of MODULES."""
    for name in sorted(modules, key=str):
        if name not in MODULES:
            raise CalibrationError([Problem("", "recompute", f"{name!r} is no module{nearest(str(name), MODULES)}")])
    return frozenset(modules)


def is_again() -> bool:
    """Whether the caller runs a second time: what counts things (loads) must not count then."""
    return getattr(_THREAD, "depth", 0) > 0


class _SecondRun:
    """Within: `is_again()`. Can be entered again, as backward may: twice where input and weights get their gradients apart."""

    def __enter__(self) -> None:
        _THREAD.depth = getattr(_THREAD, "depth", 0) + 1

    def __exit__(self, *_: object) -> None:
        _THREAD.depth -= 1


def checkpointed(function: Function, *args: Any) -> Any:
    """function(*args), whose inner tensors are dropped and made again in the backward; tensors among args are kept."""
    if not torch.is_grad_enabled():
        return function(*args)
    with set_checkpoint_early_stop(False):
        return checkpoint(
            function, *args, use_reentrant=False, preserve_rng_state=False,
            context_fn=lambda: (nullcontext(), _SecondRun()),
        )  # fmt: skip


class _Dropped:
    """Outputs of a function that are made again from its inputs, once for all tensors that were dropped of them."""

    def __init__(self, function: Function, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        self.function = function
        self.pack, self.unpack = _outer_hooks()
        self.inputs = [self.pack(tensor.detach()) for tensor in inputs]
        self.numbers = {_storage(tensor): number for number, tensor in enumerate(outputs)}
        self.num_dropped = self.num_asked = 0
        self.made: tuple[Tensor, ...] = ()

    def drop(self, tensor: Tensor) -> Any:
        """What is kept in the tensor's place: for an output or a view of it, how it lies in the output's memory."""
        number = self.numbers.get(_storage(tensor))
        if number is None:
            return self.pack(tensor)
        self.num_dropped += 1
        return _View(self, number, tensor.shape, tensor.stride(), tensor.storage_offset())

    def make(self, kept: Any) -> Tensor:
        """The tensor again. The outputs are let go when every tensor dropped of them has been asked for."""
        if not (isinstance(kept, _View) and kept.owner is self):
            result: Tensor = self.unpack(kept)
            return result
        if not self.made:
            with torch.no_grad(), _SecondRun():
                made = self.function(*(self.unpack(each) for each in self.inputs))
            self.made = made if isinstance(made, tuple) else (made,)
        view = self.made[kept.number].as_strided(kept.shape, kept.stride, kept.offset)
        self.num_asked += 1
        if self.num_asked == self.num_dropped:
            self.made, self.num_asked = (), 0
        return view


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """How a dropped tensor lies in the memory of its owner's output `number`."""

    owner: _Dropped
    number: int
    shape: torch.Size
    stride: tuple[int, ...]
    offset: int


def again(function: Function, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> AbstractContextManager[Any]:
    """Within: what autograd keeps of `outputs` is dropped, and function(*inputs) makes it again in the backward.

    outputs: what the function gave, fresh memory, no views of one another or of the inputs. function gives a tensor or a tuple
    of them, in the memory layout of `outputs`. What else autograd keeps within goes to the hooks around this one.
    """
    if not torch.is_grad_enabled():
        return nullcontext()
    return _dropping(_Dropped(function, inputs, outputs), outputs)


@contextmanager
def _dropping(dropped: _Dropped, outputs: Sequence[Tensor]) -> Iterator[Sequence[Tensor]]:
    """Holds the outputs while it lasts: their memory must not become another tensor's, which would be taken for them."""
    with saved_tensors_hooks(dropped.drop, dropped.make):
        yield outputs


def made(stack: ExitStack, is_dropped: bool, function: Function, *inputs: Tensor) -> Any:
    """function(*inputs); with is_dropped, until `stack` closes, what is kept of it is dropped as `again` says."""
    outputs = function(*inputs)
    if is_dropped:
        stack.enter_context(again(function, inputs, outputs if isinstance(outputs, tuple) else (outputs,)))
    return outputs


def _outer_hooks() -> tuple[Function, Function]:
    """The hooks that torch would call without ours: it calls the innermost pair only."""
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(False)
    return hooks or (_same, _same)


def _same(kept: Any) -> Any:
    return kept


def _storage(tensor: Tensor) -> int:
    number: int = tensor.untyped_storage()._cdata
    return number
