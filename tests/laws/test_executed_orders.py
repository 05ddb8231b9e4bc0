"""Law: with equal stages and free transfers a step is its schedule's order, executed with the seconds of one stage."""

from __future__ import annotations

import pytest

from simulator import load_scenario
from simulator.assembly.pair import Pairing, build_template
from simulator.schedule import SCHEDULES, Kind
from simulator.schedule.check import dry_run
from simulator.step.graph import order_of_actions
from simulator.step.prepared import prepare
from simulator.step.step import simulate_prepared
from tests.laws.runs import ROUNDING
from validation.trace_pair import makespan

EQUAL = (
    "cluster.num_gpus=4", "parallel.pp=4", "model.num_layers=16", "model.num_dense_layers=16", "training.seq_len=1024",
    "training.global_batch_size=12", "device.speed_cv=0", "mechanisms.stage_imbalance=false", "mechanisms.pp_transfer=false",
    "mechanisms.zero_collectives=false", "device.clock=burst", "mechanisms.host_stream=false",
)  # fmt: skip


@pytest.mark.parametrize("schedule", [name for name in SCHEDULES if not SCHEDULES[name].overlaps_pairs])
def test_the_step_is_the_executed_order(schedule: str) -> None:
    chunks = ("parallel.vpp=2",) if SCHEDULES[schedule].own_chunks is None else ()
    step = prepare(load_scenario("llama-3.1-70b", (*EQUAL, *chunks, f"parallel.schedule={schedule}")))
    order, stage = order_of_actions(step.scenario), step.stages[0]
    kinds: tuple[Kind, ...] = ("F", "B", "I", "W")
    seconds = {
        kind: makespan(build_template(kind, stage, None, pairing=Pairing(), wait_at_boundary=False)) for kind in kinds
    }
    starts = dry_run(order, seconds)  # type: ignore[arg-type]  # lengths in seconds
    found = simulate_prepared(step, explained=False).step
    ends = [row[-1] + seconds[actions[-1].kind] for row, actions in zip(starts, order.ranks, strict=True)]
    assert found.step_s - found.optimizer_s == pytest.approx(max(ends), rel=ROUNDING)
    for rank, (end, actions) in enumerate(zip(ends, order.ranks, strict=True)):
        idle_s = max(ends) - sum(seconds[action.kind] for action in actions)
        assert found.by_rank[rank].bubble_s == pytest.approx(idle_s, abs=1e-9), f"rank {rank} ends at {end}"
