"""DeepSeek's published trace, predicted: one overlapped pair of four MoE layers without pipeline transfers."""

from __future__ import annotations

from collections.abc import Mapping
from math import fsum

from simulator.assembly.chunks import Segment, StageCost, UnitCost
from simulator.assembly.pair import build_template
from simulator.assembly.pairing import Pairing
from simulator.assembly.template import Template
from simulator.step.prepared import PreparedStep

PHASES: Mapping[str, tuple[str, ...]] = {
    "attn_f": ("attn_f",),
    "mlp_f": ("mlp_f_local", "mlp_f_routed"),
    "mlp_b": ("mlp_b_local", "mlp_b_routed"),
    "mlp_w": ("mlp_w",),
    "attn_b": ("attn_b",),
    "attn_w": ("attn_w",),
}
TRANSFERS = ("dispatch_f", "combine_f", "dispatch_b", "combine_b")
NUM_LAYERS = 4


def trace_times(step: PreparedStep) -> dict[str, tuple[float, float, float]]:
    """trace.<phase>_s → (seconds, low, high) of one layer; trace.pair_s of the pair. Kernels beside communication."""
    unit = next(unit for stage in step.stages for unit in stage.units if unit.is_moe and len(stage.units) == NUM_LAYERS)
    times: dict[str, tuple[float, float, float]] = {}
    for phase, names in PHASES.items():
        segments = [segment for name in names for _, _, segment in unit.blocks[name, "overlapped"].segments]
        times[f"trace.{phase}_s"] = _sum(segments)
    for name in TRANSFERS:
        times[f"trace.{name}_s"] = _sum([unit.all_to_all[name, "overlapped"]])
    value, low, high = (_pair_seconds(unit, which) for which in ("seconds", "low", "high"))
    times["trace.pair_s"] = (value, low, high)
    return times


def _sum(segments: list[Segment]) -> tuple[float, float, float]:
    return (
        fsum(segment.seconds for segment in segments),
        fsum(segment.low for segment in segments),
        fsum(segment.high for segment in segments),
    )


def _pair_seconds(unit: UnitCost, which: str) -> float:
    stage = StageCost(0, (unit,) * NUM_LAYERS)
    return makespan(build_template("FB", stage, stage, pairing=Pairing(), wait_at_boundary=False), which)


def makespan(template: Template, which: str = "seconds") -> float:
    """Longest path through one action alone on its rank."""
    finish: list[float] = []
    stream_free: dict[int, float] = {}
    for op in template.ops:
        ready = max([finish[pred] for pred in op.preds] + [stream_free.get(op.stream, 0.0)])
        finish.append(ready + float(getattr(op.segment, which)))
        stream_free[op.stream] = finish[-1]
    return max(finish)
