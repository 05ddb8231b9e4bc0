"""Laws with a closed form: pipelines so simple that their step is a sum.

Even loads, GPUs of one speed, chunks that wait for the transfers before them: then everything has a fixed length.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.assembly.tail import TailCosts
from simulator.assembly.unit_costs import Prices
from simulator.schedule import Schedule, build_schedule
from simulator.step import tail
from simulator.step.data_parallel import plan_collectives
from simulator.step.prepared import prices
from simulator.workload.op import Collective, Op, Unit, Work
from tests.laws.runs import ROUNDING, Run, changed, simulate
from tests.laws.scenarios import LAW, Document, scenarios


def steady(document: Document, **sections: object) -> Document:
    """The scenario without anything random or waiting for a host, at full speed, its gradients reduced at the end, other keys
    changed.
    """
    fixed = changed(
        document, moe={"balance": "forced"}, device={"speed_cv": 0.0, "clock": "burst"},
        assumptions={"pp_boundary_wait": 1}, draws=1, mechanisms={"host_stream": False},
        data_parallel={"param_gather": {"overlap": False}, "grad_reduce": {"overlap": False, "every": "step"}},
        parallel={
            "zero_stage": document["parallel"]["zero_stage"] % 2,  # 2 reduces a single micro-batch inside it
            "overlap": {**document["parallel"]["overlap"], "tp": "none"},
        },
    )  # fmt: skip
    return changed(fixed, **sections)


def _order(run: Run) -> Schedule:
    parallel = run.prepared.scenario.parallel
    return build_schedule(parallel.schedule, parallel.pp, run.graph.num_micro_batches, parallel.vpp)


def tail_costs(run: Run) -> TailCosts:
    prepared = run.prepared
    asked = prepared.scenario, prepared.workload, _order(run)
    planned = plan_collectives(*asked, prepared.messages)
    return tail.tail_costs(*asked, prepared.kernels, prepared.messages, planned)


def _seconds(costs: Prices, unit: Unit, each: Work) -> float:
    """A kernel with its gaps; of a collective what the kernel beside it, if there is one, leaves of it."""
    if isinstance(each, Op):
        return costs.kernel(each, "alone").seconds + each.shape.num_kernels * costs.gap_s
    cost = costs.collective(each)
    if not each.beside:
        return cost.seconds
    (beside,) = (op for op in unit.ops() if op.name == each.beside)
    alone = costs.kernel(beside, "alone").seconds
    slow = max(1.0, costs.held(beside).seconds / alone)
    stretch = cost.beside_s(costs.stretch) / cost.seconds if cost.seconds else 1.0
    together = min(cost.seconds * stretch, alone * slow)
    return together + (alone - together / slow) + (cost.seconds - together / stretch) - alone


def unit_seconds(run: Run, unit: Unit) -> float:
    """All kernels of a unit, the gaps between them, and its messages, one after the other."""
    costs = prices(run.prepared.kernels, run.prepared.messages)
    total = sum(costs.all_to_all(message, "alone").seconds for message in unit.all_to_all.values())
    for name, ops in unit.blocks.items():
        if name != "combine_b_cast" or unit.all_to_all:
            total += sum(_seconds(costs, unit, each) for each in ops)
    return total


def hidden_seconds(run: Run, unit: Unit) -> float:
    """What weight gradients hide of the collectives beside them."""
    costs = prices(run.prepared.kernels, run.prepared.messages)
    later = {op.name for op in unit.ops() if op.phase == "W"}
    beside = [
        each for ops in unit.blocks.values() for each in ops if isinstance(each, Collective) and each.beside in later
    ]
    return sum(costs.collective(each).seconds - _seconds(costs, unit, each) for each in beside)


def early_seconds(run: Run, unit: Unit) -> float:
    """The exchange with which a unit's backward begins, and the cast before it."""
    costs = prices(run.prepared.kernels, run.prepared.messages)
    if not unit.all_to_all:
        return 0.0
    cast = sum(_seconds(costs, unit, each) for each in unit.blocks.get("combine_b_cast", ()))
    return cast + costs.all_to_all(unit.all_to_all["combine_b"], "alone").seconds


def _free_backwards(run: Run) -> int:
    """Backwards of the only rank that do not stand directly behind the one alone that they wait for (B or I of the stage
    behind theirs, of the same micro-batch).
    """
    actions = [action.halves() for action in _order(run).ranks[0]]
    backwards = [(half, before) for before, halves in pairwise(((), *actions)) for half in halves if half[0] in "BI"]
    return sum(
        not (len(before) == 1 and before[0][0] in "BI" and before[0][1:] == (stage + 1, micro_batch))
        for (_, stage, micro_batch), before in backwards
    )


