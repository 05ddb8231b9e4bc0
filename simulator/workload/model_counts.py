"""What a model is and does for a token, counted from its parts: parameters and model FLOP.

Model FLOP per trained token = 6 x (weights of every GEMM that a token passes: twice forward, four times backward; the
head included, the embedding is a look-up) + 3 x attention of every layer, where attention forward is 2 x seq_len x
num_heads x (head_dim_qk + head_dim_v), half of it with a causal mask; with a window only the keys inside it. Recompute does
not count, nor do norms, softmax and other pointwise work. DeepSeek's published TFLOPS and MFU leave the MTP modules out
(arXiv:2505.09343, tables 2 and 4, agree with this count to 0.3 %), so `mtp` is False unless asked for.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import fsum

from simulator.scenario.layout import stage_layout
from simulator.scenario.model import ModelSpec
from simulator.workload.documents import Documents, mean_pairs
from simulator.workload.layers.attention import attention_core
from simulator.workload.layers.part import PARTS, WHOLE, Part
from simulator.workload.pairs import query_key_pairs

FORWARD_AND_BACKWARD = 3
"""FLOP of a trained token over those of its forward pass: the backward pass has two GEMMs for each one."""
FLOP_PER_MULTIPLY_ADD = 2


@dataclass(frozen=True, slots=True)
class ParameterCounts:
    """Parameters of the main model, those that one token activates (embedding and head counted), and those that only the
    MTP modules hold (embedding and head are the main model's).
    """

    num_parameters: int
    num_active_parameters: int
    num_mtp_parameters: int


@dataclass(frozen=True, slots=True)
class FlopCount:
    """FLOP by convention of the attention mask. attended: inside the documents of packed sequences; None where none are."""

    causal: float
    noncausal: float
    attended: float | None = None


def model_parts(model: ModelSpec) -> tuple[list[tuple[int, Part]], list[tuple[int, Part]]]:
    """(how often, part) of the main model, and of the MTP modules beside it."""
    parts = [(times, PARTS[code]) for code, times in Counter(stage_layout(model, 1, None)[0]).items()]
    return [each for each in parts if not each[1].is_behind_head], [each for each in parts if each[1].is_behind_head]


def count_parameters(model: ModelSpec) -> ParameterCounts:
    """The model's parameters."""
    main, modules = ([(times, part.params(model, WHOLE)) for times, part in parts] for parts in model_parts(model))
    return ParameterCounts(
        num_parameters=sum(times * (p.dense + p.expert) for times, p in main),
        num_active_parameters=sum(times * (p.dense + p.active_expert) for times, p in main),
        num_mtp_parameters=sum(times * (p.dense + p.expert) for times, p in modules),
    )


def model_flop_per_token(
    model: ModelSpec, seq_len: int, *, mtp: bool = False, documents: Documents | None = None
) -> FlopCount:
    """Model FLOP for one trained token of sequences of `seq_len` tokens, by the conventions that take each as a whole.

    documents: what they are packed from, for FlopCount.attended. mtp: also count the MTP modules, each with its projection,
    layer and pass through the head.
    """
    main, modules = model_parts(model)
    parts = main + modules if mtp else main
    weights = sum(times * part.params(model, WHOLE).gemm for times, part in parts)
    num_attentions = sum(times * part.num_attentions for times, part in parts)
    gemm_flop = FORWARD_AND_BACKWARD * FLOP_PER_MULTIPLY_ADD * weights
    cores = [attention_core(model.at_layer(layer)) for layer in range(num_attentions)]
    causal, noncausal = (
        FORWARD_AND_BACKWARD
        * fsum(core.flop_per_pair * query_key_pairs(seq_len, mask, core.window) / seq_len for core in cores)
        for mask in (True, False)
    )
    attended = None
    if documents is not None:
        pairs = fsum(core.flop_per_pair * mean_pairs(documents, core.window) for core in cores)
        attended = gemm_flop + FORWARD_AND_BACKWARD * pairs / seq_len
    return FlopCount(causal=gemm_flop + causal, noncausal=gemm_flop + noncausal, attended=attended)
