"""Which of the libraries that made a memory-bound kernel stands for it where nobody names one."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

FUSED: Final = ("triton", "compiled")
"""Libraries that make one kernel of a chain, the better first."""
TORCH: Final = "torch"
CHAINS: Final = frozenset({
    "permute", "router_fused", "router_pointwise", "router_pointwise_bwd", "routing_map", "row_map", "transpose",
    "unpermute",
})  # fmt: skip
"""Ops for which training frameworks have kernels of their own, and plain torch a chain of functions or a slow copy: no measure
of what a framework takes."""


def serving(op: str, libraries: Collection[str]) -> str | None:
    """The library whose times an op has without a name: a fused one, else torch's own, else the only one; None where what
    was measured is no measure of others, so that the op's public share stands.
    """
    fused = next((name for name in FUSED if name in libraries), None)
    if fused is not None or op in CHAINS:
        return fused
    return TORCH if TORCH in libraries else min(libraries)
