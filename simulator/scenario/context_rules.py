"""Rules of sequences that several GPUs share (context parallelism). As those of rules.py."""

from __future__ import annotations

import math
from collections.abc import Iterator

from hwprofiles.kernels.attention_libraries import LIBRARIES
from hwprofiles.problems import show
from simulator.scenario.scenario import Scenario
from simulator.scenario.wording import FieldProblem, allowed, divisors, multiples

COMM = "parallel.cp_comm"


def context_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    """Contradictions of cp and cp_comm with the sequences, the attention and its library."""
    plan, seq_len = scenario.parallel, scenario.training.seq_len
    if plan.cp == 1:
        return
    chunks, ranks = 2 * plan.cp, plan.cp * (plan.tp if plan.sequence_parallel else 1)
    if seq_len % chunks:
        text = f"{seq_len} tokens do not divide into the 2 * cp = {chunks} chunks of parallel.cp {plan.cp}"
        yield "training.seq_len", f"{text}; {multiples(seq_len, math.lcm(chunks, ranks))}"
    elif seq_len % ranks:
        text = f"{seq_len} tokens do not divide over cp {plan.cp} * tp {plan.tp}, as sequence_parallel does"
        yield "training.seq_len", f"{text}; {multiples(seq_len, math.lcm(chunks, ranks))}"
    library = LIBRARIES.get(scenario.kernels.attention or "")
    if library is not None and library.writes_scores:
        text = f"{scenario.kernels.attention} cannot attend to a part of the keys at a time, as cp {plan.cp} does"
        yield "kernels.attention", f"{text}; use another library, or cp: 1"
    if plan.cp_comm == "a2a":
        yield from _head_problems(scenario)
    else:
        yield from _mask_problems(scenario, plan.cp_comm)


def _head_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    """Heads of a tensor-parallel rank that cp ranks cannot share."""
    attention, tp, cp = scenario.model.attention, scenario.parallel.tp, scenario.parallel.cp
    if any(attention.cut_problems(tp)):
        return
    here = attention.cut(tp)
    keys = getattr(here, "num_kv_heads", here.num_heads)
    cuts = [size for size in divisors(here.num_heads) if keys % size == 0 or size % keys == 0]
    if cp not in cuts:
        text = f"{cp} with cp_comm a2a, but a GPU has {here.num_heads} heads"
        text += f" and {keys} of keys" if keys != here.num_heads else ""
        ways = [way for way in ("ring", "all_gather") if not any(_mask_problems(scenario, way))]
        others = f", or cp_comm: {' or '.join(ways)}" if ways else ""
        yield "parallel.cp", f"{text} (tp {tp}); {allowed(cuts)}{others}"


def _mask_problems(scenario: Scenario, way: str) -> Iterator[FieldProblem]:
    """What TransformerEngine's ring and all-gather cannot attend to."""
    attention = scenario.model.attention
    if getattr(attention, "sinks", False):
        yield COMM, f"{way} with attention sinks: their share of the softmax is in one part alone; use cp_comm: a2a"
    elif way == "ring" and (window := getattr(attention, "window", None)) is not None:
        text = f"ring with a window of {window} tokens: most hops would bring keys that nobody attends to"
        yield COMM, f"{text}; use cp_comm: all_gather or a2a"


def context_warnings(scenario: Scenario) -> Iterator[FieldProblem]:
    """Keys that have no meaning in the scenario."""
    plan, kind = scenario.parallel, scenario.model.attention.kind
    if plan.cp == 1 and plan.cp_comm != "ring":
        yield COMM, "has no meaning with cp 1: every GPU has whole sequences"
    if plan.cp_kv == "latent" and (plan.cp == 1 or kind != "mla"):
        why = "cp 1: nothing is sent" if plan.cp == 1 else f"model {show(scenario.model.name)}: it has no latent"
        yield "parallel.cp_kv", f"latent has no meaning with {why}"
