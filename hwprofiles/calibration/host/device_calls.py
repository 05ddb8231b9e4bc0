"""Calls that reach past torch's operators: collectives, graphs, compiled regions, kernels of Triton, waits for the device."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from hwprofiles.calibration.host.core import Case
from hwprofiles.calibration.host.operators import backward

CALLS: Final = 20
GRAPH_KERNELS: Final = (1, 10, 100, 1000)
CAPTURED_KERNELS: Final = (10, 100)
REGION_PAIRS: Final = (1, 4, 16)
WIDTH: Final = 64


def _repeat(call: Callable[[], Any], number: int, _: Any) -> None:
    for _ in range(number):
        call()


def waits(device: torch.device) -> Iterator[Case]:
    """The host reads what a kernel has just been asked for."""
    small = torch.ones(WIDTH, device=device)
    event = torch.cuda.Event() if device.type == "cuda" else None
    host = torch.empty(WIDTH, pin_memory=device.type == "cuda")

    def by_event() -> list[float]:
        host.copy_(small + 1, non_blocking=True)
        if event is not None:
            event.record()
            event.synchronize()
        return list(host.tolist())

    for name, call in (
        ("item", lambda: (small[0] + 1).item()),
        ("tolist", lambda: (small + 1).tolist()),
        ("event", by_event),
    ):
        yield Case("wait", name, "", CALLS, partial(_repeat, call, CALLS))


def graphs(device: torch.device) -> Iterator[Case]:
    """Replays of a captured graph of so many kernels, one a sample."""
    if device.type != "cuda":
        return
    for number in GRAPH_KERNELS:
        x = torch.zeros(WIDTH, device=device)
        x.add_(1)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(number):
                x.add_(1)
        yield Case("graph_replay", f"{number}_kernels", "", 1, partial(_replay, graph))


def _replay(graph: Any, _: Any) -> None:
    graph.replay()


def captures(device: torch.device) -> Iterator[Case]:
    """Captures of so many kernels into a new graph, one a sample."""
    if device.type != "cuda":
        return
    x = torch.zeros(WIDTH, device=device)
    x.add_(1)
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        for number in CAPTURED_KERNELS:
            yield Case("graph_capture", f"{number}_kernels", "", 1, partial(_captured, x, number))


def _captured(x: Tensor, number: int, _: Any) -> Any:
    """Without the collection of garbage that torch.cuda.graph has before each."""
    graph = torch.cuda.CUDAGraph()
    graph.capture_begin()
    for _idx in range(number):
        x.add_(1)
    graph.capture_end()
    return graph


def collectives(device: torch.device) -> Iterator[Case]:
    """Collectives of a group of one rank: what torch does around NCCL, and NCCL's own call."""
    import torch.distributed as dist

    if not dist.is_available():
        return
    with tempfile.TemporaryDirectory() as folder:
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, init_method=Path(folder, "store").as_uri(), rank=0, world_size=1)
        try:
            given, taken = (torch.zeros(WIDTH, device=device) for _ in range(2))
            calls: dict[str, Callable[[], Any]] = {
                "all_reduce": lambda: dist.all_reduce(given),
                "all_gather": lambda: dist.all_gather_into_tensor(taken, given),
                "reduce_scatter": lambda: dist.reduce_scatter_tensor(taken, given),
                "all_to_all": lambda: dist.all_to_all_single(taken, given),
            }
            if device.type != "cuda":
                calls = {"all_reduce": calls["all_reduce"]}
            for name, call in calls.items():
                yield Case("collective", name, "", CALLS, partial(_repeat, call, CALLS))
        finally:
            dist.destroy_process_group()


def compiled(
    device: torch.device, pairs: tuple[int, ...] = REGION_PAIRS, recorded: tuple[bool, ...] = (False, True)
) -> Iterator[Case]:
    """A compiled region of so many pairs of a product and a kernel of the compiler's: forward, with and without a record for a
    backward, and backward.
    """
    if device.type != "cuda":
        return
    weight = torch.randn(WIDTH, WIDTH, device=device, dtype=torch.bfloat16, requires_grad=True)

    base = torch.randn(WIDTH, WIDTH, device=device, dtype=torch.bfloat16)
    for number in pairs:
        function: Callable[[Tensor], Tensor] = torch.compile(_region(weight, number), dynamic=False)
        for is_recorded in recorded:
            variant = f"{number}_pairs_{'recorded' if is_recorded else 'no_grad'}"
            run, prepare = partial(_once, function, is_recorded), partial(_input, base, is_recorded)
            yield Case("compiled_region", variant, "forward", 1, run, prepare)
        yield Case(
            "compiled_region", f"{number}_pairs_recorded", "backward", 1, backward, partial(_ran, function, base)
        )


def _region(weight: Tensor, number: int) -> Callable[[Tensor], Tensor]:
    def region(x: Tensor) -> Tensor:
        for _ in range(number):
            x = torch.nn.functional.silu(x @ weight) * 0.5
        return x

    return region


def _ran(function: Callable[[Tensor], Tensor], base: Tensor) -> tuple[Tensor, Tensor]:
    return function(base.detach().requires_grad_()), base


def _input(base: Tensor, recorded: bool) -> Tensor:
    return base.detach().requires_grad_(recorded)


def _once(function: Callable[[Tensor], Tensor], recorded: bool, x: Tensor) -> Tensor:
    with torch.set_grad_enabled(recorded):
        return function(x)


def triton_kernels(device: torch.device) -> Iterator[Case]:
    """A kernel of Triton that a program launches itself."""
    if device.type != "cuda":
        return
    kernels = import_module("hwprofiles.calibration.host.triton_kernel")
    x = torch.zeros(WIDTH, device=device)
    yield Case("triton_kernel", "launch", "", CALLS, partial(_repeat, lambda: kernels.add_one(x), CALLS))
