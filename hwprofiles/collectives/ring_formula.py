"""Seconds of a collective inside one scale-up network, by algorithm and protocol of NCCL: what fit and simulator share.

n ranks, `sent` bytes a rank in all steps of the ring (n-1, twice that for an all-reduce), `rate` of the link in software:

    wire     = sent / rate * (steps + own_step) / steps
    Simple   base + hops + wire + sqrt(fill * wire)
    LL       base' + hops' + wire / share'             a flag goes with every word
    switch   base + x + sqrt(fill * x),   x = bytes * (1 + 1/n) / rate'         all-reduce alone

own_step: each pass of a chunk takes, besides its steps between GPUs, one that stays on the GPU (it copies its own part, and
writes what came last to where it belongs); it takes part of a step's time, which two ranks feel most. Switch: it adds the
parts up as they pass (NVLink SHARP, "NVLS" of NCCL): every byte goes up once, and a GPU's share of the sum, 1/n, once more.
"""

from __future__ import annotations

import math
from typing import Final

RING_LIKE: Final = 4
"""Most ranks of a node whose all-to-all is as fast as a ring: 303 GB/s of 4 H200, 302 of an all-gather
(hwprofiles/measurements/h200x4-together-2026-11-27.csv).
"""


def wire_seconds(sent: float, rate: float, steps: float, own_step: float) -> float:
    """Seconds of `sent` bytes at `rate` (bytes/s) in so many steps between GPUs, and the part of one that stays on the GPU."""
    return sent / rate * (steps + own_step) / steps


def filled_seconds(base_s: float, wire_s: float, fill_s: float) -> float:
    """Launch and hops, the wire, and the time to fill the pipeline of chunks (Simple, and the switch's all-reduce)."""
    return base_s + wire_s + math.sqrt(fill_s * wire_s)


def flagged_seconds(base_s: float, wire_s: float, share: float) -> float:
    """Launch and hops, and the wire at the share of its rate that flags leave (LL)."""
    return base_s + wire_s / share


def switch_wire_seconds(num_bytes: float, rate: float, ranks: int) -> float:
    """Seconds on a GPU's link of an all-reduce of `num_bytes` that the switch adds up."""
    return num_bytes * (1.0 + 1.0 / ranks) / rate
