"""Made-up stages whose every block and message has a length of its own."""

from __future__ import annotations

from itertools import count

from hwprofiles.kernels.shape import Regime
from simulator.assembly.chunks import BlockCost, DrawKind, Segment, StageCost, UnitCost

FIXED = ("attn_f", "mlp_f_local", "attn_b", "mlp_b_local", "mlp_w", "attn_w")
ROUTED = ("mlp_f_routed", "mlp_b_routed")
MESSAGES = ("dispatch_f", "combine_f", "combine_b", "dispatch_b")
AGAIN = ("attn_r", "mlp_r_local", "mlp_r_routed", "dispatch_r", "combine_r")
REGIMES: tuple[Regime, ...] = ("overlapped", "alone")

_lengths = count(1)


def segment(seconds: float | None = None) -> Segment:
    """Of the given seconds, or of a length that no other has."""
    length = float(next(_lengths)) if seconds is None else seconds
    return Segment(length, length / 2, length * 2, {"gemm": length}, {"measured": length})


def unit(name: str, *, is_moe: bool = True, is_again: bool = False, replays: int = 1) -> UnitCost:
    """One segment a block; a dense unit has neither routed blocks nor messages. is_again: its forward is computed again."""
    names = (*FIXED, *ROUTED) if is_moe else FIXED
    if is_again:
        names = (*names, *(AGAIN[:3] if is_moe else AGAIN[:2]))
    blocks: dict[tuple[str, Regime], BlockCost] = {}
    for block in names:
        draw: DrawKind = "rank" if "routed" in block else "none"
        suffix = ".routed" if "routed" in block else ""
        blocks |= {(block, regime): BlockCost(((suffix, draw, segment()),)) for regime in REGIMES}
    messages = (*MESSAGES, *(AGAIN[3:] if is_again else ())) if is_moe else ()
    sent = {(message, regime): segment() for message in messages for regime in REGIMES}
    return UnitCost(name, blocks, sent, is_moe, replays)


def stage(index: int, *units: UnitCost) -> StageCost:
    """A stage of a pipeline."""
    return StageCost(index, units)
