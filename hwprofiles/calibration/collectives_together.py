"""Two NCCL messages at a time on the NVLinks of one host: how they share them.

    python -m hwprofiles.calibration.collectives_together -o FILE.json [--device cuda|cpu] [--quick]

Runs on all NVIDIA GPUs of a host, a process each, with torch (on CPU, with gloo and tiny sizes, only to try the program). Every
kind of message alone, and each two of different kinds on two streams with a communicator each, one call after the other, so
that each always has the other beside it. Times are medians of CUDA events in seconds, of the slowest rank. `sent_bytes` is what
a rank sends to others in one call: two that share a link fairly and fill it keep the sum of their rates at the link's; that
neither fills the link alone shows in how little they slow each other down.

Limits: one host, no NIC; NVLink multicast off; only data-moving kernels, no compute beside them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations_with_replacement, pairwise
from statistics import median
from typing import Any

from hwprofiles.calibration import all_gpus
from hwprofiles.calibration.all_gpus import Place
from hwprofiles.calibration.collectives_beside import (
    COVER,
    Clock,
    collective_call,
    marked,
    slowest,
    times,
)
from hwprofiles.calibration.context_parallel.ways import Group, hop
from hwprofiles.calibration.measuring import random_bf16
from hwprofiles.units import KIBI, MEBI

KINDS = ("all_gather", "reduce_scatter", "all_reduce", "all_to_all", "send_recv")
WHOLE_BYTES = 256 * MEBI
"""Of a collective's whole tensor; of all_to_all a rank's tensor; of send_recv a quarter of it, to the next rank."""
CALLS = 30


def message(kind: str, num_bytes: int, group: Group, device: str) -> tuple[float, Callable[[], Any]]:
    """Bytes that a rank sends in a call, and the call."""
    import torch
    import torch.distributed as dist

    others = (group.size - 1) / group.size
    if kind == "all_to_all":
        sent = random_bf16(device, num_bytes // 2)
        return num_bytes * others, partial(dist.all_to_all_single, torch.empty_like(sent), sent, group=group.handle)
    if kind == "send_recv":
        part = random_bf16(device, num_bytes // 8)

        def send() -> None:
            for wait in hop(part, group)[1]:
                wait.wait()

        return float(part.nbytes), send
    share = 2 * others if kind == "all_reduce" else others
    return num_bytes * share, collective_call(kind, num_bytes, group.size, group.handle, device)


def together(
    first: Callable[[], Any], second: Callable[[], Any], alone: tuple[float, float], clock: Clock
) -> list[float]:
    """Seconds a call of both, each while the other runs; NaN where no call did."""
    import torch.distributed as dist

    counts = [CALLS, max(2, int(COVER * CALLS * alone[0] / alone[1]))]
    if alone[0] > alone[1]:
        counts = [max(2, int(COVER * CALLS * alone[1] / alone[0])), CALLS]
    dist.barrier()
    streams = [clock.stream(), clock.stream()]
    marks = [
        marked(call, clock, stream, 2, count)
        for call, stream, count in zip((first, second), streams, counts, strict=True)
    ]
    clock.wait()
    found = []
    for own, other in (marks, reversed(marks)):
        beside = [
            clock.seconds(a, b)
            for a, b in pairwise(own)
            if clock.seconds(other[0], a) > 0 and clock.seconds(b, other[-1]) > 0
        ]
        found.append(median(beside) if beside else float("nan"))
    return found


def rows(rank: int, world: int, device: str, num_bytes: int) -> Iterator[dict[str, Any]]:
    """Every kind alone, then every two."""
    import torch.distributed as dist

    clock = Clock(device)
    groups = [Group(dist.new_group(list(range(world))), rank, world) for _ in range(2)]
    made = [{kind: message(kind, num_bytes, group, device) for kind in KINDS} for group in groups]
    for of_group in made:  # a communicator connects at its first call of a kind, on the host's time
        for _, call in of_group.values():
            times(call, clock, clock.stream())
    alone = {}
    for kind, (sent, call) in made[0].items():
        alone[kind] = slowest(median(times(call, clock, clock.stream())), device)
        yield {"first": kind, "second": "", "first_sent_bytes": sent, "first_s": alone[kind]}
    for first, second in combinations_with_replacement(KINDS, 2):
        times_of = (alone[first], alone[second])
        taken = together(made[0][first][1], made[1][second][1], times_of, clock)
        yield {
            "first": first, "second": second, "first_sent_bytes": made[0][first][0], "second_sent_bytes": made[1][second][0],
            "first_s": slowest(taken[0], device), "second_s": slowest(taken[1], device),
        }  # fmt: skip


def measured(place: Place) -> dict[str, Any]:
    """All rows."""
    num_bytes = 64 * KIBI if place.is_quick else WHOLE_BYTES
    return {"rows": list(rows(place.rank, place.world, place.device, num_bytes))}


main = partial(all_gpus.main, "Times NCCL messages alone and two at a time.", measured)
"""Measures on all GPUs and writes the JSON file; takes the arguments, None: the command line's."""


if __name__ == "__main__":
    sys.exit(main(None))
