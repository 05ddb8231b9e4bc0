"""The graph of a step: the schedule's order of actions, filled with the counted and priced work of every stage."""

from __future__ import annotations

from dataclasses import replace

from simulator.assembly.conservation import check_graph
from simulator.assembly.expand import Form, expand
from simulator.assembly.pairing import Pairing
from simulator.assembly.repriced import repriced
from simulator.assembly.shapes import PricedStep
from simulator.assembly.step_graph import StepGraph
from simulator.assembly.unit_costs import transfers
from simulator.scenario import derived
from simulator.scenario.scenario import Scenario
from simulator.schedule import SCHEDULES, build_schedule
from simulator.schedule.action import Schedule
from simulator.step.data_parallel import plan_collectives
from simulator.step.prepared import PreparedStep
from simulator.step.tail import tail_costs


def order_of_actions(scenario: Scenario, global_batch_size: int | None = None, schedule: str | None = None) -> Schedule:
    """The schedule of a step of `global_batch_size` sequences, the scenario's own by default. Raises InputError."""
    micro_batches = derived.num_micro_batches(scenario, global_batch_size)
    parallel = scenario.parallel
    name = schedule or parallel.schedule
    split = (
        parallel.split_backward or SCHEDULES[name].split == "always"
    )  # a ramp's schedule may be made of what it splits
    return build_schedule(name, parallel.pp, micro_batches, parallel.vpp, split=split)


def build_graph(step: PreparedStep, order: Schedule | None = None, like: StepGraph | None = None) -> StepGraph:
    """The step as a graph with a class table; order: default `order_of_actions` of the full batch. like: the graph of the same
    order under other assumptions; what is the same in both is not built again.

    Raises InconsistentSimulation where an action or FLOP is lost.
    """
    order = order or order_of_actions(step.scenario)
    before = like.form.priced if like and isinstance(like.form, Form) else None
    priced = (
        _priced(step, order) if before is None or not _has_ends_of(step, before) else _priced_as(step, order, before)
    )
    graph = expand(order, priced) if like is None else repriced(order, priced, like)
    check_graph(graph, step.workload, like)
    return graph


def _priced(step: PreparedStep, order: Schedule) -> PricedStep:
    scenario = step.scenario
    collectives = plan_collectives(scenario, step.workload, order, step.messages)
    return PricedStep(
        stages=step.stages,
        tail=tail_costs(scenario, step.workload, order, step.kernels, step.messages, collectives, step.host),
        pairing=_pairing(scenario, order),
        wait_at_boundary=waits_for_its_transfers(step, order),
        collectives=collectives,
        hops=transfers(
            [step.messages.send(step.workload.boundary_bytes, hop) for hop in step.messages.placement.pp_hops]
        ),
        joint=_is_joint(scenario, order),
        host=step.host.of_actions() if step.host else None,
        prices=step,
    )


def _has_ends_of(step: PreparedStep, before: PricedStep) -> bool:
    """Whether its messages, and the kernels of the step's end, cost what they did when `before` was priced."""
    old = before.prices
    return (
        isinstance(old, PreparedStep)
        and old.scenario is step.scenario
        and old.workload is step.workload
        and step.host == old.host
        and step.kernels.has_unshared_of(old.kernels)
        and step.messages.has_alone_of(old.messages)
    )


def _priced_as(step: PreparedStep, order: Schedule, before: PricedStep) -> PricedStep:
    """`_priced`, of what `before` has of the same prices."""
    stretch = step.messages.collective_stretch
    return replace(
        before,
        stages=step.stages,
        wait_at_boundary=waits_for_its_transfers(step, order),
        collectives=tuple(each.stretched(stretch) for each in before.collectives),
        prices=step,
    )


def _pairing(scenario: Scenario, order: Schedule) -> Pairing:
    return Pairing(
        beside=derived.overlaps_pairs(scenario),
        delays_weights=scenario.parallel.overlap.delay_wgrad,
        by_layer=SCHEDULES[order.name].pairs_by_layer,
        waits_for_kernels=scenario.mechanisms.sm_partition,
    )


def _is_joint(scenario: Scenario, order: Schedule) -> bool:
    """As `PricedStep.joint`."""
    return not scenario.parallel.overlap.pp and order.vpp == 1


def waits_for_its_transfers(step: PreparedStep, order: Schedule) -> bool:
    """Whether a rank's next chunk waits for what the rank has sent, where sender and receiver do not wait for each other.

    With virtual stages Megatron-LM posts sends and receives ahead and waits where they are needed, or, without overlap, for
    its sends at the end of a chunk, and so does the executor of torch.distributed.pipelining; elsewhere, and in DualPipeV,
    which DualPipe's executor runs, the assumption says so.
    """
    is_folded_dualpipe = SCHEDULES[order.name].placement == "folded" and SCHEDULES[order.name].overlaps_pairs
    if order.vpp > 1 and not is_folded_dualpipe:
        return not step.scenario.parallel.overlap.pp
    if _is_joint(step.scenario, order):
        return False
    return bool(step.assumptions["pp_boundary_wait"].value)
