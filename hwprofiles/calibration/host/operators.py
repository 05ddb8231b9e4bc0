"""Single calls: torch's operators, nodes of autograd, functions and modules written in Python, and Python by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from hwprofiles.calibration.host.core import Case

CALLS: Final = 50
"""Calls of a sample: fewer kernels than a stream queues."""
WIDTH: Final = 64

Function = Callable[[Tensor], Tensor]


class _Scaled(torch.autograd.Function):
    """One kernel each way, dispatched by Python."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * 0.5

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        _ = ctx.saved_tensors
        return grad * 0.5


class _Wrapped(nn.Module):
    """A module that does nothing but call another one."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.inner(x)
        return result


def _chain(function: Function, number: int, x: Tensor) -> Tensor:
    for _ in range(number):
        x = function(x)
    return x


def _repeat(call: Callable[[], Any], number: int, _: Any) -> None:
    for _ in range(number):
        call()


def _ran(function: Function, given: Callable[[], Tensor], grad: Tensor) -> tuple[Tensor, Tensor]:
    """What `backward` takes, behind a forward."""
    return _chain(function, CALLS, given()), grad


def _without_grad(function: Function, number: int, x: Tensor) -> Tensor:
    with torch.no_grad():
        return _chain(function, number, x)


def backward(state: tuple[Tensor, Tensor]) -> None:
    """Of a tensor and its gradient."""
    out, grad = state
    out.backward(grad)


def _functions(device: torch.device) -> Iterator[tuple[str, Function]]:
    """(name, function) of (WIDTH, WIDTH), which a chain can go through."""
    other = torch.ones(WIDTH, WIDTH, device=device, dtype=torch.bfloat16)
    weight = torch.ones(WIDTH, WIDTH, device=device, dtype=torch.bfloat16, requires_grad=True)
    rows = torch.arange(WIDTH, device=device)
    inner = nn.Identity()
    yield "add", lambda x: x + other
    yield "mul", lambda x: x * other
    yield "linear", lambda x: functional.linear(x, weight)
    yield "rms_norm", lambda x: functional.rms_norm(x, (WIDTH,))
    yield "index_select", lambda x: x.index_select(0, rows)
    yield "view", lambda x: x.view(WIDTH, WIDTH)
    yield "transpose_view", lambda x: x.transpose(0, 1)
    yield "python_function", lambda x: _Scaled.apply(x)  # type: ignore[no-any-return]
    yield "linear_module", _linear(device)
    yield "module_of_module", _Wrapped(_Wrapped(_Wrapped(_Wrapped(inner))))


def _linear(device: torch.device) -> Function:
    return nn.Linear(WIDTH, WIDTH, bias=False, device=device, dtype=torch.bfloat16)


def cases(device: torch.device) -> Iterator[Case]:
    """All of this file."""
    base = torch.randn(WIDTH, WIDTH, device=device, dtype=torch.bfloat16)

    def tracked() -> Tensor:
        return base.detach().requires_grad_()

    for name, function in _functions(device):
        yield Case(name, "no_grad", "forward", CALLS, partial(_without_grad, function, CALLS), lambda: base)
        yield Case(name, "recorded", "forward", CALLS, partial(_chain, function, CALLS), tracked)
        if name != "module_of_module":
            yield Case(name, "recorded", "backward", CALLS, backward, partial(_ran, function, tracked, base))
    scores = torch.randn(WIDTH, WIDTH, device=device)
    keys = torch.randint(WIDTH, (WIDTH * 8,), device=device)
    parts = [1] * WIDTH
    for name, call in (
        ("topk", partial(torch.topk, scores, 8)),
        ("stable_argsort", lambda: keys.argsort(stable=True)),
        ("empty", lambda: torch.empty(WIDTH, WIDTH, device=device, dtype=torch.bfloat16)),
        ("split", lambda: torch.split(base, parts)),
        ("cumsum", lambda: scores.cumsum(0)),
    ):
        variant = f"of_{WIDTH}" if name == "split" else "no_grad"
        yield Case(name, variant, "", CALLS, partial(_repeat, call, CALLS))
    yield Case("python", "attribute_and_add", "", 100_000, _python)


def _python(_: Any) -> int:
    """The processor's speed at Python alone: reads, an addition, a store and a call."""
    held = {"at": 0}
    add = int.__add__
    for _ in range(100_000):
        held["at"] = add(held["at"], 1)
    return held["at"]
