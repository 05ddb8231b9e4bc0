"""A step before its order of actions is chosen: hardware looked up, router asked, work counted, prices found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from hwprofiles.stack_records import Assumption, Stack
from simulator.assembly.chunks import StageCost
from simulator.assembly.exposed import UNCHUNKED, Chunking
from simulator.assembly.issue import UnitIssue
from simulator.assembly.unit_costs import NOTHING_KEPT, Kept, Prices, stage_costs
from simulator.check import check_scenario
from simulator.network.placement import Lie
from simulator.scenario import derived
from simulator.scenario.assumptions import resolve_assumptions
from simulator.scenario.scenario import Scenario
from simulator.schedule import SCHEDULES
from simulator.step.documents import core_share, document_load
from simulator.step.draws import Randomness, randomness
from simulator.step.hardware import Hardware, look_up, with_assumptions
from simulator.step.host import HostPrices, host_prices
from simulator.step.memory import MemoryQuestion
from simulator.step.messages import MessagePrices, message_prices
from simulator.step.offload import with_copies
from simulator.step.pricing import KernelPrices, kernel_prices
from simulator.step.routing import ask_router, capacity_of, load_model, slowest_lie
from simulator.workload.counted import count_workload
from simulator.workload.expert_load import LoadModel
from simulator.workload.memory import MemoryAssumptions
from simulator.workload.op import Unit, Workload


@dataclass(frozen=True)
class PreparedStep:
    """Everything of a step that does not depend on its batch and order of actions: work counted, prices looked up.

    assumptions: stated values and the scenario's own. random: what is drawn. stages: seconds of every stage's units, with
    GEMMs and collectives chunked as chunking says. host: None: it holds nothing up.
    """

    scenario: Scenario
    assumptions: Mapping[str, Assumption]
    hardware: Hardware
    workload: Workload
    random: Randomness
    kernels: KernelPrices
    messages: MessagePrices
    chunking: Chunking
    stages: tuple[StageCost, ...]
    host: HostPrices | None = None

    def has_prices_of(self, other: PreparedStep) -> bool:
        """Whether operators and messages cost the same in both: then so do their stages."""
        mine, others = ((of.kernels, of.messages, of.chunking, of.host) for of in (self, other))
        return mine == others


@dataclass(frozen=True)
class CountedStep:
    """A step before anything is priced: what its memory follows from. load: as of `price`."""

    scenario: Scenario
    assumptions: Mapping[str, Assumption]
    hardware: Hardware
    workload: Workload
    load: LoadModel | None


def count(scenario: Scenario, hardware: Hardware | None = None) -> CountedStep:
    """Checks, looks up, asks the router, counts. Raises InputError for what the families refuse.

    hardware: the scenario's, where it is known already.
    """
    check_scenario(scenario)
    hardware = hardware or look_up(scenario)
    assumptions = resolve_assumptions(scenario, hardware.stack)
    group = expert_group(scenario, hardware)
    routing = ask_router(scenario, group, assumptions)
    capacity = capacity_of(scenario, group, routing, assumptions)
    workload = count_workload(scenario, len(group.members), routing, capacity)
    return CountedStep(scenario, assumptions, hardware, workload, load_model(scenario, group, routing, capacity))


def prepare(scenario: Scenario, stack: Stack | None = None) -> PreparedStep:
    """`count`, and prices, of the stack that is given in place of the scenario's. Raises as `count` and `look_up` do."""
    step = count(scenario, None if stack is None else look_up(scenario, stack))
    return price(scenario, step.hardware, step.assumptions, step.workload, step.load)


def has_full_grid(scenario: Scenario) -> bool:
    """Whether kernels beside dispatch and combine are launched on the whole GPU: but for DualPipe's executor, whose kernels
    leave their SMs to these.
    """
    plan = scenario.parallel
    return plan.overlap.ep == "shared_expert" or SCHEDULES[plan.schedule].pairs_by_layer


def memory_question(step: CountedStep | PreparedStep) -> MemoryQuestion:
    """What the step's memory follows from."""
    value, low, high = (
        MemoryAssumptions.of({key: getattr(assumption, end) for key, assumption in step.assumptions.items()})
        for end in ("value", "low", "high")
    )
    load = step.load if isinstance(step, CountedStep) else step.random.load
    return MemoryQuestion(step.scenario, step.hardware, step.workload, load, value, low, high)


def expert_group(scenario: Scenario, hardware: Hardware) -> Lie:
    """How the expert group lies that the others wait for."""
    moe = scenario.model.moe
    return slowest_lie(hardware.placement.expert_groups, moe.top_k if moe else 1)


