"""Sizes of a model, layer by layer: made from the values of a model file of the catalogue, or written down by hand.

The keys are those of the catalogue's model files (`moesim list models`); what these leave open because no time depends on it
(rope's base, the weights' scale) has a default here. No torch: a configuration can be made and refused without it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.names import nearest
from hwprofiles.problem import Problem

Activation = Literal["swiglu", "geglu", "gelu", "relu2"]
Score = Literal["sigmoid", "softmax"]


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary embedding. theta: base of the wavelengths. Of YaRN (arXiv:2309.00071), where factor > 1: positions are stretched
    by factor over original_len; wavelengths that turn more than beta_fast times within it are left alone, those that turn less
    than beta_slow times are stretched whole. mscale: of the attention's temperature.
    """

    theta: float = 10_000.0
    factor: float = 1.0
    original_len: int = 4096
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float = 1.0


@dataclass(frozen=True, slots=True)
class Mla:
    """Multi-head latent attention; q_lora_rank 0: queries are projected directly."""

    num_heads: int
    q_lora_rank: int
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int


@dataclass(frozen=True, slots=True)
class Gqa:
    """Grouped-query attention of one layer; window: tokens that a query attends to, itself included; None: all before it."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    qk_norm: bool = False
    bias: bool = False
    sinks: bool = False
    rope: bool = True
    window: int | None = None


@dataclass(frozen=True, slots=True)
class Ffn:
    """A feed-forward network; swiglu and geglu have a gate beside the up projection."""

    width: int
    activation: Activation = "swiglu"
    bias: bool = False

    @property
    def num_up(self) -> int:
        """Matrices in front of the activation."""
        return 2 if self.activation in ("swiglu", "geglu") else 1


@dataclass(frozen=True, slots=True)
class Moe:
    """Routed experts, each of `expert`'s width, and shared ones.

    num_groups, max_groups: a token's experts come from the best max_groups of num_groups groups of consecutive experts.
    group_top: a group counts by the sum of its best group_top biased scores (2 in DeepSeek-V3, report 2.1.2; 1 in DeepSeek-V2,
    arXiv:2405.04434 2.1.3). has_bias: a bias an expert steers the selection, not the weights. weight_scale: times the weights
    of a token's experts, which sum to 1 where is_normalised.
    """

    num_experts: int
    top_k: int
    expert: Ffn
    num_shared: int = 0
    num_groups: int = 1
    max_groups: int = 1
    group_top: int = 2
    score: Score = "softmax"
    has_bias: bool = False
    is_normalised: bool = True
    weight_scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Layer:
    """One transformer layer."""

    attention: Mla | Gqa
    ffn: Ffn | Moe


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A decoder-only transformer. num_mtp: multi-token-prediction modules, whose layer is of the last one's kind."""

    name: str
    hidden_size: int
    vocab_size: int
    layers: tuple[Layer, ...]
    num_mtp: int = 0
    tied_embeddings: bool = False
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    learned_positions: int = 0
    rope: Rope = field(default_factory=Rope)
    norm_eps: float = 1e-6
    init_std: float = 0.006
    """Standard deviation of the first weights: DeepSeek-V3 report 4.2."""

    def __post_init__(self) -> None:
        problems = [Problem("", field, message) for field, message in _problems(self)]
        if problems:
            raise CalibrationError(problems)

    @classmethod
    def of(cls, values: Mapping[str, Any], **changes: Any) -> ModelConfig:
        """From the values of a model file of the catalogue; changes: fields of this class.

        Raises CalibrationError: contradictory sizes, a value that is missing, a key that the model has not.
        """
        return replace(_from_catalogue(values), **changes)

    @property
    def has_moe(self) -> bool:
        """Whether a layer has experts."""
        return any(isinstance(layer.ffn, Moe) for layer in self.layers)


_KEYS = {
    "name", "hidden_size", "num_layers", "vocab_size", "tied_embeddings", "learned_positions", "norm", "attention", "dense_ffn",
    "num_dense_layers", "layer_pattern", "moe", "mtp", "source",
}  # fmt: skip


def _from_catalogue(values: Mapping[str, Any]) -> ModelConfig:
    unknown = sorted(set(values) - _KEYS)
    if unknown:
        raise CalibrationError([Problem("", key, f"is no key of a model{nearest(key, _KEYS)}") for key in unknown])
    try:
        hidden, num_layers = values["hidden_size"], values["num_layers"]
        layers = tuple(Layer(_attention(values["attention"], idx), _ffn(values, idx)) for idx in range(num_layers))
        return ModelConfig(
            name=values["name"], hidden_size=hidden, vocab_size=values["vocab_size"], layers=layers,
            num_mtp=(values.get("mtp") or {}).get("num_modules", 0), tied_embeddings=values.get("tied_embeddings", False),
            norm=values.get("norm", "rmsnorm"), learned_positions=values.get("learned_positions", 0),
        )  # fmt: skip
    except KeyError as missing:
        raise CalibrationError([Problem("", str(missing.args[0]), "is missing; a model needs it")]) from None


