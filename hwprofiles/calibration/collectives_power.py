"""Watts and speed of GPUs whose kernels run beside NCCL messages, from the first moments of load to the power limit.

    python -m hwprofiles.calibration.collectives_power -o FILE.json [--seconds 8] [--device cuda|cpu] [--quick]

Runs on all NVIDIA GPUs of a host, a process each, with torch (on CPU, with gloo and tiny sizes, only to try the program). A
case is kernels on one stream, messages on another, or both, in blocks of about BLOCK_S that are queued two at a time; a first
part finds how many messages take as long as a block's kernels, so that neither stream waits for the other. Rates and watts (the
board's energy counter) are means over the settled end of the load, of each GPU; the file has their mean and extremes.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from hwprofiles.calibration.all_gpus import Place, options, run_on_all
from hwprofiles.calibration.collectives_beside import Clock, slowest, times
from hwprofiles.calibration.collectives_together import message
from hwprofiles.calibration.context_parallel.ways import Group
from hwprofiles.calibration.measuring import random_bf16
from hwprofiles.calibration.nvml import Nvml
from hwprofiles.units import MEBI, MEGA

BLOCK_S, SETTLED_SHARE, REST_S = 0.04, 0.55, 2.0
"""Length of a block; share of the load's end over which is averaged; rest in front of a case."""
TINY_SECONDS, TINY_SCALE = 0.2, 64
"""Of load, and by which sizes are divided, to try the program."""
WHOLE_BYTES = 256 * MEBI
KERNELS = {
    "none": (),
    "gemm": (("gemm", 1),),
    "copy": (("copy", 1),),
    "layer": (("gemm", 3), ("attention", 1), ("copy", 3)),
}
"""Name → launches of a round."""
CASES = tuple(
    (kernels, messages)
    for kernels in ("none", "gemm", "layer", "copy")
    for messages in ("none", "all_gather", "reduce_scatter", "all_to_all")
    if (kernels, messages) != ("none", "none") and not (kernels == "copy" and messages == "all_to_all")
)


@dataclass(frozen=True)
class Kernel:
    """One launch: FLOP, and bytes of device memory read and written once."""

    call: Callable[[], Any]
    flop: float
    bytes_moved: float


def kernels(device: str, scale: int) -> dict[str, Kernel]:
    """A square BF16 GEMM, causal attention forward, a copy."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    side = 8192 // scale
    a, b = random_bf16(device, side, side), random_bf16(device, side, side)
    out = torch.empty_like(a)
    q, k, v = (random_bf16(device, 1, 32, side, 128) for _ in range(3))
    big = random_bf16(device, 128 * MEBI // scale)
    to = torch.empty_like(big)

    def attention() -> None:
        scaled_dot_product_attention(q, k, v, is_causal=True)

    return {
        "gemm": Kernel(lambda: torch.mm(a, b.t(), out=out), 2.0 * side**3, 3.0 * a.nbytes),
        "attention": Kernel(attention, 2.0 * 32 * side * side * 128, 4.0 * q.nbytes),
        "copy": Kernel(lambda: to.copy_(big), 0.0, 2.0 * big.nbytes),
    }


@dataclass(frozen=True)
class Load:
    """What one block queues: calls of the kernels' stream and of the messages'."""

    compute: Sequence[Callable[[], Any]]
    comm: Sequence[Callable[[], Any]]


class Runner:
    """Queues blocks on two streams, two blocks at a time."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.streams = clock, (clock.stream(), clock.stream())

    def block(self, load: Load) -> list[tuple[Any, Any]]:
        """(begin, end) on both streams."""
        marks = []
        for stream, calls in zip(self.streams, (load.compute, load.comm), strict=True):
            with self.clock.on(stream):
                begin = self.clock.mark(stream)
                for call in calls:
                    call()
                marks.append((begin, self.clock.mark(stream)))
        return marks

    def run(self, load: Load, blocks: int, seen: Callable[[list[float]], None]) -> None:
        """Calls seen with the seconds of both streams of each block that is over."""
        queue = [self.block(load)]
        for number in range(blocks):
            if number + 1 < blocks:
                queue.append(self.block(load))
            marks = queue.pop(0)
            for _, end in marks:
                if hasattr(end, "synchronize"):
                    end.synchronize()
            seen([self.clock.seconds(begin, end) for begin, end in marks])


