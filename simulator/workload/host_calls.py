"""How many framework calls issue an operator, and which part of a layer a graph that holds it captures. No seconds here.

A kind of call is a thing that code does, such as a module around a GEMM or a fused operator behind a function of autograd;
what it takes depends on how work is issued (hwprofiles.hosts). Views, allocations and Python that no kernel stands for are in
the kinds' costs, but for the shuffling of counts in front of a dispatch (PREPROCESS), which launches kernels that the operators
of a layer do not have.

Scopes are Megatron-Core's (--cuda-graph-modules; its docs/discussions/deepseek-v3-gb200-optimization): attn is all of attention
with its norm and residual; mlp a dense layer's FFN; moe_router the norm, the router and shared experts that run beside no
message; moe_preprocess what is done with counts before a dispatch; moe the rest of a layer with experts.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from math import fsum
from typing import Final

from hwprofiles.kernels.shape import LOOP, OWN_STREAMS
from simulator.scenario.dispatchers import DISPATCHERS
from simulator.scenario.host import GraphScope
from simulator.workload.modules.chains import OWN, ROW_QUANTISER
from simulator.workload.op import AllToAll, Collective, Op, UnitKind, Work

PREPROCESS: Final = 13
"""Kernels between the router and a dispatch: Megatron-Core with DeepEP has 17 in router and preprocessing, four of them the
fused router's and its GEMM (docs/discussions/deepseek-v3-gb200-optimization, 2.2.1)."""
PREPROCESS_GLOBAL: Final = 27
"""The same where each rank works out splits for a collective: 31 with a fused router (there, 2.1.4)."""

FUNCTIONS: Final = frozenset(
    {
        "rmsnorm", "rmsnorm_bwd", "rope", "swiglu", "swiglu_bwd", "permute", "unpermute", "row_map", "routing_map",
        "cross_entropy", "cross_entropy_bwd", "embedding", "embedding_bwd", "adamw", "router_fused",
    }
)  # fmt: skip
"""Kernel classes that one call stands for, however many kernels it launches; a fused router's are a call each."""
CASTS: Final = frozenset(
    {
        "quantise", "quantise_transpose", "quantise_joint", "quantise_hadamard", "quantise_e5m6", "dequantise",
        "dequantise_e5m6",
    }
)  # fmt: skip
"""Kernel classes that cast a tensor."""
SORT_CALLS: Final = 4.0
"""Operators of one kernel that take the host as long as one that sorts, whose 20 kernels one call launches
(hwprofiles/measurements/h100-host-dispatch-2026-11-27.csv: a sort 48 us, a sum 14 to 18)."""
CASTS_OF_EXPERT: Final = {"bf16": 0, "fp8-block": 1, "fp8": 2, "mxfp8": 2, "nvfp4": 3}
"""Calls an expert and tensor around its cast, by format of the GEMM's operands: a scale of the whole tensor needs its maximum
first, scales of blocks of 32 or 16 are put in the order that tensor cores read (docs/discussions/
deepseek-v3-gb200-optimization, 2.1.3), and four bits need a random Hadamard transform too."""


@dataclass(frozen=True, slots=True)
class Calls:
    """Numbers of calls of each kind (hwprofiles.hosts.DispatchCosts). is_backward: nodes of autograd, not forward calls."""

    is_backward: bool
    launch: float = 0
    module: float = 0
    function: float = 0
    attention: float = 0
    cast: float = 0
    looped_expert: float = 0
    grouped_expert: float = 0
    expert_cast: float = 0
    parameter: float = 0
    collective: float = 0
    message: float = 0

    def __add__(self, more: Calls) -> Calls:
        """Those of both, in the first one's direction."""
        return Calls(self.is_backward, *(a + b for a, b in zip(astuple(self)[1:], astuple(more)[1:], strict=True)))

    @property
    def number(self) -> float:
        """All of them, what an expert or a parameter adds included."""
        return fsum(astuple(self)[1:])


def is_backward(block: str) -> bool:
    """Whether a block or message belongs to a backward; what is computed again is a forward."""
    return "_b" in block or block.endswith("_w") or "_w_" in block


def calls_of(work: Work | AllToAll, block: str) -> Calls:
    """What issues it once. block: the block of a unit that it stands in, or a message's key."""
    back = is_backward(block)
    if isinstance(work, AllToAll):
        return Calls(back, message=1)
    if isinstance(work, Collective):
        return Calls(back, collective=1)
    is_forward_again = work.name.endswith("_recompute")
    return _of_op(work, back and not is_forward_again)


def _of_op(op: Op, back: bool) -> Calls:
    shape = op.shape
    if shape.library in (
        OWN,
        ROW_QUANTISER,
    ):  # functions that a function of autograd calls, forward and backward as well as any other
        return Calls(False, function=1, launch=shape.num_kernels)
    if shape.library.startswith(OWN_STREAMS):  # launched from Python too
        return Calls(False, function=1)
    if shape.op == "grouped_gemm":
        loops = shape.library == LOOP
        casts = shape.groups * CASTS_OF_EXPERT.get(shape.dtype, 1) if shape.variant != "wgrad" else 0
        return Calls(
            back, module=1, looped_expert=shape.groups if loops else 0, grouped_expert=0 if loops else shape.groups,
            expert_cast=casts, parameter=(shape.groups if loops else 1) if shape.variant == "wgrad" else 0,
        )  # fmt: skip
    if shape.op == "gemm":
        return Calls(back, module=1, parameter=1 if shape.variant == "wgrad" else 0)
    if shape.op.startswith("attention"):
        return Calls(back, attention=1)
    if shape.op in CASTS and not op.routed:
        return Calls(back, cast=1)
    if shape.op in FUNCTIONS:
        number = shape.num_kernels if shape.op == "router_fused" else 1
        return Calls(back, function=number, parameter=1 if shape.op == "rmsnorm_bwd" else 0)
    if shape.op in ("sort", "index_put"):
        return Calls(back, launch=SORT_CALLS * (1 if shape.op == "index_put" else shape.num_kernels))
    return Calls(back, launch=shape.num_kernels)


def preprocess_calls(message: AllToAll) -> Calls:
    """What stands between the router and a dispatch, or a dispatch that is sent again."""
    by_library = DISPATCHERS[message.dispatcher].is_library
    return Calls(False, launch=PREPROCESS_GLOBAL if by_library else PREPROCESS)


_ATTENTION: Final = ("attn_f", "attn_r", "attn_b", "attn_w")
_BESIDE: Final = ("shared_f_", "shared_b_", "shared_w_")
_ROUTER: Final = ("router", "ffn_norm", "ffn_input_grad", "ffn_quantise")
"""Starts of the names of operators that stand in the blocks of attention and belong to the router's part."""


def graph_scope(work: Work | AllToAll, block: str, kind: UnitKind) -> GraphScope | None:
    """The finest scope that holds it; None: of a head, which no graph of a layer holds."""
    if kind == "head":
        return None
    if isinstance(work, AllToAll):
        return "moe"
    if block in _ATTENTION:
        return _in_attention_blocks(work, kind)
    if kind == "dense":
        return "mlp"
    if block.startswith(_BESIDE) or not work.name.startswith("shared"):
        return "moe"
    return "moe_router"


def _in_attention_blocks(work: Work, kind: UnitKind) -> GraphScope:
    if kind == "dense":
        return "mlp" if work.name.startswith(_ROUTER) else "attn"
    if work.name.startswith("dispatch") or "send" in work.name:
        return "moe_preprocess"
    return "moe_router" if work.name.startswith(_ROUTER) else "attn"