def _attention(section: Mapping[str, Any], layer: int) -> Mla | Gqa:
    values = {key: value for key, value in section.items() if key not in ("kind", "window_pattern")}
    kind = section.get("kind")
    if kind not in ("mla", "gqa"):
        raise CalibrationError([Problem("", "attention.kind", f"is {kind!r}; allowed mla, gqa")])
    if kind == "mla":
        return Mla(**_known("attention", values, Mla))
    period = _period(section.get("window_pattern"))
    if period and period[layer % len(period)] == "f":
        values["window"] = None
    return Gqa(**_known("attention", values, Gqa))


def _ffn(values: Mapping[str, Any], layer: int) -> Ffn | Moe:
    num_dense, period = values["num_dense_layers"], _period(values.get("layer_pattern")) or "m"
    if layer < num_dense or period[(layer - num_dense) % len(period)] == "d":
        section = values.get("dense_ffn")
        if section is None:
            raise CalibrationError([Problem("", "dense_ffn", f"is missing, and layer {layer} is a dense one")])
        return Ffn(section["intermediate_size"], section.get("activation", "swiglu"), section.get("bias", False))
    section = values.get("moe")
    if section is None:
        raise CalibrationError([Problem("", "moe", f"is missing, and layer {layer} has experts")])
    width, activation, bias = (
        section["expert_intermediate_size"], section.get("activation", "swiglu"), section.get("bias", False)
    )  # fmt: skip
    return Moe(
        num_experts=section["num_routed_experts"], top_k=section["top_k"], expert=Ffn(width, activation, bias),
        num_shared=section.get("num_shared_experts", 0), num_groups=section.get("num_expert_groups", 1),
        max_groups=section.get("max_groups_per_token", 1), score=section.get("score", "softmax"),
        has_bias=section.get("router_bias", False), group_top=2 if section.get("router_bias", False) else 1,
    )  # fmt: skip


_UNIT = re.compile(r"([a-z])\s*(?:\*\s*([0-9]{1,5}))?")


def _period(text: str | None) -> str:
    """The codes of a pattern such as "d m" or "w*5 f", a character a layer."""
    return "".join(code * int(count or 1) for code, count in _UNIT.findall(text or ""))


def _known(section: str, values: Mapping[str, Any], kind: type) -> dict[str, Any]:
    fields = set(kind.__dataclass_fields__)  # type: ignore[attr-defined]
    unknown = [key for key in values if key not in fields]
    if unknown:
        raise CalibrationError(
            [Problem("", f"{section}.{key}", f"is no key of {kind.__name__}{nearest(key, fields)}") for key in unknown]
        )
    return dict(values)


def _problems(config: ModelConfig) -> Iterator[tuple[str, str]]:
    """(key, message) of sizes that contradict one another."""
    if not config.layers:
        yield "num_layers", "is 0; a model has at least one layer"
    yield from _too_small("", config, ("hidden_size", "vocab_size"))
    for layer in dict.fromkeys(config.layers):
        if isinstance(layer.attention, Gqa):
            yield from _gqa_problems(layer.attention)
        else:
            yield from _too_small("attention.", layer.attention, (
                "num_heads", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim",
            ))  # fmt: skip
            if layer.attention.qk_rope_head_dim % 2:
                yield (
                    "attention.qk_rope_head_dim",
                    f"{layer.attention.qk_rope_head_dim} is odd; rope turns pairs of numbers",
                )
        if isinstance(layer.ffn, Moe):
            yield from moe_problems(layer.ffn)
        else:
            yield from _too_small("dense_ffn.", layer.ffn, ("width",))


def _gqa_problems(a: Gqa) -> Iterator[tuple[str, str]]:
    yield from _too_small("attention.", a, ("num_heads", "num_kv_heads", "head_dim"))
    if a.num_kv_heads > 0 and a.num_heads % a.num_kv_heads:
        yield "attention.num_kv_heads", f"{a.num_kv_heads} does not divide num_heads {a.num_heads}"
    if a.rope and a.head_dim % 2:
        yield "attention.head_dim", f"{a.head_dim} is odd; rope turns pairs of numbers"
    if a.window is not None and a.window < 1:
        yield "attention.window", f"is {a.window}; at least 1, or null for all tokens"


def moe_problems(m: Moe) -> Iterator[tuple[str, str]]:
    """(key, message) of what contradicts itself in a layer's experts."""
    yield from _too_small("moe.", m, ("num_experts", "top_k", "num_groups", "max_groups", "group_top"))
    yield from _too_small("moe.expert.", m.expert, ("width",))
    if m.num_groups < 1 or m.num_experts % m.num_groups:
        yield "moe.num_expert_groups", f"{m.num_groups} does not divide num_routed_experts {m.num_experts}"
    elif m.max_groups > m.num_groups:
        yield "moe.max_groups_per_token", f"{m.max_groups} is more than the num_expert_groups {m.num_groups}"
    elif m.top_k > m.max_groups * (m.num_experts // m.num_groups):
        reach = m.max_groups * (m.num_experts // m.num_groups)
        yield "moe.top_k", f"{m.top_k} is more than the {reach} experts of {m.max_groups} of {m.num_groups} groups"


def _too_small(prefix: str, section: Any, keys: Sequence[str]) -> Iterator[tuple[str, str]]:
    for key in keys:
        value = getattr(section, key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            yield f"{prefix}{key}", f"is {value!r}; a whole number of at least 1"