def observe(
    names: tuple[str, str],
    group: Group,
    device: str,
    scale: int,
    seconds: float,
    made: dict[str, Kernel],
    nvml: Nvml | None,
) -> dict[str, Any]:
    """One case on this rank."""
    import torch.distributed as dist

    clock = Clock(device)
    runner = Runner(clock)
    calls = [made[name] for name, count in KERNELS[names[0]] for _ in range(count)]
    sent, call = 0.0, None
    if names[1] != "none":
        sent, call = message(names[1], WHOLE_BYTES // scale // scale, group, device)
        times(call, clock, clock.stream())
    round_s = sum(slowest(sorted(times(kernel.call, clock, None))[1], device) for kernel in calls)
    rounds = max(1, round(BLOCK_S / round_s)) if calls else 0
    compute = [kernel.call for kernel in calls] * rounds
    one_s = slowest(sorted(times(call, clock, clock.stream()))[1], device) if call else 0.0
    messages = max(1, round(BLOCK_S / one_s)) if call else 0
    if calls and call:  # as many as take a block beside its kernels, the same number on every rank
        found: list[list[float]] = []
        runner.run(Load(compute, [call] * messages), 8, found.append)
        kernels_s, messages_s = (sum(each[i] for each in found[3:]) for i in (0, 1))
        messages = max(1, round(messages * slowest(kernels_s, device) / slowest(messages_s, device)))
    load = Load(compute, [call] * messages if call else [])
    blocks = max(4, int(seconds / BLOCK_S))
    dist.barrier()
    time.sleep(REST_S if device == "cuda" else 0.0)
    done: list[tuple[float, float, float]] = []
    begin = time.perf_counter()

    def seen(_: list[float]) -> None:
        reading = nvml.read() if nvml else None
        done.append(
            (time.perf_counter() - begin, reading.energy_j if reading else 0.0, reading.sm_clock_hz if reading else 0.0)
        )

    runner.run(load, blocks, seen)
    settled = [each for each in done if each[0] >= (1.0 - SETTLED_SHARE) * done[-1][0]]
    elapsed, counted = settled[-1][0] - settled[0][0], len(settled) - 1
    per_block = [
        sum(kernel.flop for kernel in calls) * rounds,
        sum(kernel.bytes_moved for kernel in calls) * rounds,
        sent * messages,
    ]
    return {
        "kernels": names[0], "messages": names[1],
        "first_block_s": done[2][0] - done[1][0], "block_s": elapsed / counted,
        "flop_per_s": per_block[0] * counted / elapsed, "bytes_per_s": per_block[1] * counted / elapsed,
        "sent_bytes_per_s": per_block[2] * counted / elapsed, "watts": (settled[-1][1] - settled[0][1]) / elapsed,
        "sm_mhz": sum(each[2] for each in settled) / len(settled) / MEGA,
    }  # fmt: skip


def measured(place: Place, seconds: float) -> dict[str, Any]:
    """All cases, each on all GPUs at once. seconds: of load, each case."""
    import torch.distributed as dist

    scale = TINY_SCALE if place.is_quick else 1
    made, nvml = kernels(place.device, scale), Nvml(place.rank) if place.device == "cuda" else None
    group, rows = Group(dist.group.WORLD, place.rank, place.world), []
    for names in CASES:
        own = observe(names, group, place.device, scale, seconds, made, nvml)
        every: list[dict[str, Any]] = [{}] * place.world
        dist.all_gather_object(every, own)
        rows.append(_summary(every))
        if place.rank == 0:
            print(json.dumps(rows[-1]), flush=True)
    return {"seconds": seconds, "rows": rows}


def _summary(every: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over the GPUs; the extremes of watts and clocks."""
    row: dict[str, Any] = {}
    for key, value in every[0].items():
        numbers = [each[key] for each in every]
        row[key] = value if isinstance(value, str) else sum(numbers) / len(numbers)
        if key in ("watts", "sm_mhz"):
            row |= {f"{key}_low": min(numbers), f"{key}_high": max(numbers)}
    return row


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures on all GPUs and writes the JSON file."""
    parser = options("Watts and speed of kernels beside messages.")
    parser.add_argument("--seconds", type=float, default=8.0, help="of load, each case")
    given = parser.parse_args(arguments)
    run_on_all(given, partial(measured, seconds=TINY_SECONDS if given.quick else given.seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
