"""Asks every family for its problems about a scenario and returns them together, with the positions of the keys.

Scenarios name schedules and topologies as plain text; the families that know these names are in rooms above. The way in
for users is `load_scenario` of this file; every simulation calls `check_scenario` itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final

from hwprofiles.problems import show
from hwprofiles.stack_choice import load_stack
from simulator.errors import InputError, Problem
from simulator.network.domains import domain_use_of
from simulator.network.rules import domain_problems, expert_group_problems, placement_warnings
from simulator.network.topology import build_network
from simulator.network.wiring import TOPOLOGIES
from simulator.registry import Family
from simulator.scenario import derived, json_schema, load
from simulator.scenario.assumptions import assumption_problems, read_assumptions
from simulator.scenario.dispatchers import DISPATCHERS
from simulator.scenario.hardware import fabric_of, hardware_problems, node_of
from simulator.scenario.layers import ScenarioText
from simulator.scenario.load import Checks, Objection, problem_of, python_position
from simulator.scenario.phase_scenarios import is_to_plan
from simulator.scenario.plan import LoadImbalance
from simulator.scenario.recipes import RECIPES
from simulator.scenario.releases import RELEASES
from simulator.scenario.rules import rule_problems
from simulator.scenario.scenario import Scenario
from simulator.scenario.software import SOFTWARE
from simulator.scenario.wording import FieldProblem, multiples, next_valid
from simulator.schedule import (
    SCHEDULES,
    micro_batch_problem,
    moved_problem,
    next_valid_micro_batches,
    rank_problem,
    split_problem,
    vpp_problem,
)
from simulator.workload.group_law import cv_of_maximum

FAMILIES: Final[Mapping[str, Family[Any]]] = {
    family.what: family for family in (DISPATCHERS, SCHEDULES, TOPOLOGIES, RECIPES, RELEASES, SOFTWARE)
}
"""Kind in words → family, as the sections of a scenario mark the keys that hold a name of it."""

NAMES: Final[Mapping[str, Objection]] = {
    "parallel.schedule": SCHEDULES.problem,
    "phases.*.batch_ramp.schedule_below": SCHEDULES.problem,
}


def load_scenario(
    source: str | Path | Mapping[str, Any] | ScenarioText,
    overrides: Sequence[str] = (),
    *,
    position_of: Callable[[int], str] = python_position,
    reads_files: bool = True,
) -> Scenario:
    """The scenario of a preset's name, a path, a mapping or a text, with `key.path=value` overrides; a later one wins.

    position_of: how messages name an override of a number, from 1 on. reads_files: false for what strangers send: presets
    and catalogue entries can be named then, files cannot. Raises InputError with every problem that the format, the
    hardware and the families have with it, in the order of the files and their lines.
    """
    checks = Checks(NAMES, scenario_problems, scenario_warnings, _own_chunks, _shares_ends)
    return load.read_scenario(source, overrides, checks, position_of, reads_files)


def scenario_schema() -> dict[str, Any]:
    """The JSON Schema of the scenario file, with the families' names."""
    return json_schema.scenario_schema({what: family.names() for what, family in FAMILIES.items()})


def check_scenario(scenario: Scenario) -> None:
    """Raise InputError with every problem that the families have with a scenario, where its layout is to be found, and where
    it is no scenario.
    """
    check_type(scenario)
    if is_to_plan(scenario):
        text = "auto is no layout that can be simulated; `moesim run` and `moesim plan` find one, or state one"
        raise InputError([Problem(scenario.where("parallel"), "parallel", text)])
    problems = [problem_of(scenario, *found) for found in (*_name_problems(scenario), *scenario_problems(scenario))]
    if problems:
        raise InputError(problems)


def check_type(scenario: object) -> None:
    """Raise InputError where it is no scenario."""
    if not isinstance(scenario, Scenario):
        text = f"is no scenario ({show(scenario)}); give what load_scenario returns"
        raise InputError([Problem("", "scenario", text)])


def unfit(scenario: Scenario) -> Iterator[FieldProblem]:
    """All that the loader has against a scenario of whose keys each is right by itself, the cheapest to find out first."""
    yield from rule_problems(scenario)
    yield from hardware_problems(scenario)
    yield from scenario_problems(scenario)


