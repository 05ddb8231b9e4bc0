"""NCCL collectives inside one host alone, and what they and a layer's kernels lose when they run beside one another.

    python -m hwprofiles.calibration.collectives_beside -o FILE.json [--device cuda|cpu] [--quick]

Runs on all NVIDIA GPUs of a host, a process each, with torch (on CPU, with gloo and tiny sizes, only to try the program).
Times are medians of CUDA events in seconds, of the slowest rank. Three parts:
    alone      all-gather, reduce-scatter and all-reduce of SIZES over the first 2, 4, … GPUs
    kernels    GEMMs, attention and memory-bound kernels alone, and while collectives of all GPUs run on another stream
    blocks     grid size of each collective's kernel (blocks of threads; one holds an SM), from the profiler

Limits: one host and its NVLink, no NIC; NVLink multicast off (NCCL_NVLS_ENABLE=0), which doubles what an all-reduce sends;
collectives follow one another without a pause, which is the most that a step can put beside its kernels.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from hwprofiles.calibration import all_gpus
from hwprofiles.calibration.all_gpus import Place
from hwprofiles.calibration.measuring import Case, gemm_case, random_bf16, streaming_cases
from hwprofiles.units import KIBI, MEBI, MILLI

SIZES = tuple(MEBI * 4**power for power in range(6))
"""Bytes of the whole tensor: 1 MiB to 1 GiB, BF16."""
BESIDE_BYTES = 256 * MEBI
"""Of the collectives beside kernels: a layer's parameters or gradients in BF16."""
COLLECTIVES = ("all_gather", "reduce_scatter", "all_reduce")
WARM_UP, CALLS = 5, 20
COVER = 1.6
"""Collectives are queued for this many times the kernels' time alone, so that they outlast the kernels."""


class Clock:
    """Events on a GPU; on a CPU the host's clock, only to try the program."""

    def __init__(self, device: str) -> None:
        import torch

        self._torch, self._is_cuda = torch, device == "cuda"

    def stream(self) -> Any:
        """A stream of its own, None on a CPU."""
        return self._torch.cuda.Stream() if self._is_cuda else None

    def mark(self, stream: Any) -> Any:
        """A point in the stream's time."""
        if not self._is_cuda:
            return time.perf_counter()
        event = self._torch.cuda.Event(enable_timing=True)
        event.record(stream)
        return event

    def seconds(self, begin: Any, end: Any) -> float:
        """Between two marks whose work is done."""
        return begin.elapsed_time(end) * MILLI if self._is_cuda else float(end - begin)

    def wait(self) -> None:
        """Until all work is done."""
        if self._is_cuda:
            self._torch.cuda.synchronize()

    def on(self, stream: Any) -> Any:
        """Context in which work goes to the stream."""
        return self._torch.cuda.stream(stream) if self._is_cuda else nullcontext()