@settings(LAW, max_examples=12)
@given(scenarios(pp=1, max_cp=4))
def test_one_stage_takes_the_sum_of_its_operators(document: Document) -> None:
    """Nothing to overlap with: a lone chunk computes nothing beside its dispatch and combine.

    Weight gradients that come later are not beside the collectives that they would hide. The backward of the first of all
    stages sends nothing: with two chunks of the model, the exchange with which the next backward begins may run beside its end.
    So it may beside a forward's, where the dispatcher copies rows behind its combine.
    """
    run = simulate(steady(document, parallel={"overlap": {"ep": "none"}}))
    tail, stages = tail_costs(run), run.prepared.workload.stages
    total = run.graph.num_micro_batches * sum(unit_seconds(run, unit) for stage in stages for unit in stage.units)
    later = Counter(half[1] for action in _order(run).ranks[0] for half in action.halves() if half[0] == "I")
    total += sum(count * hidden_seconds(run, unit) for stage, count in later.items() for unit in stages[stage].units)
    end = tail.norm[0].seconds + tail.optimizer[0].seconds
    end += sum(segment.seconds for stage in (*tail.reduce, *tail.gather) for _, segment in stage)
    early_s = max(early_seconds(run, stage.units[-1]) for stage in stages) if len(stages) > 1 else 0.0
    saved_s, rounding_s = total + end - run.step_s, ROUNDING * run.step_s
    assert -rounding_s <= saved_s <= _free_backwards(run) * early_s + rounding_s
    assert run.result.step.bubble_s == pytest.approx(0.0, abs=ROUNDING * run.step_s)
    assert run.result.step.optimizer_s == pytest.approx(end, rel=1e-6)


@settings(LAW, max_examples=10)
@given(scenarios(pp=1))
def test_one_stage_is_compute_and_what_no_compute_hides(document: Document) -> None:
    """Also where a chunk may begin beside the end of the one before it."""
    run = simulate(steady(document, assumptions={"pp_boundary_wait": 0}))
    rows = {row.category: row.seconds for row in run.result.step.by_category}
    end, exposed, bubble = (rows.pop(name) for name in ("optimizer", "exposed_communication", "bubble"))
    assert bubble == pytest.approx(0.0, abs=ROUNDING * run.step_s)
    assert run.step_s == pytest.approx(sum(rows.values()) + exposed + end, rel=ROUNDING)
    sent = sum(
        run.prepared.messages.all_to_all(message, "alone").seconds
        for stage in run.prepared.workload.stages for unit in stage.units for message in unit.all_to_all.values()
    )  # fmt: skip
    assert exposed <= run.graph.num_micro_batches * sent * 1.5 + ROUNDING * run.step_s


@pytest.mark.parametrize("way", [("gpipe", 1), ("1f1b", 1), ("interleaved_1f1b", 2)])
@settings(LAW, max_examples=8)
@given(scenarios(), st.integers(1, 24))
def test_bubble_of_equal_stages(way: tuple[str, int], document: Document, micro_batches: int) -> None:
    """(P - 1)(F + B) of a stage on every rank, whatever the number of micro-batches, with free transfers; with virtual stages
    of one of a rank's v chunks: (P - 1) / (m v) of the ideal compute.

    The backward of the first of all stages sends nothing: with virtual stages the exchange at the beginning of the backward
    that follows may run beside its end. What this saves is waited for later.
    """
    pp, tp = document["parallel"]["pp"], document["parallel"]["tp"]
    schedule, vpp = way if pp > 1 and way[1] * pp <= document["model"]["num_layers"] else ("1f1b", 1)
    micro_batches *= pp if vpp > 1 else 1
    dp, size = document["cluster"]["num_gpus"] // (pp * tp), document["training"]["micro_batch_size"]
    run = simulate(
        steady(
            document,
            parallel={
                "schedule": schedule,
                "vpp": vpp,
                "layers_per_stage": None,
                "overlap": {"ep": "none", "pp": vpp == 1},
            },
            training={"global_batch_size": dp * size * micro_batches},
            mechanisms={"pp_transfer": False, "zero_collectives": False, "stage_imbalance": False},
        )
    )
    stage, ending, step = run.prepared.workload.stages[0], tail_costs(run), run.result.step
    chunks = sum(unit_seconds(run, unit) for unit in stage.units)
    early_s = early_seconds(run, stage.units[-1]) if vpp > 1 else 0.0
    for idx, rank in enumerate(step.by_rank):
        saved_s = vpp * chunks * micro_batches - (rank.forward_s + rank.backward_s)
        if idx == 0 and early_s > 0:
            assert -ROUNDING * vpp * chunks <= saved_s / micro_batches <= early_s
        else:
            assert saved_s / micro_batches == pytest.approx(0.0, abs=ROUNDING * vpp * chunks)
        assert rank.bubble_s - saved_s == pytest.approx((pp - 1) * chunks, rel=1e-6, abs=ROUNDING * chunks)
    end = ending.norm[0].seconds + max(segment.seconds for segment in ending.optimizer)
    end += sum(segment.seconds for _, segment in ending.reduce[0])
    end = end if vpp == 1 else step.optimizer_s
    assert step.step_s == pytest.approx((micro_batches * vpp + pp - 1) * chunks + end, rel=1e-8)
