"""Which of the libraries that made a memory-bound kernel stands for it where nobody names one."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

FUSED: Final = "triton"
"""Kernels that are written by hand, as frameworks' own are."""
TORCH: Final = "torch"
CHAINS: Final = frozenset({
    "cross_entropy", "cross_entropy_bwd", "embedding_bwd", "permute", "rope", "router_fused", "router_pointwise",
    "router_pointwise_bwd", "routing_map", "row_map", "swiglu", "swiglu_bwd", "transpose", "unpermute",
})  # fmt: skip
"""Ops for which training frameworks have kernels of their own, and plain torch a chain of functions or a slow copy: no measure
of what a framework takes. Nor is what torch.compile makes of them: on an H100 half the time of frameworks' norms and losses.
"""


def serving(op: str, libraries: Collection[str]) -> str | None:
    """The library whose times an op has without a name: kernels written by hand, else torch's own; None where what was measured
    is no measure of others, so that the op's public share stands.
    """
    if FUSED in libraries:
        return FUSED
    return TORCH if TORCH in libraries and op not in CHAINS else None
