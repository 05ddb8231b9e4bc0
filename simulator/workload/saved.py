"""How what a block keeps of one micro-batch is written down: the recipe of formats, and a collector of named tensors.

Rules that every layer's file follows (kernels and formats as in deepseek-ai/profile-data train.json and DeepSeek-V3
report 3.2.3 and 3.3.3):
- a linear layer keeps its input for the weight gradient, once, in the recipe's format; a recomputed input is not
  kept, but exists from I to W, as the output gradients do (between I and W only if the schedule parts them);
- exactly the operands of weight gradients wait for W; what else is kept is freed by I;
- a norm keeps its input, attention its output and log-sum-exp, SwiGLU its input (the product is an operand of the down
  projection); the weights of the routed experts' outputs are applied in SwiGLU, so that the rows that go back are not
  kept;
- under FP8 the FFN's input is kept in FP8 (the dispatched payload serves the shared experts too), the norm recomputed
  or not.

Letters: t tokens of the rank, s tokens in sequence-parallel regions (t / tp), h hidden size, f FFN width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil

from simulator.scenario.dispatchers import Sends
from simulator.scenario.model import MoeFfn
from simulator.workload.recipe import CpComm, CpKv
from simulator.workload.recompute import Checkpoint
from simulator.workload.tensors import BlockMemory, Tensor, tensor_bytes, total_bytes


@dataclass(frozen=True, slots=True)
class ActivationRecipe:
    """Sizes and number formats of one rank's micro-batch.

    tokens: of one micro-batch on the rank, whose sequences cp ranks share; cp_comm, cp_kv: as in the scenario.
    shards_sequence: sequence parallelism.
    act_dtype: operands of the layers' GEMMs; dispatch_dtype, attn_out_dtype, swiglu_in_dtype: of what the name says.
    keeps_casts: operands of weight gradients are cast forward and kept, the norms in front of them computed again or not, the
    attention's output beside its own format; else what is kept is cast in the backward.
    recompute: modules computed again in the backward ("layer": everything but a layer's input).
    checkpoint: which layers of a stage are recomputed whole; None: none is.
    is_loss_fused: the loss overwrites the logits by their gradient; else FP32 probabilities are kept beside them. head_chunk:
    tokens whose logits are there at a time, with their gradients in the forward; None: all.
    expert_rows_frac: rows of a rank's experts over the even load, mean of the micro-batches in flight;
    expert_rows_peak_frac: of the fullest micro-batch (at least the former). row_padding: an expert's rows are padded
    to a multiple. autograd: fused, transformer_engine or eager. fuses_experts: as of `Recipe`.
    keeps_outputs: the last stage's logits stay to the end of the step. gathers_logits: as of `Recipe`.
    attention: library of the attention core; "": the stack's own. plain_modules, own_modules, own_gemms,
    seq: as of `Recipe`.
    accumulates: gradients are added to those of earlier micro-batches.
    bf16_layers: as of `Recipe`. sends: what of a token the dispatcher sends.
    has_hidden: the hidden state that an MTP module takes is kept already, by the head in front of it.
    """

    tokens: int
    tp: int = 1
    cp: int = 1
    cp_comm: CpComm = "ring"
    cp_kv: CpKv = "expanded"
    shards_sequence: bool = False
    ep: int = 1
    etp: int = 1
    act_dtype: str = "bf16"
    dispatch_dtype: str = "bf16"
    attn_out_dtype: str = "bf16"
    swiglu_in_dtype: str = "bf16"
    keeps_casts: bool = False
    recompute: frozenset[str] = frozenset()
    is_loss_fused: bool = True
    head_chunk: int | None = None
    combine_dtype: str = "bf16"
    expert_rows_frac: float = 1.0
    expert_rows_peak_frac: float = 1.0
    row_padding: int = 1
    checkpoint: Checkpoint | None = None
    autograd: str = "fused"
    fuses_experts: bool = True
    keeps_outputs: bool = False
    gathers_logits: bool = False
    has_hidden: bool = False
    bf16_layers: tuple[int, int] = (0, 0)
    attention: str = ""
    plain_modules: bool = False
    seq: int = 0
    own_modules: bool = False
    own_gemms: bool = False
    accumulates: bool = False
    sends: Sends = "distinct"

    @property
    def sequence_tokens(self) -> int:
        """Tokens of the rank outside the tensor-parallel GEMMs."""
        return -(-self.tokens // self.tp) if self.shards_sequence else self.tokens

    @property
    def gemm_input_tokens(self) -> int:
        """Tokens of a tensor-parallel GEMM's input as it is kept: the rank's own, gathered again in the backward (Megatron-LM),
        or the gathered ones (DTensor in eager mode).
        """
        return self.tokens if self.is_eager else self.sequence_tokens

    def plain(self) -> ActivationRecipe:
        """The recipe of a layer that stays in BF16."""
        return replace(
            self, keeps_casts=False, row_padding=1, act_dtype="bf16", dispatch_dtype="bf16", combine_dtype="bf16",
            attn_out_dtype="bf16", swiglu_in_dtype="bf16",
        )  # fmt: skip

    @property
    def drops_norms(self) -> bool:
        """Whether a norm's output, as a linear layer takes it, is computed again."""
        return "rmsnorm" in self.recompute and not self.keeps_casts

    @property
    def is_eager(self) -> bool:
        """Whether plain modules keep what each of their functions needs."""
        return self.autograd == "eager"

    @property
    def makes_weight_gradients(self) -> bool:
        """Whether the gradient of a vocabulary matrix is a tensor of its own before it is added to the accumulated one."""
        return self.autograd != "fused"

    def expert_rows(self, moe: MoeFfn, load: float) -> int:
        """Rows of the rank's local experts, half of the padding of each included, at `load` times the even share."""
        padding = moe.num_routed_experts // self.ep * (self.row_padding - 1) // 2
        return ceil(self.sequence_tokens * moe.top_k * self.etp * load) + padding


class BlockBuilder:
    """Collects the tensors of one block."""

    def __init__(self, name: str, recipe: ActivationRecipe) -> None:
        self.name = name
        self.recipe = recipe
        self.saved: list[Tensor] = []
        self.deferred: list[Tensor] = []
        self.forward: list[Tensor] = []
        self.backward: list[Tensor] = []
        self.outputs: list[Tensor] = []

    def keep(self, name: str, dtype: str, elements: int, *, recomputed: bool = False) -> None:
        """Needed by I; a recomputed one lives only inside F and I."""
        tensor = Tensor(name, tensor_bytes(dtype, elements))
        if recomputed:
            self.forward.append(tensor)
            self.backward.append(tensor)
        else:
            self.saved.append(tensor)

    def operand(self, name: str, elements: int, *, recomputed: bool = False, dtype: str | None = None) -> None:
        """Input of a linear layer, needed by W; a recomputed one lives inside F and from I to W."""
        tensor = Tensor(name, tensor_bytes(dtype or self.recipe.act_dtype, elements), "W")
        if recomputed:
            self.forward.append(tensor)
            self.deferred.append(tensor)
        else:
            self.saved.append(tensor)

    def gradient(self, name: str, elements: int, dtype: str | None = None) -> None:
        """Output gradient of a linear layer, made by I and needed by W; in BF16 it is what I works on, in FP8 a copy of it."""
        dtype = dtype or self.recipe.act_dtype
        self.deferred.append(Tensor(name, tensor_bytes(dtype, elements), "W", is_working=dtype == "bf16"))

    def activation(self, owner: str, rows: int, f: int, num_up: int, hidden: int) -> None:
        """Input and output of SwiGLU, or what stands in its place, and the output gradients of the projections around it.

        num_up: projections in front of it, each f wide.
        """
        again = num_up - 1 if "gemms" in self.recipe.recompute else 0
        self.keep(f"{owner}.swiglu_in", self.recipe.swiglu_in_dtype, (num_up - again) * rows * f)
        if again:
            self.keep(f"{owner}.up_out", self.recipe.swiglu_in_dtype, again * rows * f, recomputed=True)
        if self.recipe.is_eager and num_up > 1:
            # The activation of the gate and the product are two functions: the product keeps both of its factors.
            self.keep(f"{owner}.silu_out", "bf16", rows * f, recomputed="swiglu" in self.recipe.recompute)
        self.operand(f"{owner}.swiglu_out", rows * f, recomputed="swiglu" in self.recipe.recompute)
        self.gradient(f"{owner}.up_grad", num_up * rows * f)
        self.gradient(f"{owner}.down_grad", rows * hidden)

    def build(self) -> BlockMemory:
        """The finished record."""
        return BlockMemory(
            self.name, tuple(self.saved), tuple(self.deferred), tuple(self.forward), tuple(self.backward),
            tuple(self.outputs),
        )  # fmt: skip


def bf16(name: str, elements: int) -> Tensor:
    """A BF16 tensor."""
    return Tensor(name, tensor_bytes("bf16", elements))


def fullest(instants: Iterable[list[Tensor]]) -> list[Tensor]:
    """The instant with the most bytes."""
    return max(instants, key=total_bytes)


def recomputed(block: BlockMemory, kept: Sequence[str]) -> BlockMemory:
    """The block with everything but the named tensors computed again in I."""
    again = tuple(tensor for tensor in block.saved if tensor.name not in kept)
    return BlockMemory(
        block.name,
        saved=tuple(tensor for tensor in block.saved if tensor.name in kept),
        deferred=(*block.deferred, *(tensor for tensor in again if tensor.until == "W")),
        working_forward=(*block.working_forward, *again),
        working_backward=(*block.working_backward, *(tensor for tensor in again if tensor.until == "I")),
        outputs=block.outputs,
    )


def retained(block: BlockMemory) -> BlockMemory:
    """The block where I keeps its graph for W, and all that stands in it (autograd.grad with retain_graph)."""
    return replace(block, saved=tuple(replace(tensor, until="W") for tensor in block.saved))


def checkpointed(blocks: Sequence[BlockMemory], kept: str) -> tuple[BlockMemory, ...]:
    """Blocks of layers that are computed again together: only the first one's tensor `kept` is kept.

    All of them are computed again before the backward of the last: by then the tensors of those before it are there too.
    """
    result: list[BlockMemory] = []
    waiting: tuple[Tensor, ...] = ()
    for idx, block in enumerate(blocks):
        light = recomputed(block, () if idx else (kept,))
        result.append(replace(light, working_backward=(*light.working_backward, *waiting)))
        waiting += tuple(tensor for tensor in block.saved if tensor not in light.saved)
    return tuple(result)
