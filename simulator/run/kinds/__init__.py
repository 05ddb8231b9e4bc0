"""Phases of other kinds than pre-training: what their step trains, how many steps, and what their hours are made of.

`trained_scenario` first; its step is simulated; then `kind_model` says the hours. Fine-tuning,
reinforcement learning and evaluation are pure functions of the scenario, of stated assumptions and of the seconds of that step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Final

from hwprofiles.provenance import Source
from hwprofiles.stack_records import Assumption
from hwprofiles.units import SECONDS_PER_HOUR
from simulator.errors import InputError, Problem
from simulator.run.kinds import engines, evaluation, rl, rollout, sft
from simulator.run.kinds.kind_model import KindModel, Values
from simulator.run.kinds.packing import Packed
from simulator.scenario.assumptions import kind_assumptions
from simulator.scenario.derived import useful_tokens
from simulator.scenario.phase import Phase
from simulator.scenario.phase_kinds import Kind
from simulator.scenario.scenario import Scenario

PACKING: Final[Mapping[str, Callable[[Scenario, Values], Packed]]] = MappingProxyType(
    {"sft": sft.packed_instances, "rl": rl.packed_answers}
)
"""Kind → how what it trains on fills sequences."""


def packs(phase: Phase) -> bool:
    """Whether what the phase trains on fills sequences in its own way, so that its step is none of the scenario's."""
    return phase.kind in PACKING


def trained_scenario(scenario: Scenario, phase: Phase) -> Scenario:
    """What a step of the phase trains: sequences packed from instances, or from answers, as steps of one plain phase.

    scenario: the phase's own (`own_scenarios`); of kinds whose sequences are its own it is given back.
    """
    if not packs(phase):
        return scenario
    alone = _alone(scenario, phase)
    training = sft.packed_training(scenario.training, PACKING[phase.kind](alone, _stated(alone, phase.kind)))
    plain = Phase(name=phase.name, steps=resolved_phase(scenario, phase).steps)
    return scenario.model_copy(update={"training": training, "phases": (plain,)})


def resolved_phase(scenario: Scenario, phase: Phase) -> Phase:
    """The phase with its number of steps, where its kind decides it. scenario: the phase's own."""
    alone = _alone(scenario, phase)
    if phase.kind == "sft":
        return phase.model_copy(update={"steps": sft.sft_work(alone, _stated(alone, "sft")).steps, "tokens": None})
    if phase.kind == "rl":
        return phase.model_copy(update={"steps": max(1, round(_stated(alone, "rl")["rl_steps"]))})
    return phase


def kind_model(scenario: Scenario, phase: Phase) -> KindModel | None:
    """The hours of a phase; None where they are its steps alone. scenario: the phase's own.

    Raises InputError: answers cannot be generated on the cluster as the phase says, or it says what its kind decides.
    """
    alone = _alone(scenario, phase)
    problems = list(_packing_problems(scenario, phase))
    if problems:
        raise InputError(problems)
    if phase.kind == "sft":
        return _with_evaluation(_sft_model(alone), alone)
    if phase.kind == "rl":
        return _with_evaluation(_rl_model(alone), alone)
    if phase.kind == "evaluation" or phase.evaluation is not None:
        return _with_evaluation(_no_lines(alone), alone)
    return None


def _packing_problems(scenario: Scenario, phase: Phase) -> Iterator[Problem]:
    """What a phase says of its sequences that follows from what it packs."""
    said = phase.changes.get("training")
    for key in ("packing", "padding_fraction"):
        if packs(phase) and isinstance(said, Mapping) and key in said:
            field = f"phases.{phase.name}.training.{key}"
            of = "instances (sft.packing)" if phase.kind == "sft" else "answers"
            yield Problem(scenario.where(field), field, f"follows from the phase's {of}; leave it out")


def _alone(scenario: Scenario, phase: Phase) -> Scenario:
    """The scenario with this phase alone."""
    return scenario.model_copy(update={"phases": (phase,)})