def scenario_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    """What the network, the schedules, the routing and the stated assumptions have against a scenario."""
    if problems := list(domain_problems(scenario)):
        yield from problems
        return
    has_names = not any(_name_problems(scenario))
    if has_names:
        yield from _schedule_problems(scenario)
        yield from _paired_problems(scenario)
        yield from _by_layer_problems(scenario)
        yield from _shared_problems(scenario)
    if derived.is_mesh_whole(scenario):
        plan = scenario.parallel
        yield from _pipeline_problems(scenario, has_schedule=has_names and rank_problem(plan.schedule, plan.pp) is None)
    balance, ep = scenario.moe.balance, scenario.parallel.ep
    if isinstance(balance, LoadImbalance) and ep > 1:
        yield from _raised("moe.balance", lambda: cv_of_maximum(balance.load_imbalance, ep))
    yield from _network_problems(scenario)
    yield from expert_group_problems(scenario)
    if scenario.assumptions:
        stated = {**read_assumptions(), **load_stack(scenario.stack).assumptions}
        yield from assumption_problems(scenario, stated)


def scenario_warnings(scenario: Scenario) -> Iterator[FieldProblem]:
    """What has no meaning for the families and is kept all the same."""
    schedule = scenario.parallel.schedule
    if scenario.parallel.overlap.ep == "pair" and not SCHEDULES[schedule].overlaps_pairs:
        yield "parallel.overlap.ep", f"pair has no meaning in {schedule}: it has no overlapped forward and backward"
    if not scenario.parallel.split_backward and SCHEDULES[schedule].split == "never":
        yield "parallel.split_backward", f"false has no meaning in {schedule}: its backwards are whole"
    if scenario.parallel.overlap.ep == "shared_expert":
        moe = scenario.model.moe
        why = "" if moe and moe.num_shared_experts else "the model has no shared experts"
        why = why or ("" if scenario.parallel.ep > 1 else "with ep 1 nothing is dispatched")
        if why:
            yield "parallel.overlap.ep", f"shared_expert has no meaning: {why}"
    if not scenario.parallel.overlap.delay_wgrad and not derived.overlaps_pairs(scenario):
        yield "parallel.overlap.delay_wgrad", "has no meaning with overlap.ep none: nothing runs beside anything"
    elif not scenario.parallel.overlap.delay_wgrad and not SCHEDULES[schedule].overlaps_pairs:
        yield "parallel.overlap.delay_wgrad", f"has no meaning in {schedule}: it has no overlapped forward and backward"
    if not scenario.parallel.overlap.pp and scenario.parallel.pp == 1:
        yield "parallel.overlap.pp", "false has no meaning with pp 1: nothing is sent"
    if isinstance(scenario.moe.balance, LoadImbalance) and scenario.parallel.ep == 1:
        yield "moe.balance", "load_imbalance has no meaning with ep 1: a GPU holds all experts"

    yield from _paired_warnings(scenario)
    yield from placement_warnings(scenario)


def _own_chunks(schedule: str) -> int | None:
    """The chunks of the model a rank that a schedule has; None where they can be chosen, and of an unknown one."""
    return None if SCHEDULES.problem(schedule) is not None else SCHEDULES[schedule].own_chunks


def _shares_ends(schedule: str) -> bool:
    """Whether the pipeline folds back, so that embedding and head are on one rank."""
    return SCHEDULES.problem(schedule) is None and SCHEDULES[schedule].placement == "folded"


def _name_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    """Names of no schedule: the loader has refused them unless it was called without this room."""
    named = {"parallel.schedule": scenario.parallel.schedule}
    for phase in scenario.phases:
        if phase.batch_ramp is not None and phase.batch_ramp.schedule_below is not None:
            named[f"phases.{phase.name}.batch_ramp.schedule_below"] = phase.batch_ramp.schedule_below
    for field, name in named.items():
        problem = SCHEDULES.problem(name)
        if problem is not None:
            yield field, problem


def _network_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    """A fabric of an unknown topology, or one that does not connect so many GPUs."""
    yield from _raised(
        "cluster.fabric",
        lambda: build_network(
            node_of(scenario), fabric_of(scenario), scenario.cluster.num_gpus, domain_use_of(scenario).gpus_per_domain
        ),
    )


def _raised(field: str, call: Callable[[], object]) -> Iterable[FieldProblem]:
    """The problems of an InputError, at `field` where they name none."""
    try:
        call()
    except InputError as error:
        return [(problem.field or field, problem.message) for problem in error.problems]
    return []


