"""The memory of a scenario under other recompute, every schedule, other formats and sharding, without simulating a step.

Memory follows from counted work and the order of actions: nothing is priced and nothing drawn. Each variant is a scenario of
its own, loaded with a change or two, so that it is refused where a user's would be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, get_args

from simulator.check import load_scenario
from simulator.errors import InputError
from simulator.results.memory_variants import MemoryVariant, MemoryVariants, VariantKind, VariantMemory
from simulator.results.step_memory import Memory
from simulator.scenario.plan import RecomputeModule
from simulator.scenario.scenario import Scenario
from simulator.schedule import SCHEDULES, vpp_problem
from simulator.step.graph import order_of_actions
from simulator.step.hardware import Hardware, look_up
from simulator.step.memory import step_memory
from simulator.step.prepared import count, memory_question

MODULES: Final[tuple[RecomputeModule, ...]] = get_args(RecomputeModule)
MAX_ZERO: Final = 3
OPTIMIZERS: Final[Mapping[str, str]] = {
    "adamw-fp32-moments": "moments in FP32",
    "adamw-bf16-moments": "moments in BF16",
    "adamw-bf16": "moments in BF16, no master weights",
}
"""From most bytes to fewest, in words."""
Report = Callable[[float], None]
"""Is told which share of the variants is done, 0 to 1."""


@dataclass(frozen=True, slots=True)
class _Change:
    """A variant to be."""

    kind: VariantKind
    name: str
    changes: tuple[str, ...]


def memory_variants(scenario: Scenario, report: Report | None = None) -> MemoryVariants:
    """The variants of a scenario. Raises InputError where it cannot be simulated itself."""
    hardware = look_up(scenario)
    changes = [*_recompute_changes(scenario), *_schedule_changes(scenario), *_state_changes(scenario)]
    found = []
    for place, change in enumerate(changes):
        variant = _variant(scenario, change, hardware)
        if variant is not None:
            found.append(variant)
        if report is not None:
            report((place + 1) / len(changes))
    return MemoryVariants(variants=tuple(found))


def changed(scenario: Scenario, changes: tuple[str, ...]) -> Scenario:
    """The scenario with `key=value` texts laid over it. Raises InputError."""
    return load_scenario(scenario.canonical(), changes, reads_files=False) if changes else scenario


def _variant(scenario: Scenario, change: _Change, hardware: Hardware) -> MemoryVariant | None:
    """The variant with its memory, or why it cannot be; None where the change has no meaning in this model."""
    row = MemoryVariant(kind=change.kind, name=change.name, changes=change.changes)
    try:
        other = changed(scenario, change.changes)
        if _is_meaningless(scenario, other, change):
            return None
        memory = step_memory(memory_question(count(other, hardware)), order_of_actions(other))
    except InputError as error:
        problem = error.problems[0]
        if change.kind == "recompute" and problem.field == "recompute.modules":
            return None  # a module that is not recomputed in such models
        return row.model_copy(update={"why_not": ": ".join(filter(None, (problem.field, problem.message)))})
    return row.model_copy(update={"memory": _summary(memory)})


def _is_meaningless(scenario: Scenario, other: Scenario, change: _Change) -> bool:
    """Whether the loader says that a module to be recomputed is not in the model, or inside another one."""
    told = set(scenario.warnings)
    return change.kind == "recompute" and any(
        "recompute.modules" in text for text in other.warnings if text not in told
    )


def _summary(memory: Memory) -> VariantMemory:
    return VariantMemory(
        peak_bytes=memory.peak_bytes_per_gpu,
        pp_rank=memory.worst_stage.pp_rank,
        by_rank=tuple(stage.peak_bytes for stage in memory.by_stage),
        fits=memory.fits,
        verdict=memory.verdict,
        margin=memory.margin,
    )


def _recompute_changes(scenario: Scenario) -> Iterator[_Change]:
    """None; the modules as they are; each further one with them; whole layers."""
    recompute = scenario.recompute
    own = recompute.modules if recompute.granularity == "selective" else ()
    reset = [f"recompute.{key}" for key in _of_whole_layers(scenario)]
    yield _Change("recompute", "none", _unless(recompute.granularity == "none", "recompute=none", *reset))
    if own:
        yield _Change("recompute", ", ".join(own), ())
    for module in MODULES:
        if module not in own and module != "layer":
            modules = ", ".join((*own, module))
            name = f"{module} too" if own else module
            granularity = [] if own else ["recompute.granularity=selective"]
            yield _Change("recompute", name, (*granularity, f"recompute.modules=[{modules}]", *reset))
    yield _Change("recompute", "full", _unless(recompute.granularity == "full", "recompute=full", *reset))


def _of_whole_layers(scenario: Scenario) -> Iterator[str]:
    """What takes back keys that mean something with granularity full alone."""
    if scenario.recompute.method != "uniform":
        yield "method=uniform"
    if scenario.recompute.num_layers is not None:
        yield "num_layers=null"


def _schedule_changes(scenario: Scenario) -> Iterator[_Change]:
    """Every schedule, with the fewest chunks a rank that it takes where it cannot have the scenario's."""
    parallel = scenario.parallel
    for name in SCHEDULES.names():
        rule, changes = SCHEDULES[name], [f"parallel.schedule={name}"]
        if vpp_problem(name, parallel.vpp) is not None:
            changes += [f"parallel.vpp={rule.fewest_chunks}", "parallel.layers_per_stage=null"]
        if rule.split == "always" and not parallel.split_backward:
            changes.append("parallel.split_backward=true")
        if not rule.overlaps_pairs and parallel.overlap.ep == "pair":
            changes.append("parallel.overlap.ep=none")
        yield _Change("schedule", name, _unless(name == parallel.schedule, *changes))


def _state_changes(scenario: Scenario) -> Iterator[_Change]:
    """Smaller formats of gradients, optimizer and attention's output, more sharding, a smaller micro-batch: where it has not
    got them.
    """
    zero, micro = scenario.parallel.zero_stage, scenario.training.micro_batch_size
    for stage in range(zero + 1, MAX_ZERO + 1):
        yield _Change("state", f"ZeRO {stage}", (f"parallel.zero_stage={stage}",))
    if scenario.data_parallel.grad_reduce.dtype != "bf16":
        yield _Change("state", "gradients in BF16", ("data_parallel.grad_reduce.dtype=bf16",))
    optimizers, own = list(OPTIMIZERS), scenario.training.optimizer
    for name in optimizers[optimizers.index(own) + 1 :] if own in OPTIMIZERS else []:
        yield _Change("state", OPTIMIZERS[name], (f"training.optimizer={name}",))
    if scenario.recompute.saved.attn_out != "e5m6":
        yield _Change("state", "attention output kept in E5M6", ("recompute.saved.attn_out=e5m6",))
    if micro > 1:
        yield _Change("state", f"micro-batch of {micro // 2}", (f"training.micro_batch_size={micro // 2}",))


def _unless(is_current: bool, *changes: str) -> tuple[str, ...]:
    return () if is_current else changes
