"""The parallel block: y = x + attention(norm(x)) + ffn(norm(x)) with one norm, in place of one behind the other.

GPT-J's, PaLM's (arXiv:2204.02311, section 2) and MegaScale's layer (arXiv:2402.15627, section 3.1). Attention and FFN read the
same normed and, with tensor parallelism, gathered input, and their partial outputs are summed before one reduction; the same
holds of the gradients. So half of a layer's collectives, one norm and one quantised copy of its output go.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

from simulator.workload.op import Collective, Op

Some = TypeVar("Some", bound=Op | Collective)

SHARED: Final = {
    "attn_f": ("_output_reduce",),
    "mlp_f_local": ("_input_gather",),
    "mlp_b_local": ("_input_gather_again", "_input_grad_reduce"),
    "attn_b": ("_grad_gather",),
}
"""Block of a unit → ends of the names of its collectives that the other half's stand for."""
OWN_NORM: Final = ("ffn_norm", "ffn_quantise", "ffn_norm_bwd", "ffn_norm_recompute", "ffn_input_quantise_recompute")
"""Operators of the norm in front of an FFN of its own."""


def sharing(block: str, work: Iterable[Some]) -> tuple[Some, ...]:
    """The work of a block without what the parallel block's other half does for it."""
    ends = SHARED.get(block, ())
    return tuple(
        each
        for each in work
        if each.name not in OWN_NORM and not (isinstance(each, Collective) and ends and each.name.endswith(ends))
    )