def _schedule_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    """Ranks and chunks that the schedule cannot have, and transfers that it does not do."""
    plan, name = scenario.parallel, scenario.parallel.schedule
    if (ranks := rank_problem(name, plan.pp)) is not None:
        more = next(pp for pp in count(plan.pp + 1) if rank_problem(name, pp) is None)
        yield "parallel.pp", f"{name} {ranks}; next valid {more}, or schedule: 1f1b"
    if (chunks := vpp_problem(name, plan.vpp)) is not None:
        yield "parallel.vpp", chunks
    if not plan.split_backward and (problem := split_problem(name)) is not None:
        yield "parallel.split_backward", problem
    if not plan.overlap.pp and SCHEDULES[name].overlaps_pairs:
        text = f"false with schedule {name} is not modelled: how its executor waits says the assumption"
        yield "parallel.overlap.pp", f"{text} pp_boundary_wait; use pp: true"


def _paired_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    """What data parallelism cannot do in schedules that keep a stage on two ranks."""
    used = [scenario.parallel.schedule, *_ramp_schedules(scenario)]
    paired = next((s for s in used if SCHEDULES[s].placement == "mirrored"), None)
    plan, zero = scenario.data_parallel, scenario.parallel.zero_stage
    if paired is None:
        return
    why = f"with schedule {paired}, whose backwards run beside forwards"
    if zero >= 2:
        yield "parallel.zero_stage", f"not modelled yet ({zero} {why}); use zero_stage: 1, or schedule: 1f1b"
    elif plan.grad_reduce.every == "micro_batch":
        text = f"not modelled yet (micro_batch {why})"
        yield "data_parallel.grad_reduce.every", f"{text}; use every: step, or schedule: 1f1b"
    if plan.hsdp_group is not None:
        text = f"not modelled yet ({plan.hsdp_group} {why})"
        yield "data_parallel.hsdp_group", f"{text}; use hsdp_group: null, or schedule: 1f1b"


def _by_layer_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    """What schedules that pair layers of two micro-batches cannot do: Megatron-Core refuses the same
    (core/transformer/transformer_config.py, overlap_moe_expert_parallel_comm).
    """
    name, recompute = scenario.parallel.schedule, scenario.recompute
    if not SCHEDULES[name].pairs_by_layer:
        return
    plain = "interleaved_1f1b" if SCHEDULES[name].build_chunks is not None else "1f1b"
    if scenario.model.moe is None:
        text = f"{name} runs compute beside dispatch and combine, and model {show(scenario.model.name)} has no experts"
        yield "parallel.schedule", f"{text}; use schedule: {plain}"
    elif scenario.parallel.ep == 1:
        yield "parallel.ep", f"1, but {name} runs compute beside dispatch and combine; use ep: 2, or schedule: {plain}"
    text = f"with schedule {name}, whose pairs take a layer apart at its dispatch and combine"
    if recompute.granularity == "full":
        remedy = f"granularity: selective with modules that need no message, or schedule: {plain}"
        yield "recompute.granularity", f"full does not go {text}; use {remedy}"
    for module in sorted({"layer", "moe"} & set(recompute.modules)):
        yield "recompute.modules", f"{module} does not go {text}; leave it out, or use schedule: {plain}"


def _shared_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    """Shared experts cut at their messages cannot be computed again as one (Megatron-Core refuses it too)."""
    if scenario.parallel.overlap.ep == "shared_expert" and "shared_expert" in scenario.recompute.modules:
        text = "shared_expert does not go with overlap.ep shared_expert, which takes shared experts apart"
        yield "recompute.modules", f"{text}; leave it out, or use overlap.ep: none"


def _paired_warnings(scenario: Scenario) -> Iterator[FieldProblem]:
    """Keys of data parallelism that act beside a stage's own passes, in schedules that keep a stage on two ranks."""
    name, plan = scenario.parallel.schedule, scenario.data_parallel
    if SCHEDULES[name].placement == "mirrored" and derived.has_several_holders(scenario):
        why = f"has no meaning in {name}: a stage's gradients and parameters stand on two ranks and move when both are done"
        if plan.param_gather.overlap:
            yield "data_parallel.param_gather.overlap", why
        if plan.bucket_bytes is not None:
            yield "data_parallel.bucket_bytes", why