def collective_call(op: str, num_bytes: int, ranks: int, group: Any, device: str) -> Callable[[], Any]:
    """A collective of a BF16 tensor of `num_bytes` in all over a group."""
    import torch
    import torch.distributed as dist

    count = num_bytes // 2 // ranks * ranks
    whole = random_bf16(device, count)
    part = torch.empty(count // ranks, device=device, dtype=torch.bfloat16)
    if op == "all_gather":
        return partial(dist.all_gather_into_tensor, whole, part, group=group)
    if op == "reduce_scatter":
        return partial(dist.reduce_scatter_tensor, part, whole, group=group)
    return partial(dist.all_reduce, whole, group=group)


def marked(call: Callable[[], Any], clock: Clock, stream: Any, warm_up: int, calls: int) -> list[Any]:
    """Puts warm_up + calls calls on a stream: a mark in front of the `calls` last ones, and one behind each."""
    with clock.on(stream):
        for _ in range(warm_up):
            call()
        marks = [clock.mark(stream)]
        for _ in range(calls):
            call()
            marks.append(clock.mark(stream))
    return marks


def times(call: Callable[[], Any], clock: Clock, stream: Any) -> list[float]:
    """Seconds of each of CALLS calls on a stream, behind WARM_UP more."""
    marks = marked(call, clock, stream, WARM_UP, CALLS)
    clock.wait()
    return [clock.seconds(begin, end) for begin, end in pairwise(marks)]


def slowest(value: float, device: str) -> float:
    """The maximum over all ranks."""
    import torch
    import torch.distributed as dist

    found = torch.tensor([value], device=device, dtype=torch.float64)
    dist.all_reduce(found, op=dist.ReduceOp.MAX)
    return float(found.item())


def alone_rows(rank: int, world: int, device: str, clock: Clock, sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Seconds of every collective, size and group of 2, 4, … GPUs."""
    import torch.distributed as dist

    rows: list[dict[str, Any]] = []
    ranks = 2
    while ranks <= world:
        group = dist.new_group(list(range(ranks)))
        for op in COLLECTIVES:
            for num_bytes in sizes:
                taken = 0.0
                if rank < ranks:
                    call = collective_call(op, num_bytes, ranks, group, device)
                    taken = median(times(call, clock, clock.stream()))
                rows.append({"op": op, "bytes": num_bytes, "ranks": ranks, "seconds": slowest(taken, device)})
        ranks *= 2
    return rows


def cases(device: str, scale: int) -> Iterator[Case]:
    """A Llama-3-8B layer's kernels at 8,192 tokens in BF16 (widths divided by `scale`), on random numbers."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    tokens, hidden, ffn = 8192 // scale, 4096 // scale, 14336 // scale
    for name, m, n, k in (
        ("gemm_up", tokens, 2 * ffn, hidden), ("gemm_down", tokens, hidden, ffn), ("gemm_qkv", tokens, 6144 // scale, hidden),
        ("gemm_o", tokens, hidden, hidden), ("gemm_wgrad_down", hidden, ffn, tokens),
    ):  # fmt: skip
        yield gemm_case(device, name, m, n, k)
    heads, dim = 32, 128
    q, k_, v = (random_bf16(device, 1, heads, tokens, dim).requires_grad_() for _ in range(3))
    forward = partial(scaled_dot_product_attention, q, k_, v, is_causal=True)
    pairs = heads * tokens * tokens / 2
    yield Case("attention_fwd", torch.no_grad()(forward), 4.0 * pairs * dim)
    grad = random_bf16(device, 1, heads, tokens, dim)
    backward = partial(torch.autograd.grad, forward(), (q, k_, v), grad, retain_graph=True)
    yield Case("attention_bwd", backward, 10.0 * pairs * dim)
    yield from streaming_cases(device, tokens, 2 * ffn, hidden)


@dataclass(frozen=True)
class Together:
    """Seconds of each kernel; of each collective with kernels beside it; from the last kernel to the last collective."""

    kernels: list[float]
    collectives: list[float]
    rest_s: float


def together(
    kernel: Callable[[], Any], collective: Callable[[], Any], num_kernels: int, num_collectives: int, clock: Clock,
    streams: tuple[Any, Any],
) -> Together:  # fmt: skip
    """Kernels on the first stream while collectives run on the second; the first calls of both are left out."""
    import torch.distributed as dist

    compute, comm = streams
    dist.barrier()
    sent = marked(collective, clock, comm, 1, num_collectives)
    done = marked(kernel, clock, compute, 2, num_kernels)
    clock.wait()
    lengths = [(clock.seconds(a, b), clock.seconds(b, done[-1])) for a, b in pairwise(sent[1:])]
    beside = [length for length, left in lengths if left > 0]
    kernels = [clock.seconds(a, b) for a, b in pairwise(done)]
    return Together(kernels, beside or [length for length, _ in lengths], clock.seconds(done[-1], sent[-1]))


def beside_rows(
    world: int, device: str, clock: Clock, num_bytes: int, scale: int, *, is_high: bool
) -> list[dict[str, Any]]:
    """Every kernel alone and beside each collective of all GPUs, and what the collective then takes.

    is_high: the collectives' blocks are placed before those of the kernels (a stream of high priority), where there are both.
    covered: the collectives ended behind the last kernel on every rank, so that each kernel had one beside it.
    """
    group, compute, comm = _group(world, device, is_high=is_high), clock.stream(), clock.stream()
    calls = {op: collective_call(op, num_bytes, world, group, device) for op in COLLECTIVES}
    comm_alone = {op: slowest(median(times(call, clock, comm)), device) for op, call in calls.items()}
    with clock.on(compute):  # a backward runs on the stream of its forward
        timed_cases = list(cases(device, scale))
    rows = []
    for case in timed_cases:
        alone = slowest(median(times(case.call, clock, compute)), device)
        row: dict[str, Any] = {"name": case.name, "flop": case.flop, "bytes": case.bytes_moved, "alone_s": alone}
        for op, call in calls.items():
            num_kernels = max(CALLS, int(5 * comm_alone[op] / alone) + 1)
            num_comm = int(COVER * num_kernels * alone / comm_alone[op]) + 4
            found = together(case.call, call, num_kernels, num_comm, clock, (compute, comm))
            row[f"beside_{op}_s"] = slowest(median(found.kernels), device)
            row[f"{op}_beside_s"] = slowest(median(found.collectives), device)
            row[f"covered_{op}"] = slowest(-found.rest_s, device) < 0
        row["alone_again_s"] = slowest(median(times(case.call, clock, compute)), device)
        rows.append(row)
    first = {"name": "collectives", "bytes": num_bytes, **{f"{op}_s": s for op, s in comm_alone.items()}}
    return [{"priority": "high" if is_high else "normal", **row} for row in (first, *rows)]


def _group(world: int, device: str, *, is_high: bool) -> Any:
    """All ranks, with a communicator of its own."""
    import torch.distributed as dist

    if device != "cuda" or not is_high:
        return dist.new_group(list(range(world)))
    options = dist.ProcessGroupNCCL.Options(is_high_priority_stream=True)
    return dist.new_group(list(range(world)), pg_options=options)


def block_rows(rank: int, world: int, device: str, sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Thread blocks (and threads of one) of each collective's kernel over all GPUs."""
    import torch
    import torch.distributed as dist
    from torch.profiler import ProfilerActivity, profile

    if device != "cuda":
        return []
    rows = []
    for op in COLLECTIVES:
        for num_bytes in sizes:
            call = collective_call(op, num_bytes, world, dist.group.WORLD, device)
            call()
            torch.cuda.synchronize()
            with profile(activities=[ProfilerActivity.CUDA]) as found:
                call()
                torch.cuda.synchronize()
            with TemporaryDirectory() as folder:
                path = Path(folder) / "trace.json"
                found.export_chrome_trace(str(path))
                events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
            kernels = [
                event["args"] for event in events if "nccl" in event.get("name", "") and "grid" in event.get("args", {})
            ]
            if rank == 0 and kernels:
                rows.append(
                    {"op": op, "bytes": num_bytes, "blocks": kernels[0]["grid"][0], "threads": kernels[0]["block"][0]}
                )
    return rows


def measured(place: Place) -> dict[str, Any]:
    """The three parts."""
    clock, sizes = Clock(place.device), [64 * KIBI] if place.is_quick else SIZES
    scale, num_bytes = (32, sizes[0]) if place.is_quick else (1, BESIDE_BYTES)
    beside = partial(beside_rows, place.world, place.device, clock, num_bytes, scale)
    return {
        "alone": alone_rows(place.rank, place.world, place.device, clock, sizes),
        "kernels": [*beside(is_high=False), *beside(is_high=True)],
        "blocks": block_rows(place.rank, place.world, place.device, sizes),
    }


main = partial(all_gpus.main, "Times collectives and kernels alone and beside one another.", measured)
"""Measures on all GPUs and writes the JSON file; takes the arguments, None: the command line's."""


if __name__ == "__main__":
    sys.exit(main(None))
