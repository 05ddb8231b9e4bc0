"""A timed call as a row: what it was, how long it took, and what share of the chip that is. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from hwprofiles.schema import Gpu
from hwprofiles.units import GIGA, TERA

COLUMNS: Final[Mapping[str, str]] = {
    "kind": "dense, grouped or streaming; copy: the longest copy",
    "name": "the product or kernel in words; rows with one name took turns",
    "library": "who ran it: moesim (the kernel that is chosen), moesim-triton, moesim-added (a weight gradient that adds), "
    "torch-block (scaled_mm), torch-unpadded, torch-row (_scaled_grouped_mm), torch-loop; "
    "copy: torch's of as many bytes",
    "variant": "fprop, dgrad or wgrad; of streaming kernels nothing",
    "m": "rows, n and k of the product (of wgrad: the weight's sides and the tokens), without padding; of streaming kernels "
    "rows and width",
    "n": "see m",
    "k": "see m",
    "loads": "rows of each group",
    "flop": "useful ones, a multiply-add is 2",
    "bytes": "operands with their scales and results, each once",
    "seconds": "median; the level-2 cache was filled with other numbers before each call",
    "low": "10 % of the calls took less",
    "high": "10 % took more",
    "calls": "of the median",
    "clock_hz": "SM clock in the middle of the rounds, median",
    "tflops": "TFLOP/s",
    "gb_per_s": "GB/s",
    "peak_share": "FLOP/s over the datasheet's dense FP8 peak; of streaming kernels bytes/s over its bandwidth",
    "roofline_share": "the greater of FLOP / peak and bytes / bandwidth, over the seconds",
    "watts": "power of such calls one behind another; empty where not read",
    "watts_clock_hz": "SM clock at their end",
    "note": "why there is no time",
}
"""Columns of the measured file."""


class Timed(Protocol):
    """As turns.Times."""

    @property
    def seconds(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def calls(self) -> int: ...
    @property
    def clock_hz(self) -> float: ...


@dataclass(frozen=True)
class What:
    """A call, whoever runs it: columns of its own, useful FLOP, bytes; moves: bound by memory by its nature."""

    cells: Mapping[str, Any]
    flop: float
    bytes: float
    moves: bool = False


def row(what: What, library: str, times: Timed, gpu: Gpu | None) -> dict[str, Any]:
    """With shares of the GPU's datasheet, where the catalogue has it."""
    found = {
        **what.cells, "library": library, "flop": what.flop, "bytes": what.bytes, "seconds": times.seconds,
        "low": times.low, "high": times.high, "calls": times.calls, "clock_hz": _number(times.clock_hz),
        "tflops": what.flop / times.seconds / TERA, "gb_per_s": what.bytes / times.seconds / GIGA,
    }  # fmt: skip
    if gpu is not None and "fp8" in gpu.peak_flop_per_s:
        by_flop = what.flop / gpu.peak_flop_per_s["fp8"]
        by_bytes = what.bytes / gpu.hbm_bytes_per_s
        found["peak_share"] = (by_bytes if what.moves else by_flop) / times.seconds
        found["roofline_share"] = max(by_flop, by_bytes) / times.seconds
    return found


def failed(what: What, library: str, reason: str) -> dict[str, Any]:
    """A call that could not run."""
    return {**what.cells, "library": library, "flop": what.flop, "bytes": what.bytes, "note": reason}


def _number(value: float) -> float | None:
    """None for what is unknown: JSON has no NaN."""
    return None if math.isnan(value) else value
