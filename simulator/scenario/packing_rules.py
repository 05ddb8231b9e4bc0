"""Rules of what sequences are packed from, and of their padding."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from hwprofiles.kernels.attention_libraries import LIBRARIES
from simulator.scenario import derived
from simulator.scenario.plan import Packing
from simulator.scenario.scenario import Scenario
from simulator.scenario.wording import FieldProblem

MOST_DOCUMENTS = 16_384
"""Documents of a sequence that are drawn."""
WORTH_SAYING = 0.005
"""Share of tokens that documents are padded by above which it is said."""


def packing_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    """Documents that do not fill a sequence, are too many, or that the attention's library cannot keep apart."""
    packing = scenario.training.packing
    if not isinstance(packing, Packing):
        return
    tokens = derived.useful_tokens(scenario)
    if packing.lengths is not None and sum(packing.lengths) != tokens:
        text = f"sum to {sum(packing.lengths)} tokens, a sequence has {tokens}{_less_padding(scenario)}"
        yield "training.packing.lengths", f"{text}; add or lengthen documents, or change training.seq_len"
    if packing.mean_tokens is not None and tokens > MOST_DOCUMENTS * packing.mean_tokens:
        text = f"{packing.mean_tokens:g} is {tokens / packing.mean_tokens:,.0f} documents in {tokens} tokens"
        yield "training.packing.mean_tokens", f"{text}; allowed at least {ceil(tokens / MOST_DOCUMENTS)}"
    yield from _cut_problems(scenario, packing)
    library = scenario.kernels.attention
    if library is not None and not LIBRARIES[library].keeps_documents:
        families = LIBRARIES[library].families.keys()
        able = " or ".join(
            name for name, it in LIBRARIES.items() if it.keeps_documents and families & it.families.keys()
        )
        text = f"{library} computes every pair of a sequence, documents do not attend to themselves alone"
        yield "kernels.attention", f"{text}; use {able}, or write training.packing: none"


def _cut_problems(scenario: Scenario, packing: Packing) -> Iterator[FieldProblem]:
    if packing.cut == "sequence" and scenario.parallel.cp > 1 and scenario.parallel.cp_comm == "ring":
        text = "sequence with cp_comm ring, whose hops bring keys of all documents alike"
        yield "training.packing.cut", f"{text}; use cut: documents, or cp_comm: all_gather"


def _less_padding(scenario: Scenario) -> str:
    fraction = scenario.training.padding_fraction
    return f" (seq_len {scenario.training.seq_len} less padding_fraction {fraction:g})" if fraction else ""


def packing_warnings(scenario: Scenario) -> Iterator[FieldProblem]:
    """Documents that hardly fit."""
    packing, tokens, plan = scenario.training.packing, derived.useful_tokens(scenario), scenario.parallel
    if not isinstance(packing, Packing):
        return
    if packing.cut == "sequence" and (plan.cp == 1 or plan.cp_comm == "a2a"):
        why = "cp 1" if plan.cp == 1 else "cp_comm a2a: a GPU attends to whole sequences"
        yield "training.packing.cut", f"sequence has no meaning with {why}"
    if plan.cp > 1 and packing.cut == "documents":
        number = len(packing.lengths) if packing.lengths is not None else tokens / (packing.mean_tokens or tokens)
        share = number * (plan.cp - 0.5) / tokens
        if share >= WORTH_SAYING:
            text = f"each document is padded to a multiple of 2 * cp = {2 * plan.cp} tokens, about {100 * share:.1f} % of all"
            yield "training.packing", f"{text}; they are not counted unless training.padding_fraction holds them"
    if packing.mean_tokens is not None and packing.mean_tokens >= tokens:
        text = f"{packing.mean_tokens:g} is no less than the {tokens} tokens of a sequence"
        yield (
            "training.packing.mean_tokens",
            f"{text}: documents are cut where a sequence ends; packing: none is one document a sequence",
        )