def price(
    scenario: Scenario,
    hardware: Hardware,
    assumptions: Mapping[str, Assumption],
    workload: Workload,
    load: LoadModel | None,
    before: PreparedStep | None = None,
) -> PreparedStep:
    """Counted work on given hardware under given assumptions.

    load: how unevenly experts are loaded, None: evenly. before: the same step under other assumptions; what holds here too
    is not priced again.
    """
    hardware = with_assumptions(hardware, assumptions)
    is_dispatching = any(unit.all_to_all for stage in workload.stages for unit in stage.units)
    full_grid = has_full_grid(scenario)
    kernels = kernel_prices(
        scenario, hardware, assumptions, is_dispatching=is_dispatching, full_grid=full_grid,
        before=before.kernels if before else None,
    )  # fmt: skip
    messages = message_prices(scenario, hardware, assumptions, before.messages if before else None, full_grid=full_grid)
    step = PreparedStep(
        scenario=scenario,
        assumptions=assumptions,
        hardware=hardware,
        workload=workload,
        random=randomness(
            scenario,
            _on_links(load, workload, messages),
            assumptions["gpu_speed_cv"].value,
            before.random.documents if before else None,
        ),
        kernels=kernels,
        messages=messages,
        chunking=_chunking(scenario, assumptions, kernels.gap_s, hardware.gpu.num_sms),
        stages=before.stages if before else (),
        host=host_prices(scenario, assumptions, hardware.stack),
    )
    if before is not None and step.has_prices_of(before):
        return step
    documents = document_load(scenario, workload, kernels)
    step = replace(step, stages=_stages(step, _kept(step, before) if before else NOTHING_KEPT))
    if documents is None:
        return step
    documents = replace(documents, share=core_share(step.stages))
    return replace(step, random=replace(step.random, documents=documents))


def _stages(step: PreparedStep, kept: Kept) -> tuple[StageCost, ...]:
    """Seconds of every stage's units at the step's prices."""
    has_beside = derived.has_collectives_beside_compute(step.scenario)
    issue = step.host.unit if step.host else None
    priced = prices(step.kernels, step.messages, has_beside=has_beside, chunking=step.chunking, issue=issue)
    stages = stage_costs(step.workload, priced, kept)
    return with_copies(stages, step.scenario, step.workload, step.messages.host, memory_question(step).assumed)


def _kept(step: PreparedStep, before: PreparedStep) -> Kept:
    """What of a step's prices holds under other assumptions."""
    is_issued_alike = step.host.issues_as(before.host) if step.host else before.host is None
    if before.workload is not step.workload or before.scenario is not step.scenario or not is_issued_alike:
        return NOTHING_KEPT
    regimes = step.kernels.same_regimes(before.kernels)
    held = "alone" in regimes and step.kernels.collective_sms == before.kernels.collective_sms
    collectives = held and (step.messages, step.chunking) == (before.messages, before.chunking)
    return Kept(before.stages, regimes, held, step.messages.same_regimes(before.messages), collectives)


def _on_links(load: LoadModel | None, workload: Workload, messages: MessagePrices) -> LoadModel | None:
    """The load model that knows what dispatch and combine follow: of the step's messages, the first of each kernel."""
    sent = [each for stage in workload.stages for unit in stage.units for each in unit.all_to_all.values()]
    if load is None or not sent:
        return load
    dispatch, combine = (
        messages.loaded_links(next(each for each in sent if each.op == op)) for op in ("dispatch", "combine")
    )
    return replace(load, dispatch=dispatch, combine=combine)


def prices(
    kernels: KernelPrices, messages: MessagePrices, *, has_beside: bool = False, chunking: Chunking = UNCHUNKED,
    issue: Callable[[Unit], UnitIssue] | None = None,
) -> Prices:  # fmt: skip
    """Operator or message → seconds. has_beside: data-parallel collectives may run beside kernels. chunking: of GEMMs with the
    collectives around them. issue: what it takes the host to issue a unit.
    """
    return Prices(
        kernels.seconds, messages.all_to_all, kernels.gap_s, messages.collective,
        held=kernels.beside_collective, has_beside=has_beside, chunking=chunking,
        stretch=messages.collective_stretch, issue=issue,
    )  # fmt: skip


def _chunking(scenario: Scenario, assumptions: Mapping[str, Assumption], launch_s: float, num_sms: int) -> Chunking:
    if scenario.parallel.overlap.tp == "none":
        return UNCHUNKED
    held = assumptions["tp_overlap_sms"].value / num_sms
    return Chunking(assumptions["tp_overlap_chunks"].value, launch_s, held)
