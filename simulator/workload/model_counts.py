"""What a model is and does for a token, counted from its parts: parameters and model FLOP.

Model FLOP per trained token = 6 x (weights of every GEMM that a token passes: twice forward, four times backward; the
head included, the embedding is a look-up) + 3 x attention of every layer, where attention forward is 2 x seq_len x
num_heads x (head_dim_qk + head_dim_v), half of it with a causal mask. Recompute does not count, nor do norms, softmax
and other pointwise work. DeepSeek's published TFLOPS and MFU leave the MTP modules out (arXiv:2505.09343, tables 2
and 4, agree with this count to 0.3 %), so `mtp` is False unless asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from simulator.scenario.model import ModelSpec
from simulator.workload.layers.attention import attention_core
from simulator.workload.layers.part import PARTS

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
    """FLOP by convention of the attention mask."""

    causal: float
    noncausal: float


def _parts(model: ModelSpec, *, mtp: bool) -> Mapping[str, int]:
    """How often each part stands in the model, by its layout code; those that stand there at all."""
    times = {"E": 1, "d": model.num_dense_layers, "m": model.num_moe_layers, "L": 1}
    if mtp:
        times["mtp"] = model.mtp.num_modules
    return {code: number for code, number in times.items() if number}


def count_parameters(model: ModelSpec) -> ParameterCounts:
    """The model's parameters."""
    main = [(number, PARTS[code].params(model)) for code, number in _parts(model, mtp=False).items()]
    module = PARTS["mtp"].params(model)
    return ParameterCounts(
        num_parameters=sum(number * (p.dense + p.expert) for number, p in main),
        num_active_parameters=sum(number * (p.dense + p.active_expert) for number, p in main),
        num_mtp_parameters=model.mtp.num_modules * (module.dense + module.expert),
    )


def model_flop_per_token(model: ModelSpec, seq_len: int, *, mtp: bool = False) -> FlopCount:
    """Model FLOP for one trained token of sequences of `seq_len` tokens.

    mtp: also count the MTP modules, each with its projection, layer and pass through the head.
    """
    parts = [(number, PARTS[code]) for code, number in _parts(model, mtp=mtp).items()]
    weights = sum(number * part.params(model).gemm for number, part in parts)
    num_attentions = sum(number * part.num_attentions for number, part in parts)
    gemm_flop = FORWARD_AND_BACKWARD * FLOP_PER_MULTIPLY_ADD * weights
    attention_flop = FORWARD_AND_BACKWARD * num_attentions * seq_len * attention_core(model).flop_per_pair
    return FlopCount(causal=gemm_flop + attention_flop / 2, noncausal=float(gemm_flop + attention_flop))
