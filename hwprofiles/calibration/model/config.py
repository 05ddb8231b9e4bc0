"""Sizes of a model, layer by layer: made from the values of a model file of the catalogue, or written down by hand.

The keys are those of the catalogue's model files (`moesim list models`); what these leave open because no time depends on it
(rope's base, the weights' scale) has a default here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Literal

from hwprofiles.calibration.errors import CalibrationError, refuse
from hwprofiles.calibration.model.config_form import MAX_LAYERS, Found, form_problems, period, section
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
    """Grouped-query attention of one layer; window: tokens that a query attends to, itself included; None: all before it.

    rope_scale: factor on what is rotated, queries and keys alike.
    """

    num_heads: int
    num_kv_heads: int
    head_dim: int
    qk_norm: bool = False
    bias: bool = False
    sinks: bool = False
    rope: bool = True
    rope_scale: float = 1.0
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
    of a token's experts, which sum to 1 where is_normalised. clamp: limit of what enters a gated activation of routed experts,
    of the gate above alone (gpt-oss, gpt_oss/torch/model.py of openai/gpt-oss, swiglu); None: none.
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
    clamp: float | None = None


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
        refuse([Problem("", key, message) for key, message in dict.fromkeys(_problems(self))])

    @classmethod
    def of(cls, values: Mapping[str, Any], **changes: Any) -> ModelConfig:
        """From the values of a model file of the catalogue; changes: fields of this class, such as rope.

        Two more keys of moe, which the catalogue leaves out because no time depends on them: weight_scale (default 1) and
        is_normalised (default true; false where a token has one expert, whose weight would always be 1).
        Raises CalibrationError: contradictory sizes, a value that is missing or of another type, a key that a model has not.
        """
        known = {each.name for each in fields(cls)}
        unknown = [key for key in changes if key not in known]
        refuse([Problem("", key, f"is no field of a configuration{nearest(key, known)}") for key in unknown])
        return replace(_from_catalogue(values), **changes)


_NEEDED: Final = ("name", "hidden_size", "num_layers", "vocab_size", "attention", "num_dense_layers")
_OPTIONAL: Final = (
    "tied_embeddings",
    "learned_positions",
    "norm",
    "parallel_block",
    "dense_ffn",
    "layer_pattern",
    "moe",
    "mtp",
    "source",
)
_MOE: Final = {
    "num_experts": "num_routed_experts", "num_shared": "num_shared_experts", "num_groups": "num_expert_groups",
    "max_groups": "max_groups_per_token", "has_bias": "router_bias",
}  # fmt: skip
"""Fields of Moe → keys of a model file, where they differ."""


def _from_catalogue(given: Mapping[str, Any]) -> ModelConfig:
    values = section(given, "", _NEEDED, _OPTIONAL)
    if values.get("parallel_block"):
        raise CalibrationError([Problem("", "parallel_block", "is not in this model; leave it out, or write false")])
    kinds = _kinds_of_layers(values)
    ffns: dict[str, Ffn | Moe] = {}
    for code, key, read in (("d", "dense_ffn", _dense), ("m", "moe", _moe)):
        if values.get(key) is not None:
            ffns[code] = read(values[key])
        elif code in kinds:
            what = f"is missing, and layer {kinds.index(code)} of {len(kinds)} {'is dense' if code == 'd' else 'has experts'}"
            raise CalibrationError([Problem("", key, f"{what}; give it, or change num_dense_layers or layer_pattern")])
    mtp = section({} if values.get("mtp") is None else values["mtp"], "mtp", (), ("num_modules",))
    return ModelConfig(
        name=values["name"], hidden_size=values["hidden_size"], vocab_size=values["vocab_size"],
        layers=tuple(Layer(_attention(values["attention"], idx), ffns[code]) for idx, code in enumerate(kinds)),
        num_mtp=mtp.get("num_modules", 0), tied_embeddings=values.get("tied_embeddings", False),
        norm=values.get("norm", "rmsnorm"), learned_positions=values.get("learned_positions", 0),
    )  # fmt: skip


def _kinds_of_layers(values: Mapping[str, Any]) -> str:
    """d or m of every layer."""
    num_layers, num_dense = values["num_layers"], values["num_dense_layers"]
    for key, value, least in (("num_layers", num_layers, 1), ("num_dense_layers", num_dense, 0)):
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= MAX_LAYERS:
            raise CalibrationError([Problem("", key, f"is {value!r}; a whole number of {least} to {MAX_LAYERS}")])
    if num_dense > num_layers:
        raise CalibrationError(
            [Problem("", "num_dense_layers", f"is {num_dense}, and num_layers {num_layers}; at most as many")]
        )
    behind = period(values.get("layer_pattern"), "layer_pattern", "dm") or "m"
    return "d" * num_dense + "".join(behind[idx % len(behind)] for idx in range(num_layers - num_dense))


def _attention(given: Any, layer: int) -> Mla | Gqa:
    kind = given.get("kind") if isinstance(given, Mapping) else None
    if isinstance(given, Mapping) and kind not in ("mla", "gqa"):
        raise CalibrationError([Problem("", "attention.kind", f"is {kind!r}; allowed mla, gqa")])
    if kind == "mla":
        values = section(given, "attention", ("kind", *(each.name for each in fields(Mla))), ())
        return Mla(**{key: value for key, value in values.items() if key != "kind"})
    needed = ("kind", "num_heads", "num_kv_heads", "head_dim")
    values = section(given, "attention", needed, (*(each.name for each in fields(Gqa)), "window_pattern"))
    pattern = period(values.get("window_pattern"), "attention.window_pattern", "wf")
    if pattern and values.get("window") is None:
        raise CalibrationError(
            [Problem("", "attention.window_pattern", "is given without a window; give window, or leave it out")]
        )
    own = {key: value for key, value in values.items() if key not in ("kind", "window_pattern")}
    return Gqa(**own if not pattern or pattern[layer % len(pattern)] == "w" else {**own, "window": None})


def _dense(given: Any) -> Ffn:
    values = section(given, "dense_ffn", ("intermediate_size",), ("activation", "bias"))
    return Ffn(values["intermediate_size"], values.get("activation", "swiglu"), values.get("bias", False))


def _moe(given: Any) -> Moe:
    values = section(
        given, "moe", ("num_routed_experts", "top_k", "expert_intermediate_size"),
        ("num_shared_experts", "num_expert_groups", "max_groups_per_token", "score", "router_bias", "activation", "bias",
         "clamp", "weight_scale", "is_normalised"),
    )  # fmt: skip
    has_bias = values.get("router_bias", False)
    return Moe(
        num_experts=values["num_routed_experts"], top_k=values["top_k"],
        expert=Ffn(values["expert_intermediate_size"], values.get("activation", "swiglu"), values.get("bias", False)),
        num_shared=values.get("num_shared_experts", 0), num_groups=values.get("num_expert_groups", 1),
        max_groups=values.get("max_groups_per_token", 1), score=values.get("score", "softmax"),
        has_bias=has_bias, group_top=2 if has_bias else 1, weight_scale=values.get("weight_scale", 1.0),
        is_normalised=values.get("is_normalised", values["top_k"] != 1), clamp=values.get("clamp"),
    )  # fmt: skip


def _problems(config: ModelConfig) -> Found:
    """What has another type than its field, is out of range, or contradicts another size."""
    yield from form_problems(config, names={"num_mtp": "mtp.num_modules"})
    if not isinstance(config.rope, Rope):
        yield "rope", f"is {config.rope!r:.60}; a config.Rope"
    else:
        yield from _rope_problems(config.rope)
    if not isinstance(config.layers, tuple) or not config.layers:
        yield "layers", f"is {config.layers!r:.60}; a tuple of config.Layer, at least one"
        return
    seen: list[Layer] = []
    for number, layer in enumerate(config.layers):
        if layer in seen:
            continue
        seen.append(layer)
        if not isinstance(layer, Layer):
            yield f"layers.{number}", f"is {layer!r:.60}; a config.Layer"
        else:
            yield from _layer_problems(layer)


def _layer_problems(layer: Layer) -> Found:
    attention, ffn = layer.attention, layer.ffn
    if isinstance(attention, (Mla, Gqa)):
        wrong = list(form_problems(attention, "attention."))
        yield from wrong or (_gqa_problems(attention) if isinstance(attention, Gqa) else _mla_problems(attention))
    else:
        yield "attention", f"is {attention!r:.60}; a config.Mla or a config.Gqa"
    if isinstance(ffn, Moe):
        yield from moe_problems(ffn)
    elif isinstance(ffn, Ffn):
        yield from form_problems(ffn, "dense_ffn.", {"width": "intermediate_size"})
    else:
        yield "ffn", f"is {ffn!r:.60}; a config.Ffn or a config.Moe"


def _rope_problems(rope: Rope) -> Found:
    wrong = list(form_problems(rope, "rope."))
    yield from wrong
    if not wrong and rope.factor < 1:
        yield "rope.factor", f"is {rope.factor}; at least 1, which stretches nothing"
    if not wrong and rope.beta_fast <= rope.beta_slow:
        yield "rope.beta_fast", f"is {rope.beta_fast}; more than beta_slow {rope.beta_slow}"


def _mla_problems(a: Mla) -> Found:
    if a.qk_rope_head_dim % 2:
        yield "attention.qk_rope_head_dim", f"is {a.qk_rope_head_dim}; even: rope turns pairs of numbers"


def _gqa_problems(a: Gqa) -> Found:
    if a.num_heads % a.num_kv_heads:
        fitting = ", ".join(str(n) for n in range(1, a.num_heads + 1) if a.num_heads % n == 0)
        yield (
            "attention.num_kv_heads",
            f"{a.num_kv_heads} does not divide num_heads {a.num_heads}; allowed {fitting:.200}",
        )
    if a.rope and a.head_dim % 2:
        yield "attention.head_dim", f"is {a.head_dim}; even: rope turns pairs of numbers"


def moe_problems(m: Moe) -> Found:
    """(key, message) of what contradicts itself in a layer's experts."""
    wrong = list(form_problems(m, "moe.", _MOE))
    if isinstance(m.expert, Ffn):
        wrong += form_problems(m.expert, "moe.", {"width": "expert_intermediate_size"})
    else:
        wrong.append(("moe.expert", f"is {m.expert!r:.60}; a config.Ffn"))
    yield from wrong
    if wrong:
        return
    if m.clamp is not None and m.expert.num_up == 1:
        yield "moe.clamp", f"is {m.clamp}, and {m.expert.activation} has no gate; leave it out, or use swiglu or geglu"
    if m.num_experts % m.num_groups:
        yield (
            "moe.num_expert_groups",
            f"{m.num_groups} does not divide num_routed_experts {m.num_experts}; use a divisor",
        )
    elif m.max_groups > m.num_groups:
        yield (
            "moe.max_groups_per_token",
            f"{m.max_groups} is more than the num_expert_groups {m.num_groups}; at most as many",
        )
    elif m.top_k > m.max_groups * (m.num_experts // m.num_groups):
        reach = m.max_groups * (m.num_experts // m.num_groups)
        yield (
            "moe.top_k",
            f"{m.top_k} is more than the {reach} experts of {m.max_groups} of {m.num_groups} groups; at most {reach}",
        )
