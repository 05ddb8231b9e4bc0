"""Laws of one simulated step, each over every drawn scenario; a scenario is simulated once for all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from simulator.assembly.chunks import StageCost, UnitCost
from simulator.assembly.host import ISSUE
from simulator.engine import sweep, sweep_batch
from simulator.results.explain import category_names
from simulator.results.step_result import BASIS_NAMES
from simulator.schedule import build_schedule
from simulator.step.prepared import expert_group
from tests.laws.runs import ROUNDING, Run, simulate
from tests.laws.scenarios import LAW, Document, scenarios


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for entry in value:
            yield from _numbers(entry)
    elif isinstance(value, float):
        yield value


def all_numbers_are_finite(run: Run) -> None:
    numbers = list(_numbers(run.result.model_dump()))
    assert len(numbers) > 20
    assert all(map(math.isfinite, numbers))
    assert np.isfinite(run.outcome.step_s).all()


def _shortest(unit: UnitCost, what: str) -> float:
    """Seconds of a block or of an all-to-all where they are least; 0 where the unit has none."""
    blocks = [sum(s.seconds for _, _, s in cost.segments) for (name, _), cost in unit.blocks.items() if name == what]
    sent = [segment.seconds for (key, _), segment in unit.all_to_all.items() if key == what]
    return min(blocks or sent or [0.0])


def _unit_path(unit: UnitCost) -> float:
    """Forward and input gradient of one micro-batch: what has to happen one after the other, from the definition."""
    t = {key: _shortest(unit, key) for key in ("attn_f", "mlp_f_local", "mlp_f_routed", "dispatch_f", "combine_f")}
    t |= {key: _shortest(unit, key) for key in ("attn_b", "mlp_b_local", "mlp_b_routed", "dispatch_b", "combine_b")}
    forward = t["attn_f"] + max(t["mlp_f_local"], t["dispatch_f"]) + t["mlp_f_routed"] + t["combine_f"]
    return forward + max(t["mlp_b_local"], t["combine_b"]) + t["mlp_b_routed"] + t["dispatch_b"] + t["attn_b"]


def _turns_of_rank(run: Run) -> int:
    """How often a micro-batch goes from a rank to another on its way forward: not where both stages stand on one."""
    parallel = run.prepared.scenario.parallel
    order = build_schedule(parallel.schedule, parallel.pp, run.graph.num_micro_batches, parallel.vpp)
    ranks = [order.rank_of(stage, 0) for stage in range(order.num_stages)]
    return sum(here != there for here, there in pairwise(ranks))


def at_least_the_critical_path(run: Run) -> None:
    """A micro-batch goes forward and back through every stage, and is sent between them: on the device alone, which a host
    that issues this only makes wait.
    """
    stages: tuple[StageCost, ...] = run.prepared.stages
    there_and_back = sum(_unit_path(unit) for stage in stages for unit in stage.units)
    hops: dict[str, float] = {}
    for label, segment in zip(run.graph.labels, run.graph.classes, strict=True):
        if ".send_" in label and not label.endswith(ISSUE):
            hops[label] = min(segment.seconds, hops.get(label, segment.seconds))
    sent = sum(hops.values())
    assert len(hops) == 2 * _turns_of_rank(run)
    assert run.outcome.even_s >= (there_and_back + sent) * (1 - ROUNDING)


def at_least_the_busiest_stream(run: Run) -> None:
    """Of every rank and lane: kernels, network, collectives."""
    dag = run.graph.dag
    seconds, draws = run.graph.class_seconds()[dag.op_class], run.draws(0)
    busy = np.bincount(dag.resource, seconds, dag.num_resources)
    assert run.outcome.even_s >= busy.max() * (1 - ROUNDING)
    if draws is not None:
        times = np.concatenate((draws, np.ones((1, draws.shape[1]))))[dag.draw_row]
        busy = np.stack([np.bincount(dag.resource, seconds * lane, dag.num_resources) for lane in times.T])
        assert run.outcome.step_s[0] >= busy.max() * (1 - ROUNDING)


def at_least_its_flop_at_peak(run: Run) -> None:
    """No rank computes faster than the datasheet allows."""
    executed = run.graph.num_micro_batches * sum(
        op.flop / run.prepared.hardware.gpu.peak_flop_per_s["bf16" if op.shape.dtype in ("bf16", "fp32") else "fp8"]
        for stage in run.prepared.workload.stages for unit in stage.units for op in unit.ops()
    )  # fmt: skip
    assert run.step_s >= executed / run.graph.num_ranks
    assert 0 < run.result.step.mfu.bf16_dense_causal <= run.result.step.mfu.bf16_dense_noncausal


def parts_sum_to_the_step(run: Run) -> None:
    step = run.result.step
    assert len(step.by_rank) == run.prepared.scenario.parallel.pp
    for parts in (*step.by_rank, step.parts.edge, step.parts.mean, step.parts.middle):
        assert parts.total_s == pytest.approx(step.step_s, rel=ROUNDING)


def categories_sum_to_the_step(run: Run) -> None:
    step = run.result.step
    assert math.fsum(row.seconds for row in step.by_category) == pytest.approx(step.step_s, rel=ROUNDING)
    assert math.fsum(row.share for row in step.by_category) == pytest.approx(1.0, rel=ROUNDING)


def basis_sums_to_one(run: Run) -> None:
    shares = [getattr(run.result.basis, name) for name in BASIS_NAMES]
    assert math.fsum(shares) == pytest.approx(1.0, rel=ROUNDING)


def classes_are_the_sum_of_their_categories(run: Run) -> None:
    for segment in run.graph.classes:
        assert math.fsum(segment.by_category.values()) == pytest.approx(segment.seconds, rel=ROUNDING, abs=1e-15)
        assert math.fsum(segment.by_basis.values()) == pytest.approx(segment.seconds, rel=ROUNDING, abs=1e-15)
        assert 0 <= segment.low <= segment.seconds <= segment.high


def the_interval_holds_the_step(run: Run) -> None:
    step = run.result.step
    assert 0 <= step.interval.low <= step.step_s <= step.interval.high


def nothing_binds_more_than_the_step(run: Run) -> None:
    """A power limit that slows nothing down binds nothing, though a chip at work is slower than its first launches."""
    rows, power = run.result.step.binding, run.result.step.power
    assert power is not None
    added = {"expert_imbalance", "speed_spread", *(["power_limit"] if power.limited else [])}
    assert {row.what for row in rows} - added == set(category_names(run.graph))
    assert all(0 <= row.seconds <= run.step_s for row in rows)
    assert [row.seconds for row in rows] == sorted((row.seconds for row in rows), reverse=True)


def tokens_are_counted_once(run: Run) -> None:
    scenario, step = run.prepared.scenario, run.result.step
    assert step.tokens_per_step == scenario.training.global_batch_size * scenario.training.seq_len
    rate = step.tokens_per_s_per_gpu * scenario.cluster.num_gpus
    assert rate * step.step_s == pytest.approx(step.tokens_per_step, rel=ROUNDING)


def twice_the_durations_is_twice_the_step(run: Run) -> None:
    """Exactly: a power of two changes no rounding."""
    seconds = run.graph.class_seconds()
    assert sweep(run.graph.dag, 2 * seconds).makespan_s == 2 * run.outcome.even_s
    draws = run.draws(0)
    if draws is not None:
        doubled = sweep_batch(run.graph.dag, 2 * seconds, draws[None], num_threads=1).makespan_s[0]
        assert doubled == 2 * run.outcome.step_s[0]


def mean_durations_are_never_slower(run: Run) -> None:
    """In every draw: over the lanes the mean of any path is its length under the mean durations.

    GPUs of one speed have the even loads as that mean: no draw is faster than these.
    """
    draws = run.draws(0)
    if draws is not None:
        mean = sweep(run.graph.dag, run.graph.class_seconds(), draws.mean(axis=1, keepdims=True))
        assert run.outcome.step_s[0] >= mean.makespan_s * (1 - ROUNDING)
    if run.prepared.random.speed_cv == 0:
        assert run.outcome.step_s.min() >= run.outcome.even_s * (1 - ROUNDING)


def nodes_may_be_swapped(run: Run) -> None:
    """The nodes of an expert group change places, with their loads and speeds: nothing changes."""
    draws, nodes = run.draws(0), len(expert_group(run.prepared.scenario, run.prepared.hardware).members)
    if draws is None or nodes == 1:
        return
    swapped = draws.reshape(len(draws), nodes, -1)[:, ::-1].reshape(draws.shape)
    assert not np.array_equal(swapped, draws)
    makespan = sweep_batch(run.graph.dag, run.graph.class_seconds(), swapped[None], num_threads=1).makespan_s[0]
    assert makespan == run.outcome.step_s[0]


def the_fullest_instant_is_one_sum(run: Run) -> None:
    memory = run.result.memory
    for rank in memory.by_stage:
        held = rank.weights_bytes + rank.gradients_bytes + rank.optimizer_bytes + rank.buffers_bytes
        assert rank.peak_bytes == held + rank.activations_bytes
        assert min(rank.weights_bytes, rank.gradients_bytes, rank.optimizer_bytes, rank.activations_bytes) > 0
    assert memory.fits == (max(rank.peak_bytes for rank in memory.by_stage) <= memory.usable_bytes)


ONE_STEP: tuple[Callable[[Run], None], ...] = (
    all_numbers_are_finite,
    at_least_the_critical_path,
    at_least_the_busiest_stream,
    at_least_its_flop_at_peak,
    parts_sum_to_the_step,
    categories_sum_to_the_step,
    basis_sums_to_one,
    classes_are_the_sum_of_their_categories,
    the_interval_holds_the_step,
    nothing_binds_more_than_the_step,
    tokens_are_counted_once,
    twice_the_durations_is_twice_the_step,
    mean_durations_are_never_slower,
    nodes_may_be_swapped,
    the_fullest_instant_is_one_sum,
)


@settings(LAW, max_examples=40)
@given(scenarios(max_cp=4))
def test_one_step(document: Document) -> None:
    run = simulate(document)
    for law in ONE_STEP:
        law(run)