def _sft_model(scenario: Scenario) -> KindModel:
    assumed = _assumptions(scenario, "sft")
    stated = {key: each.value for key, each in assumed.items()}
    work = sft.sft_work(scenario, stated)
    packed, batch = work.packed, scenario.training.global_batch_size
    an_hour = scenario.cluster.num_gpus / SECONDS_PER_HOUR

    def lines(values: Values, step_s: float) -> Mapping[str, float]:
        return {"update": sft.steps_at(scenario, work, values) * step_s * an_hour}

    def facts(step_s: float) -> Mapping[str, Mapping[str, float]]:
        found = {
            "instances": work.instances, "sample_tokens": packed.tokens, "sequences": work.sequences,
            "steps": float(work.steps), "trained_tokens": work.tokens, "computed_tokens": work.computed_tokens,
            "padding_frac": packed.padding_frac, "cut_frac": packed.cut_frac,
            "filled_frac": work.sequences / (work.steps * batch), "step_s": step_s,
        }  # fmt: skip
        return {"update": found}

    return KindModel(
        assumptions=assumed, lines=lines, is_whole=True, steps=float(work.steps), tokens=work.tokens,
        notes={"update": sft.NOTE}, facts=facts, seed=scenario.seed, not_modelled=sft.NOT_MODELLED,
    )  # fmt: skip


def _rl_model(scenario: Scenario) -> KindModel:
    assumed = _assumptions(scenario, "rl")
    stated = {key: each.value for key, each in assumed.items()}
    engine, packed = engines.engine_of(scenario), rl.packed_answers(scenario, stated)
    work = rl.amounts(scenario, stated, scenario.cluster.num_gpus, packed)
    problem = engines.memory_problem(scenario, engine, rollout.most_at_once(engine, stated, work.answers, None))
    if problem is not None:
        raise InputError([problem])
    return KindModel(
        assumptions=assumed, lines=partial(rl.lines, scenario, engine, packed), is_whole=True, steps=work.updates,
        tokens=work.read_tokens * (1.0 - packed.cut_frac), notes=rl.NOTES,
        facts=partial(rl.facts, scenario, engine, packed, stated), seed=scenario.seed, not_modelled=rl.NOT_MODELLED,
    )  # fmt: skip


def _no_lines(scenario: Scenario) -> KindModel:
    """Of a phase that is trained by its steps, or not at all."""
    phase, is_whole = scenario.phases[0], scenario.phases[0].kind == "evaluation"
    a_step = scenario.training.global_batch_size * useful_tokens(scenario)
    tokens = phase.tokens if phase.tokens is not None else (phase.steps or 0) * a_step
    return KindModel(
        assumptions={}, lines=lambda values, step_s: {}, is_whole=is_whole, steps=tokens / a_step, tokens=float(tokens),
        notes={}, seed=scenario.seed,
    )  # fmt: skip


def _with_evaluation(model: KindModel, scenario: Scenario) -> KindModel:
    """The model with a line for what is evaluated, where something is."""
    tokens = evaluation.evaluated_tokens(scenario, model.steps)
    if not tokens:
        return model
    before, name = model.lines, evaluation.EVALUATION

    def lines(values: Values, step_s: float) -> Mapping[str, float]:
        return {**before(values, step_s), name: evaluation.forward_hours(scenario, tokens, values, step_s)}

    def facts(step_s: float) -> Mapping[str, Mapping[str, float]]:
        return {**model.facts(step_s), name: {"tokens": tokens}}

    assumed = {**model.assumptions, **_assumptions(scenario, "evaluation")}
    return replace(
        model, assumptions=assumed, lines=lines, facts=facts, notes={**model.notes, name: evaluation.NOTE}, known={}
    )


def _assumptions(scenario: Scenario, kind: Kind) -> dict[str, Assumption]:
    """Those of a kind, what the phase states itself in their place as exact."""
    found = kind_assumptions(scenario, kind)
    given = rl.given_values(scenario) if kind == "rl" else sft.given_values(scenario) if kind == "sft" else {}
    exact = {"source": Source(kind="assumed", where="the phase"), "reason": "stated by the phase"}
    for key, value in given.items():
        found[key] = found[key].model_copy(update={"value": value, "low": value, "high": value, **exact})
    return found


def _stated(scenario: Scenario, kind: Kind) -> dict[str, float]:
    return {key: each.value for key, each in _assumptions(scenario, kind).items()}
