"""Rules of what is cut: heads and widths over tp and etp, tokens over tp, widths into the blocks of one scale."""

from __future__ import annotations

from collections.abc import Iterator

from hwprofiles.problems import show
from simulator.scenario import derived
from simulator.scenario.scenario import Scenario
from simulator.scenario.wording import FieldProblem, allowed, divisors, multiples


def tensor_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    """Every broken rule of tensor, sequence and expert tensor parallelism, and of block-wise number formats."""
    whole_blocks = list(_block_problems(scenario))
    cut = [*_width_problems(scenario), *_head_problems(scenario)]
    yield from whole_blocks
    yield from cut
    if not whole_blocks and not cut:
        yield from _cut_block_problems(scenario)
    yield from _sequence_problems(scenario)


def _head_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    attention, tp = scenario.model.attention, scenario.parallel.tp
    for problem in attention.cut_problems(tp):
        yield "parallel.tp", f"{problem}; {_allowed_tp(scenario)}"


def _allowed_tp(scenario: Scenario) -> str:
    """'allowed 1, 2, 4': the degrees that cut neither heads nor widths unevenly."""
    attention = scenario.model.attention
    widths = [width for axis, _, width, _ in _widths(scenario) if axis == "tp"]
    whole = (number for number in range(1, attention.num_heads + 1) if not any(width % number for width in widths))
    return allowed(number for number in whole if not any(attention.cut_problems(number)))


def _widths(scenario: Scenario) -> Iterator[tuple[str, str, int, int]]:
    """(axis, key of the model, width, ranks that share it) of every FFN."""
    model, tp, etp = scenario.model, scenario.parallel.tp, scenario.parallel.etp
    if model.dense_ffn is not None and model.has_dense_layers:
        yield "tp", "dense_ffn.intermediate_size", model.dense_ffn.intermediate_size, tp
    if model.moe is not None:
        width, shared = model.moe.expert_intermediate_size, model.moe.num_shared_experts
        yield "etp", "moe.expert_intermediate_size", width, etp
        if shared:
            yield "tp", "moe.expert_intermediate_size", shared * width, tp


def _width_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    for axis, key, width, ranks in _widths(scenario):
        if width % ranks:
            instead = _allowed_tp(scenario) if axis == "tp" else allowed(divisors(width))
            yield f"parallel.{axis}", f"{axis} {ranks} does not divide {key} {width}; {instead}"
    if scenario.model.moe is None and scenario.parallel.etp > 1:
        text = f"etp {scenario.parallel.etp}, but model {show(scenario.model.name)} has no experts; use etp: 1"
        yield "parallel.etp", text


def _block_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    """Widths that the recipe's blocks of elements with one scale do not divide."""
    model, block = scenario.model, derived.recipe(scenario).block
    widths = {"hidden_size": model.hidden_size}
    if model.dense_ffn is not None:
        widths["dense_ffn.intermediate_size"] = model.dense_ffn.intermediate_size
    if model.moe is not None:
        widths["moe.expert_intermediate_size"] = model.moe.expert_intermediate_size
    for key, width in widths.items():
        if width % block:
            text = f"{width} does not divide into the blocks of {block} of precision.recipe {scenario.precision.recipe}"
            yield f"model.{key}", f"{text}; {multiples(width, block)}, or use recipe: bf16"


def _cut_block_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    """The same of a rank's share of a width, where whole widths are in order."""
    block, recipe = derived.recipe(scenario).block, scenario.precision.recipe
    cut = list(_widths(scenario))
    if scenario.parallel.tp > 1:
        cut.append(("tp", "attention output", scenario.model.attention.output_width, scenario.parallel.tp))
    for axis, key, width, ranks in cut:
        share = width // ranks
        if ranks > 1 and share % block:
            text = f"{axis} {ranks} leaves {share} of {key} {width}, which does not divide into the blocks of {block}"
            yield f"parallel.{axis}", f"{text} of precision.recipe {recipe}; lower {axis}, or use recipe: bf16"


def _sequence_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    tp, seq_len, shards = scenario.parallel.tp, scenario.training.seq_len, scenario.parallel.sequence_parallel
    if tp == 1:
        return
    if scenario.parallel.overlap.tp == "chunked" and not shards:
        text = "chunked, but sequence_parallel is false: all-reduces are not cut into chunks"
        yield "parallel.overlap.tp", f"{text}; write sequence_parallel: true, or tp: none"
    if not shards and scenario.model.moe is not None:
        text = f"false with experts and tp {tp}: each of the {tp} GPUs would send every token to its experts"
        yield "parallel.sequence_parallel", f"{text}; write sequence_parallel: true (as Megatron-LM requires), or tp: 1"
    if shards and seq_len % tp and scenario.parallel.cp == 1:
        text = f"{seq_len} tokens do not divide over tp {tp}, as sequence_parallel does"
        yield "training.seq_len", f"{text}; {multiples(seq_len, tp)}"
