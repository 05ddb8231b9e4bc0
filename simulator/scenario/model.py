"""The model that is trained: dimensions only, no plan and no hardware."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from simulator.scenario.layer_pattern import parse_period, repeated
from simulator.scenario.section import MAX_LAYERS, Experts, LayerCount, Section, Text, Width


def _pattern_of(codes: str) -> AfterValidator:
    """A text of two unit codes, each at least once."""

    def checked(text: str) -> str:
        try:
            period = parse_period(text, codes)
        except ValueError as error:
            raise PydanticCustomError("pattern", "{problem}", {"problem": str(error)}) from None
        if set(period) != set(codes):
            one, other = codes[0], codes[1]
            raise PydanticCustomError(
                "pattern", f"needs both {one} and {other}; leave it out where layers are of one kind"
            )
        return text

    return AfterValidator(checked)


LayerPattern = Annotated[Text, _pattern_of("dm")]
WindowPattern = Annotated[Text, _pattern_of("wf")]


class Attention(Section):
    """What every kind of attention says of itself; its `kind` names its file in simulator/workload/layers."""

    recompute_modules: ClassVar[frozenset[str]] = frozenset()
    """Modules of recompute that only this kind has."""

    @property
    def query_head_dim(self) -> int:
        """Size of a query's and a key's head in the attention core."""
        raise NotImplementedError

    def problems(self) -> Iterator[tuple[str, str]]:
        """(key, message) of each rule that its dimensions break."""
        yield from ()

    def of_layer(self, layer: int) -> Self:
        """The section of one layer, where they differ. layer: its number from 0 on."""
        return self

    def problems_with(self, seq_len: int) -> Iterator[tuple[str, str]]:
        """(key, message) of what cannot be with sequences of so many tokens."""
        yield from ()

    def cut(self, tp: int) -> Self:
        """The section of one of tp ranks that share the heads."""
        raise NotImplementedError

    def cut_problems(self, tp: int) -> Iterator[str]:
        """What keeps tp ranks from sharing the heads, with the degrees that do."""
        yield from ()

    @property
    def output_width(self) -> int:
        """Columns of all heads' outputs: the reduced dimension of the output projection."""
        raise NotImplementedError


