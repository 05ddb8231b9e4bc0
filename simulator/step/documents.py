"""What is drawn of packed documents in a step: unequal sequences, at the prices of the step's attention cores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import fsum

from simulator.assembly.chunks import Segment, StageCost
from simulator.assembly.shapes import CORE_DRAWS
from simulator.assembly.unit_costs import draw_of_core
from simulator.scenario import derived
from simulator.scenario.scenario import Scenario
from simulator.step.pricing import KernelPrices
from simulator.workload.counted import documents_of
from simulator.workload.document_load import DocumentLoad, bank_of, slope, tilted
from simulator.workload.op import Op, Workload
from simulator.workload.pairs import Split


def document_load(scenario: Scenario, workload: Workload, kernels: KernelPrices) -> DocumentLoad | None:
    """What packed sequences take; None where they are alike, or nothing is packed, or the mechanism is off."""
    documents, plan = documents_of(scenario), scenario.parallel
    if documents is None or not scenario.mechanisms.document_spread:
        return None
    cuts_through = plan.cp > 1 and plan.cp_comm == "all_gather" and documents.cut == "sequence"
    if not documents.is_drawn and not cuts_through:
        return None
    cores = {kind: _cores(workload, kind) for kind in CORE_DRAWS}
    windows = tuple(window for window, kind in zip((None, _window(scenario)), CORE_DRAWS, strict=True) if cores[kind])
    split: Split = "zigzag" if cuts_through else "documents"
    return DocumentLoad(
        windows, bank_of(documents, windows, plan.cp, split, scenario.seed),
        tuple(_slope(cores[CORE_DRAWS[window is not None]], kernels) for window in windows),
        batch=scenario.training.micro_batch_size, replicas=derived.dp(scenario), replica_ranks=plan.tp * plan.cp,
    )  # fmt: skip


def _slope(cores: Sequence[Op], kernels: KernelPrices) -> float:
    """How cores of a kind take more pairs for the same tokens."""
    pairs, seconds = [0.0, 0.0], [0.0, 0.0]
    for core in cores:
        shape = core.shape
        for i, documents in enumerate((shape.documents, tilted(shape.documents))):
            own = fsum(each.number * each.queries * each.attended for each in documents)
            flop = own * shape.heads * shape.flop_per_pair
            pairs[i] += flop
            seconds[i] += kernels.kernel(replace(shape, documents=documents, flop=flop), "alone").seconds
    return slope((seconds[0], seconds[1]), (pairs[0], pairs[1]))


def _window(scenario: Scenario) -> int | None:
    return getattr(scenario.model.attention, "window", None)


def _cores(workload: Workload, kind: str) -> tuple[Op, ...]:
    """The attention cores of a kind, one of each shape."""
    found: dict[object, Op] = {}
    for stage in workload.stages:
        for unit in stage.units:
            found |= {op.shape: op for op in unit.ops() if draw_of_core(op) == kind}
    return tuple(found.values())


def core_share(stages: Sequence[StageCost]) -> float:
    """Share of attention cores of packed documents in the kernel time of a micro-batch over all stages."""
    found = [(draw in CORE_DRAWS, segment.seconds) for draw, segment in _segments(stages)]
    whole = fsum(seconds for _, seconds in found)
    return fsum(seconds for is_core, seconds in found if is_core) / whole if whole else 0.0


def _segments(stages: Sequence[StageCost]) -> Iterator[tuple[str, Segment]]:
    for stage in stages:
        for unit in stage.units:
            for (_, regime), block in unit.blocks.items():
                if regime == "alone":
                    yield from ((draw, segment) for _, draw, segment in block.segments)