def _ramp_schedules(scenario: Scenario) -> list[str]:
    """Schedules of the phases' small batches."""
    ramps = [phase.batch_ramp for phase in scenario.phases if phase.batch_ramp is not None and not phase.changes]
    return [ramp.schedule_below for ramp in ramps if ramp.schedule_below is not None]


def _pipeline_problems(scenario: Scenario, *, has_schedule: bool) -> Iterator[FieldProblem]:
    """Batches that are no whole number of micro-batches, or of which the schedule does not exist.

    has_schedule: the schedules are known, and this one exists for so many ranks.
    """
    dp, size, batch = derived.dp(scenario), scenario.training.micro_batch_size, scenario.training.global_batch_size
    if batch % (dp * size):
        name = scenario.parallel.schedule if has_schedule else None
        text = f"{batch} sequences do not divide by dp {dp} * micro_batch_size {size} = {dp * size}"
        yield "training.global_batch_size", f"{text}; {_valid_batches(name, scenario.parallel.pp, batch, dp * size)}"
    elif has_schedule:
        name, num_micro_batches = scenario.parallel.schedule, derived.num_micro_batches(scenario)
        yield from _micro_batch_problems("training.global_batch_size", scenario, name, num_micro_batches)
        yield from _ramp_problems(scenario)


def _valid_batches(schedule: str | None, pp: int, batch: int, unit: int) -> str:
    """'next valid 15360, 15616': the multiples of `unit` around a batch that the schedule can run, where it is known."""
    if schedule is None:
        return multiples(batch, unit)
    below, above = (
        next_valid_micro_batches(schedule, pp, max(1, count)) for count in (batch // unit, batch // unit + 1)
    )
    return next_valid((below[0] * unit, above[-1] * unit))


def _ramp_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    """The first batch of each ramp: the phase's schedule runs it, or the one for small batches."""
    name, pp, vpp = scenario.parallel.schedule, scenario.parallel.pp, scenario.parallel.vpp
    minimum = next_valid_micro_batches(name, pp, 1)[-1]
    for phase in scenario.phases:
        ramp = None if phase.changes else phase.batch_ramp
        num_micro_batches = 0 if ramp is None else derived.num_micro_batches(scenario, ramp.from_)
        if ramp is None or num_micro_batches >= minimum or num_micro_batches == 0:
            continue
        field = f"phases.{phase.name}.batch_ramp"
        below = ramp.schedule_below
        if below is None:
            text = f"{ramp.from_} sequences are {num_micro_batches} micro-batches a pipeline, {name} needs {minimum}"
            smallest = ramp.from_ // num_micro_batches * minimum
            other = _schedule_below(name, pp, num_micro_batches)
            other = f", or name a schedule_below such as {other}" if other else ""
            yield f"{field}.from", f"{text}; allowed at least {smallest}{other}"
        elif (problem := rank_problem(below, pp)) is not None:
            yield f"{field}.schedule_below", f"{below} {problem}"
        elif (problem := moved_problem(name, below)) is not None and vpp_problem(name, vpp) is None:
            unit = ramp.from_ // num_micro_batches
            remedy = f"leave it out and start the ramp at {unit * minimum} sequences or more"
            other = _schedule_below(name, pp, num_micro_batches)
            yield f"{field}.schedule_below", f"{problem}; use {other}, or {remedy}" if other else f"{problem}; {remedy}"
        else:
            yield from _micro_batch_problems(f"{field}.from", scenario, below, num_micro_batches)


def _schedule_below(name: str, pp: int, num_micro_batches: int) -> str:
    """A schedule with the stages where `name` has them that can run so few micro-batches; "" where there is none."""
    for other in SCHEDULES:
        fits = other != name and moved_problem(name, other) is None and rank_problem(other, pp) is None
        if fits and micro_batch_problem(other, pp, num_micro_batches) is None:
            return other
    return ""


def _micro_batch_problems(
    field: str, scenario: Scenario, schedule: str, num_micro_batches: int
) -> Iterator[FieldProblem]:
    problem = micro_batch_problem(schedule, scenario.parallel.pp, num_micro_batches)
    if problem is not None:
        unit = derived.dp(scenario) * scenario.training.micro_batch_size
        valid = next_valid_micro_batches(schedule, scenario.parallel.pp, num_micro_batches)
        batches = " or ".join(str(count * unit) for count in valid)
        yield field, f"{problem} micro-batches, which is {batches} sequences"
