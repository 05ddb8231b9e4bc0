"""Kernels bound by memory, in turns with a copy of as many bytes' kind: what share of a copy's bandwidth each reaches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

import torch

from hwprofiles.calibration.kernel_bench.correct import reason
from hwprofiles.calibration.kernel_bench.rows import What, failed, row
from hwprofiles.calibration.kernel_bench.turns import Turns
from hwprofiles.calibration.measuring import random_bf16
from hwprofiles.schema import Gpu

Call = Callable[[], Any]
COPIED: Final = 2**29
"""Bytes of the copy that others are held against: many times the cache."""
SMALL_COPIED: Final = 2**16


@dataclass(frozen=True)
class Streaming:
    """kind: stream, transpose or permute. make(device) gives the calls by library and the bytes of one."""

    name: str
    kind: str
    rows: int
    width: int
    make: Callable[[torch.device], tuple[dict[str, Call], float]]


def rows(turns: Turns, gpu: Gpu | None, *, small: bool) -> Iterator[dict[str, Any]]:
    """The copy, then every kernel."""
    yield from _timed(_copy(SMALL_COPIED if small else COPIED), "copy", turns, gpu)
    for each in cases(small=small):
        yield from _timed(each, "streaming", turns, gpu)


def _copy(size: int) -> Streaming:
    def make(device: torch.device) -> tuple[dict[str, Call], float]:
        source = random_bf16(device, size // 4)
        to = torch.empty_like(source)
        return {"torch": partial(to.copy_, source)}, 2.0 * source.nbytes

    return Streaming("copy", "", size // 4, 1, make)


def cases(*, small: bool) -> Iterator[Streaming]:
    """This project's streaming kernels; none where there is no Triton."""
    if find_spec("triton") is not None:
        made = import_module("hwprofiles.calibration.kernel_bench.streaming_cases").cases(small=small)
        yield from (Streaming(*each) for each in made)


def _timed(each: Streaming, kind: str, turns: Turns, gpu: Gpu | None) -> Iterator[dict[str, Any]]:
    cells = {
        "kind": kind, "name": f"{each.name} {each.rows} x {each.width}", "variant": each.kind, "m": each.rows, "n": each.width,
        "k": "", "loads": "",
    }  # fmt: skip
    try:
        calls, size = each.make(turns.device)
        found = turns.times(calls)
    except Exception as wrong:  # compilers and libraries have errors of their own
        yield failed(What(cells, 0.0, 0.0, moves=True), "moesim", reason(wrong))
        return
    for library, times in found.items():
        yield row(What(cells, 0.0, size, moves=True), library, times, gpu)
