"""What modules of plain torch are modelled with (kernels.modules): one GPU a replica, BF16, whole layers recomputed or none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from simulator.scenario.model import GqaAttention, MlaAttention
from simulator.scenario.plan import Kernels
from simulator.scenario.scenario import Scenario
from simulator.scenario.wording import FieldProblem

_KEY: Final = "kernels.modules"
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
    if scenario.precision.recipe != "bf16":
        yield "precision.recipe", f"recipe {scenario.precision.recipe}", "write recipe: bf16"
    if scenario.recompute.granularity == "selective":
        yield "recompute.granularity", "selective recompute", "write granularity: full or none"
    if scenario.head.chunk_tokens is not None:
        yield "head.chunk_tokens", "logits in chunks", "write chunk_tokens: null"
    if scenario.moe.capacity_factor is not None:
        yield "moe.capacity_factor", "a capacity of experts", "write capacity_factor: null"
    if scenario.kernels.grouped_gemm == "loop":
        yield "kernels.grouped_gemm", "a loop over experts", "write grouped_gemm: grouped"


def _model(scenario: Scenario) -> Iterator[Refused]:
    model, attention = scenario.model, scenario.model.attention
    if model.norm != "rmsnorm":
        yield "model.norm", f"norm {model.norm}", "write norm: rmsnorm"
    if model.parallel_block:
        yield "model.parallel_block", "attention and FFN of one input", "write parallel_block: false"
    if model.mtp.num_modules:
        yield "model.mtp.num_modules", "MTP modules, which the library does not train", "write num_modules: 0"
    if model.moe is not None and (model.moe.bias or model.moe.clamp is not None):
        yield "model.moe", "biases or limits inside experts", "leave them out"
    if isinstance(attention, GqaAttention):
        if attention.sinks:
            yield "model.attention.sinks", "sinks, which attention has no kernel for there", "write sinks: false"
        if attention.window is not None and attention.window < scenario.training.seq_len:
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
