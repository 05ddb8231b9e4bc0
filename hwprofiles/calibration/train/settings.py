"""Sizes of the example's model and of its training.

The model is of DeepSeek-V3's kind, with 3 million weights: latent attention, a dense layer in front of MoE
layers with a shared expert, sigmoid scores, group-limited selection, a bias an expert, one multi-token-prediction module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from hwprofiles.calibration.model.config import Ffn, Layer, Mla, ModelConfig, Moe
from hwprofiles.calibration.train.text import NUM_BYTES

_ATTENTION = Mla(
    num_heads=4, q_lora_rank=64, kv_lora_rank=64, qk_nope_head_dim=32, qk_rope_head_dim=16, v_head_dim=32
)  # fmt: skip
_MOE = Moe(
    num_experts=16, top_k=4, expert=Ffn(128), num_shared=1, num_groups=4, max_groups=2, score="sigmoid", has_bias=True
)  # fmt: skip

MODEL: Final = ModelConfig(
    name="small", hidden_size=128, vocab_size=NUM_BYTES, num_mtp=1, init_std=0.02,
    layers=(Layer(_ATTENTION, Ffn(384)), *(Layer(_ATTENTION, _MOE),) * 2),
)  # fmt: skip
"""init_std: wider than DeepSeek-V3's 0.006, which belongs to a width of 7168."""


@dataclass(frozen=True, slots=True)
class Training:
    """What all runs share. seq_len: tokens of a sequence; sequences: of a micro-batch; micro_batches: of a step.

    The rate climbs over warm_up steps and then stays, as in DeepSeek-V3's first phase (report 4.2); clip, the weights of the
    multi-token-prediction loss (mtp_weight) and of the sequence-wise balance loss (sequence_weight) and what AdamW defaults to
    are the report's. bias_rate: ten times the report's 0.001, for a hundred steps instead of many thousand.
    """

    steps: int = 120
    seed: int = 0
    seq_len: int = 256
    sequences: int = 4
    micro_batches: int = 2
    learning_rate: float = 1e-3
    warm_up: int = 20
    clip: float = 1.0
    mtp_weight: float = 0.3
    bias_rate: float = 0.01
    sequence_weight: float = 1e-4

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        return self.learning_rate * min(1.0, (step + 1) / self.warm_up)


@dataclass(frozen=True, slots=True)
class Run:
    """What is different between runs. recipe: of the number formats; rule: of the balancing; gemms: whose FP8 products.

    auto: a GPU's library's, emulated ones on a CPU; own: this project's kernels, which add gradients where they are kept.
    """

    recipe: str
    rule: Literal["bias", "aux_loss", "none"]
    gemms: Literal["auto", "own"] = "auto"


RUNS: Final[Mapping[str, Run]] = {
    "bias": Run("bf16", "bias"),
    "none": Run("bf16", "none"),
    "fp8": Run("fp8-blockwise", "bias"),
}
"""By the name that they have in the results; the first is the one that the others are compared with."""
