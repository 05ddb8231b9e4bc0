"""What modules of plain torch are modelled with (kernels.modules): one GPU a replica; of Hugging Face transformers BF16, whole
layers recomputed or none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from simulator.scenario.model import GqaAttention, MlaAttention
from simulator.scenario.plan import Kernels
from simulator.scenario.scenario import Scenario
from simulator.scenario.wording import FieldProblem

_KEY: Final = "kernels.modules"
OWN: Final = "moesim-torch"
"""The torch model of hwprofiles/calibration."""
_OWN_RECIPES: Final = ("bf16", "fp8-blockwise", "fp8-row")
_OWN_AGAIN: Final = frozenset(("layer", "rmsnorm", "mla_up_proj", "swiglu"))
"""Modules that it computes again, of those whose kernels are counted."""
_ALSO: Final = ("activation", "grouped_heads", "norm", "projections", "casts")
"""Keys of the same section whose question the modules answer."""


def module_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    """What is not modelled of them."""
    if scenario.kernels.modules == "fused":
        return
    what = f"not modelled yet ({scenario.kernels.modules} with"
    for key, text, instead in (*_layout(scenario), *_training(scenario), *_model(scenario)):
        yield key, f"{what} {text}); {instead}, or {_KEY}: fused"


Refused = tuple[str, str, str]
"""Key, what stands there, what to do instead."""


def _layout(scenario: Scenario) -> Iterator[Refused]:
    for name in ("tp", "cp", "ep", "etp"):
        degree = getattr(scenario.parallel, name)
        if degree > 1:
            yield f"parallel.{name}", f"{name} {degree}", f"write {name}: 1"


def _training(scenario: Scenario) -> Iterator[Refused]:
    recipe, again = scenario.precision.recipe, scenario.recompute
    is_own = scenario.kernels.modules == OWN
    allowed = _OWN_RECIPES if is_own else ("bf16",)
    if recipe not in allowed:
        yield "precision.recipe", f"recipe {recipe}", f"write recipe: {' or '.join(allowed)}"
    if again.granularity == "selective" and not (is_own and set(again.modules) <= _OWN_AGAIN):
        keys = "layer, rmsnorm, mla_up_proj and swiglu alone" if is_own else "granularity: full or none"
        yield "recompute.granularity", "selective recompute", f"write {keys}"
    if scenario.head.chunk_tokens is not None:
        yield "head.chunk_tokens", "logits in chunks", "write chunk_tokens: null"
    if scenario.moe.capacity_factor is not None:
        yield "moe.capacity_factor", "a capacity of experts", "write capacity_factor: null"
    if scenario.kernels.grouped_gemm == "loop" and not is_own:
        yield "kernels.grouped_gemm", "a loop over experts", "write grouped_gemm: grouped"


def _model(scenario: Scenario) -> Iterator[Refused]:
    model, attention = scenario.model, scenario.model.attention
    if model.norm != "rmsnorm":
        yield "model.norm", f"norm {model.norm}", "write norm: rmsnorm"
    if model.parallel_block:
        yield "model.parallel_block", "attention and FFN of one input", "write parallel_block: false"
    is_own = scenario.kernels.modules == OWN
    if is_own and any(kind and kind.activation != "swiglu" for kind in (model.dense_ffn, model.moe)):
        yield "model.dense_ffn.activation", "another activation than swiglu", "write activation: swiglu"
    if is_own and model.dense_ffn is not None and model.dense_ffn.bias:
        yield "model.dense_ffn.bias", "biases", "write bias: false"
    if is_own and isinstance(attention, GqaAttention) and attention.bias:
        yield "model.attention.bias", "biases", "write bias: false"
    if is_own and model.learned_positions:
        yield "model.learned_positions", "learned positions", "write learned_positions: 0"
    if model.mtp.num_modules and not is_own:
        yield "model.mtp.num_modules", "MTP modules, which the library does not train", "write num_modules: 0"
    has_sinks = isinstance(attention, GqaAttention) and attention.sinks and not is_own
    if model.moe is not None and (model.moe.bias or model.moe.clamp is not None) and not has_sinks:
        yield "model.moe", "biases or limits inside experts, but for gpt-oss's with sinks", "leave them out"
    if isinstance(attention, GqaAttention):
        if attention.sinks and is_own:
            yield "model.attention.sinks", "sinks, which attention has no kernel for there", "write sinks: false"
        if attention.window is not None and attention.window < scenario.training.seq_len and not has_sinks:
            yield "model.attention.window", "a window, which takes a mask of its own", "write window: null"
    elif not isinstance(attention, MlaAttention):
        yield "model.attention.kind", f"attention of kind {attention.kind}", "write kind: gqa or mla"


def module_warnings(scenario: Scenario) -> Iterator[FieldProblem]:
    """Keys that the modules answer already."""
    if scenario.kernels.modules == "fused":
        return
    usual = Kernels()
    for name in _ALSO:
        if getattr(scenario.kernels, name) != getattr(usual, name) and scenario.is_given(f"kernels.{name}"):
            yield f"kernels.{name}", f"has no meaning with {_KEY}: {scenario.kernels.modules}, whose modules say it"
