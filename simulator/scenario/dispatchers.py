"""Libraries that send tokens to their experts and results back: what each sends, holds and asks of the host.

A scenario names one as `moe.dispatcher`; a dispatcher is one entry here, one file of
simulator/costs/dispatchers, and its buffers in simulator/workload/dispatch_buffers.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from simulator.registry import Family

Sends = Literal["distinct", "rows", "everything"]
"""What of a token goes over links: one copy for each GPU (and over NICs for each node) of its experts; one for each expert; its
hidden state to every GPU of the group, wanted there or not."""


@dataclass(frozen=True, slots=True)
class DispatcherRule:
    """What of a dispatcher does not depend on hardware.

    what: it in words. sends: which copies. comm_sms: SMs of its kernels where a scenario gives none. sends_fp8: dispatch and
    combine in 8 bits exist. is_library: on the collectives of the GPU's library, with a communicator of the expert group.
    stages_input: tokens are copied into a buffer that peers can reach before they are sent. counts_ahead: with pad_to_capacity
    the host knows all sizes ahead. pads_rows: rows of an expert arrive in a multiple that GEMMs in 8 bits take. families: of
    GPUs that it runs on; (): any.
    """

    what: str
    sends: Sends
    comm_sms: int
    sends_fp8: bool = False
    is_library: bool = False
    stages_input: bool = False
    counts_ahead: bool = True
    pads_rows: bool = False
    families: tuple[str, ...] = ()

    def host_syncs(self, *, is_padded: bool) -> int:
        """How often a layer's forward the host waits for counts that only the GPU knows. is_padded: pad_to_capacity."""
        return 0 if is_padded and self.counts_ahead else 1


DISPATCHERS: Final[Family[DispatcherRule]] = Family("dispatcher")
DISPATCHERS.add(
    "deepep",
    DispatcherRule("DeepEP's normal kernels", "distinct", 20, sends_fp8=True, counts_ahead=False),
)
"""The host waits for the counts of the notify kernel (deepseek-ai/DeepEP csrc/deep_ep.cpp, intranode_dispatch); 20 SMs:
arXiv:2412.19437, 3.2.2, and NVIDIA/Megatron-LM core/transformer/transformer_config.py, moe_deepep_num_sms.
"""
DISPATCHERS.add(
    "hybridep",
    DispatcherRule(
        "NVIDIA's Hybrid-EP", "distinct", 16, sends_fp8=True, stages_input=True, pads_rows=True,
        families=("hopper", "blackwell"),
    ),
)  # fmt: skip
"""TMA copies, on Hopper and newer; 16 SMs: NVIDIA/Megatron-LM moe_hybridep_num_sms (deepseek-ai/DeepEP branch hybrid-ep,
csrc/hybrid_ep/config.cuh: 24 inside a domain, 8 between domains). The host waits for the number of permuted rows where it is
not given (deep_ep/hybrid_ep_buffer.py, dispatch_with_permute). Rows are padded in its permutation (Megatron-Core
core/transformer/moe/fused_a2a.py, pad_multiple).
"""
DISPATCHERS.add("alltoall", DispatcherRule("all-to-all of the collective library", "rows", 24, is_library=True))
"""NVIDIA/Megatron-LM core/transformer/moe/token_dispatcher.py, MoEAlltoAllTokenDispatcher: split sizes are copied to the host
before the exchange, unless all experts are padded to their capacity. SMs: a channel each, as collectives.
"""
DISPATCHERS.add("allgather", DispatcherRule("all-gather, reduce-scatter back", "everything", 24, is_library=True))
"""The same file, MoEAllGatherTokenDispatcher: the host waits for the rows of its own experts."""

DEFAULT: Final = "deepep"
"""Of scenarios that name none."""