class MlaAttention(Attention):
    """Multi-head latent attention: queries and keys/values are projected through low ranks."""

    recompute_modules = frozenset({"mla_up_proj"})

    kind: Literal["mla"]
    num_heads: Width
    q_lora_rank: Annotated[int, Field(ge=0, le=10_000_000)]
    """Rank of the query projection; 0: queries are projected directly from the hidden state."""
    kv_lora_rank: Width
    qk_nope_head_dim: Width
    """Part of a query or key head without rotary embedding."""
    qk_rope_head_dim: Width
    """Part of a query or key head with rotary embedding; one key of it is shared by all heads."""
    v_head_dim: Width

    @property
    def query_head_dim(self) -> int:
        """Both parts together."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    def cut(self, tp: int) -> Self:
        """Each rank has its share of the heads; the low ranks are the same on all."""
        return self.model_copy(update={"num_heads": self.num_heads // tp})

    def cut_problems(self, tp: int) -> Iterator[str]:
        """Heads are not cut."""
        if self.num_heads % tp:
            yield f"tp {tp} does not divide num_heads {self.num_heads}"

    @property
    def output_width(self) -> int:
        """Values of all heads."""
        return self.num_heads * self.v_head_dim


class GqaAttention(Attention):
    """Grouped-query attention; num_kv_heads = num_heads is multi-head attention."""

    kind: Literal["gqa"]
    num_heads: Width
    num_kv_heads: Width
    head_dim: Width
    qk_norm: bool = False
    """RMSNorm on every query and key head."""
    bias: bool = False
    """Biases of the query, key, value and output projections."""
    sinks: bool = False
    """A learned logit a head that takes a share of the attention (a column of the softmax without a key)."""
    rope: bool = True
    """Rotary embedding of queries and keys."""
    rope_scale: Annotated[float, Field(gt=0, le=100)] = 1.0
    """Factor on what is rotated (YaRN's concentration, 0.1 ln(stretch) + 1); 1: none. Fused kernels have no place for one."""
    window: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    """Sliding window: tokens that a query attends to, itself included; null: all before it."""
    window_pattern: WindowPattern | None = None
    """Layers with the window: a period of w (window) and f (full attention) that repeats, such as "w f"; null: all layers."""

    @property
    def query_head_dim(self) -> int:
        """One size for queries, keys and values."""
        return self.head_dim

    def problems(self) -> Iterator[tuple[str, str]]:
        """Query heads share key heads in equal groups; a pattern is one of windows."""
        if self.num_heads % self.num_kv_heads:
            yield "num_kv_heads", f"num_kv_heads {self.num_kv_heads} does not divide num_heads {self.num_heads}"
        if self.window_pattern is not None and self.window is None:
            yield "window_pattern", "is given without a window; give window, or leave the pattern out"

    def problems_with(self, seq_len: int) -> Iterator[tuple[str, str]]:
        """A window is at most the sequence."""
        if self.window is not None and self.window > seq_len:
            text = f"{self.window} tokens in sequences of {seq_len}: every query attends to all before it"
            yield "window", f"{text}; write window: null, or a longer training.seq_len"

    def of_layer(self, layer: int) -> Self:
        """With the window or without it, as the pattern says."""
        if self.window_pattern is None:
            return self
        period = parse_period(self.window_pattern, "wf")
        is_windowed = period[layer % len(period)] == "w"
        return self.model_copy(update={"window_pattern": None, "window": self.window if is_windowed else None})

    def cut(self, tp: int) -> Self:
        """Each rank has its share of the query heads and of the key heads; a key head too few is held by several ranks."""
        heads = {"num_heads": self.num_heads // tp, "num_kv_heads": max(1, self.num_kv_heads // tp)}
        return self.model_copy(update=heads)

    def cut_problems(self, tp: int) -> Iterator[str]:
        """Neither query nor key heads are cut; fewer key heads than ranks are copied evenly."""
        if self.num_heads % tp:
            yield f"tp {tp} does not divide num_heads {self.num_heads}"
        elif self.num_kv_heads % tp and tp % self.num_kv_heads:
            yield f"tp {tp} neither divides num_kv_heads {self.num_kv_heads} nor is a multiple of it"

    @property
    def output_width(self) -> int:
        """Values of all heads."""
        return self.num_heads * self.head_dim


AnyAttention = MlaAttention | GqaAttention
"""Every kind of attention; the `kind` key tells which."""


class FfnKind(Section):
    """What every feed-forward network says of itself."""

    activation: Literal["swiglu", "geglu", "gelu", "relu2"] = "swiglu"
    """swiglu, geglu: a gate beside the up projection (three matrices); gelu, relu2 (the square of ReLU): none (two)."""
    bias: bool = False
    """Biases of the projections."""

    @property
    def num_functions(self) -> int:
        """Functions of the activation that plain modules run apart: the gate's and the product; relu and its square."""
        return 1 if self.activation == "gelu" else 2

    @property
    def num_up(self) -> int:
        """Matrices in front of the activation: gate and up, or up alone."""
        return 2 if self.activation in ("swiglu", "geglu") else 1


class DenseFfn(FfnKind):
    """A feed-forward network: up (perhaps gate) and down projections."""

    intermediate_size: Width


class MoeFfn(FfnKind):
    """A layer of routed and shared experts."""

    num_routed_experts: Experts
    num_shared_experts: Annotated[int, Field(ge=0, le=1_000)] = 0
    top_k: Experts
    """Routed experts of a token."""
    expert_intermediate_size: Width
    """Width of one routed expert, and of each shared one."""
    num_expert_groups: Experts = 1
    """Groups into which the router divides the routed experts; 1: no groups."""
    max_groups_per_token: Experts = 1
    """Groups that a token's experts may come from."""
    score: Literal["sigmoid", "softmax"] = "softmax"
    clamp: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    """Limit of what enters the experts' gated activation; null: none."""
    router_bias: bool = False
    """A bias per expert that steers the selection and not the weights (balancing without an auxiliary loss)."""


class Mtp(Section):
    """Multi-token prediction: modules of one projection and one layer each, sharing embedding and head."""

    num_modules: Annotated[int, Field(ge=0, le=16)] = 0


class ModelSpec(Section):
    """A decoder-only transformer: leading dense layers, then MoE layers or a pattern of both, then an output head; MTP modules
    beside it.
    """

    name: Text
    hidden_size: Width
    num_layers: Annotated[int, Field(ge=1, le=MAX_LAYERS)]
    """Transformer layers, dense and MoE, without MTP modules."""
    vocab_size: Annotated[int, Field(ge=1, le=100_000_000)]
    tied_embeddings: bool = False
    """Embedding and output head are one matrix."""
    learned_positions: Annotated[int, Field(ge=0, le=100_000_000)] = 0
    """Rows of a learned position embedding that is added to the tokens'; 0: none."""
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    """Norms in front of attention, FFN and head; layernorm has biases too."""
    parallel_block: bool = False
    """Attention and FFN read one norm's output side by side, and their outputs are added up; of dense models."""
    attention: Annotated[AnyAttention, Field(discriminator="kind")]
    dense_ffn: DenseFfn | None = None
    """FFN of the dense layers; null where there is none."""
    num_dense_layers: LayerCount
    """Leading layers with a dense FFN; equal to num_layers in a dense model."""
    layer_pattern: LayerPattern | None = None
    """FFNs of the layers behind those: a period of d (dense) and m (MoE) that repeats, such as "d m"; null: MoE layers."""
    moe: MoeFfn | None = None
    """FFN of the other layers; null in a dense model."""
    mtp: Mtp = Mtp()
    source: Annotated[str, Field(max_length=1000)] = ""
    """Where the dimensions come from."""

    @property
    def layers(self) -> str:
        """d or m of every layer, in order, without MTP modules. The model's rules hold."""
        behind = self.num_layers - self.num_dense_layers
        return "d" * self.num_dense_layers + repeated(parse_period(self.layer_pattern or "m", "dm"), behind)

    @property
    def norm_params(self) -> int:
        """Parameters of a norm of the hidden state."""
        return self.hidden_size * (2 if self.norm == "layernorm" else 1)

    def at_layer(self, layer: int) -> ModelSpec:
        """The model as one layer sees it, where its attention differs from that of others."""
        attention = self.attention.of_layer(layer)
        return self if attention is self.attention else self.model_copy(update={"attention": attention})

    @property
    def has_dense_layers(self) -> bool:
        """Whether a layer has a dense FFN."""
        return "d" in self.layers
