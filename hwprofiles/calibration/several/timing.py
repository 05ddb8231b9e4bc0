"""Seconds of what all ranks do together: of each call those of its slowest rank."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from statistics import median
from typing import Any, Final

import torch
import torch.distributed as dist

from hwprofiles.calibration.machine.ranks import Rank
from hwprofiles.calibration.measuring import Clock

CALLS, WARM_UP = 15, 4
TINY: Final = (2, 1)
Step = Callable[[Callable[[], Any]], list[Any]]
"""Does it once, given what marks a moment; gives the moments, at least the first and the last."""


def device_of(place: Rank) -> torch.device:
    """This process's."""
    return torch.device("cuda", place.rank) if place.device == "cuda" else torch.device("cpu")


def meet(place: Rank) -> None:
    """Waits for all ranks."""
    dist.barrier(device_ids=[place.rank] if place.device == "cuda" else None)


def timed(place: Rank, step: Step, names: tuple[str, ...] = ()) -> dict[str, Any]:
    """seconds (median), low and high (the calls' ends), the parts between moments by name, and peak bytes by rank."""
    device, is_cuda = device_of(place), place.device == "cuda"
    calls, warm_up = TINY if place.is_tiny else (CALLS, WARM_UP)
    clock, spans = Clock(device), []
    for number in range(warm_up + calls):
        if number == warm_up and is_cuda:
            torch.cuda.reset_peak_memory_stats(device)
        meet(place)
        moments = step(clock.mark)
        spans.append([clock.between(moments[0], moments[-1]), *(clock.between(a, b) for a, b in pairwise(moments))])
    table = torch.tensor(spans[warm_up:], dtype=torch.float64, device=device)
    dist.all_reduce(table, op=dist.ReduceOp.MAX)
    whole, *parts = (column.tolist() for column in table.t())
    found = {"seconds": median(whole), "low": min(whole), "high": max(whole)}
    found |= {f"{name}_s": median(part) for name, part in zip(names, parts, strict=False)}
    return {**found, **_peaks(place)}


def _peaks(place: Rank) -> dict[str, Any]:
    """The most and the least that torch had allocated on a rank."""
    if place.device != "cuda":
        return {}
    own = torch.tensor([torch.cuda.max_memory_allocated()], dtype=torch.float64, device=device_of(place))
    every = [torch.empty_like(own) for _ in range(place.world)]
    dist.all_gather(every, own)
    peaks = [int(each) for each in every]
    return {"peak_bytes": max(peaks), "least_peak_bytes": min(peaks)}


def once(call: Callable[[], Any]) -> Step:
    """A call between two moments."""

    def step(mark: Callable[[], Any]) -> list[Any]:
        begin = mark()
        call()
        return [begin, mark()]

    return step
