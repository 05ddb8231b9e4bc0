"""Messages between the GPUs of one host, and kernels that run beside them. With one GPU there is none, and nothing is measured.

    all_gather, reduce_scatter, all_reduce, all_to_all, send_recv    by size, over the first 2, 4, … GPUs
    uneven   an all-to-all in which the first rank gets `skew` times the mean of every other one
    beside   a GEMM, attention and a copy while all-gathers and reduce-scatters of all GPUs run on another stream

Seconds of a call: median of CUDA events, of the slowest rank; low, high: a tenth of the calls is outside at each end.
NVLink multicast is off: the switch of the fits is another formula (hwprofiles.collectives.ring_formula). One host, no NIC.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from statistics import median
from typing import Any, Final

from hwprofiles.calibration.collectives_beside import COVER, Clock, slowest, times, together
from hwprofiles.calibration.collectives_power import Kernel, kernels
from hwprofiles.calibration.collectives_together import message
from hwprofiles.calibration.context_parallel.ways import Group
from hwprofiles.calibration.machine.part import Emit, Size
from hwprofiles.calibration.machine.ranks import Rank, run
from hwprofiles.calibration.measuring import middle, random_bf16
from hwprofiles.units import KIBI, MEBI

TABLE: Final = "network.csv"
COLUMNS: Final = (
    "name", "op", "ranks", "bytes", "sent_bytes", "skew", "seconds", "low", "high", "kernel", "alone_s", "beside_s",
    "message_beside_s", "is_covered",
)  # fmt: skip
"""bytes: of the whole tensor (a rank's, of all_to_all and uneven; 4 times a message, of send_recv); sent_bytes: by a rank to
others, of uneven the most that one gets. kernel … is_covered: of a kernel beside messages; is_covered: it always had one."""
SIZES: Final = tuple(MEBI * 4**power for power in range(5))
OPS: Final = ("all_gather", "reduce_scatter", "all_reduce", "all_to_all", "send_recv")
BESIDE_OPS: Final = ("all_gather", "reduce_scatter")
BESIDE_BYTES: Final = 256 * MEBI
SKEWS: Final = (1.5, 3.0)
TINY_BYTES, TINY_SCALE, TINY_WORLD, SILENCE_S = 16 * KIBI, 64, 2, 45.0


def seconds(size: Size) -> float:
    """About so long on eight GPUs; nothing with one."""
    return 0.0 if size == "quick" else 60.0


def measure(device: Any, size: Size, emit: Emit, done: Collection[str] = ()) -> tuple[str, ...]:
    """Rows of network.csv; a run of processes that hangs or dies ends this part, and its rows stay."""
    import torch

    kind = torch.device(device).type
    world = torch.cuda.device_count() if kind == "cuda" else TINY_WORLD
    if world < 2:
        return ("network: one GPU; messages need two, on one host",)
    if size == "quick":
        return ("network: no part of a quick run",)
    left = run(
        partial(work, done=frozenset(done)), world, kind, emit, is_tiny=kind != "cuda", silence_s=SILENCE_S
    )  # fmt: skip
    return () if left is None else (f"network: {left}",)


def work(place: Rank, done: frozenset[str]) -> Iterator[Mapping[str, Any]]:
    """All rows, on each rank. done: names of those that are there."""
    import torch.distributed as dist

    clock = Clock(place.device)
    ranks = 2
    while ranks <= place.world:
        group = Group(dist.new_group(list(range(ranks))), place.rank, ranks)
        for op in OPS:
            for num_bytes in (TINY_BYTES,) if place.is_tiny else SIZES:
                if (name := f"{op} {ranks} {num_bytes:g}") not in done:
                    yield {"name": name, "op": op, "ranks": ranks, **_alone(place, op, num_bytes, group, clock)}
        ranks *= 2
    everyone = Group(dist.group.WORLD, place.rank, place.world)
    for skew in SKEWS:
        if (name := f"uneven {place.world} {skew:g}") not in done:
            yield {"name": name, "op": "uneven", "ranks": place.world, "skew": skew, **_uneven(place, skew, clock)}
    made = kernels(place.device, TINY_SCALE if place.is_tiny else 1)
    for op in BESIDE_OPS:
        for name, kernel in made.items():
            if f"{name} beside {op}" not in done:
                yield {"name": f"{name} beside {op}", "op": op, "ranks": place.world, "kernel": name,
                       **_beside(place, kernel, op, everyone, clock)}  # fmt: skip


def _timed(place: Rank, call: Callable[[], Any] | None, clock: Clock) -> dict[str, float]:
    """Seconds with their ends; call None: of a rank that takes no part."""
    ends = middle(times(call, clock, clock.stream()) if call else [0.0])
    return dict(zip(("seconds", "low", "high"), (slowest(each, place.device) for each in ends), strict=True))


def _alone(place: Rank, op: str, num_bytes: float, group: Group, clock: Clock) -> dict[str, Any]:
    sent, call = 0.0, None
    if place.rank < group.size:
        sent, call = message(op, int(num_bytes), group, place.device)
    return {"bytes": num_bytes, "sent_bytes": slowest(sent, place.device), **_timed(place, call, clock)}


def _uneven(place: Rank, skew: float, clock: Clock) -> dict[str, Any]:
    """Every rank sends the first one `skew` times its mean message, the others what is left, alike."""
    import torch
    import torch.distributed as dist

    num_bytes = TINY_BYTES if place.is_tiny else BESIDE_BYTES
    skew = min(skew, float(place.world))
    mean = num_bytes // 2 / place.world
    first = int(skew * mean)
    other = int((num_bytes // 2 - first) / max(1, place.world - 1))
    parts = [first] + [other] * (place.world - 1)
    mine = parts[place.rank]
    sent = random_bf16(place.device, sum(parts))
    taken = torch.empty(mine * place.world, device=place.device, dtype=torch.bfloat16)
    call = partial(dist.all_to_all_single, taken, sent, [mine] * place.world, parts)
    busiest = 2.0 * first * (place.world - 1)
    return {"bytes": num_bytes, "sent_bytes": busiest, **_timed(place, call, clock)}


def _beside(place: Rank, kernel: Kernel, op: str, group: Group, clock: Clock) -> dict[str, Any]:
    """A kernel alone and beside a message that is sent again and again."""
    num_bytes = TINY_BYTES if place.is_tiny else BESIDE_BYTES
    sent, call = message(op, int(num_bytes), group, place.device)
    compute, comm = clock.stream(), clock.stream()
    alone_s = slowest(median(times(kernel.call, clock, compute)), place.device)
    message_s = slowest(median(times(call, clock, comm)), place.device)
    num_kernels = max(20, int(5 * message_s / alone_s) + 1) if not place.is_tiny else 4
    num_messages = int(COVER * num_kernels * alone_s / message_s) + 4 if not place.is_tiny else 4
    found = together(kernel.call, call, num_kernels, num_messages, clock, (compute, comm))
    return {
        "bytes": num_bytes, "sent_bytes": sent, "seconds": message_s, "alone_s": alone_s,
        "beside_s": slowest(median(found.kernels), place.device),
        "message_beside_s": slowest(median(found.collectives), place.device),
        "is_covered": slowest(-found.rest_s, place.device) < 0,
    }  # fmt: skip
