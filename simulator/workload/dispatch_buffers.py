"""Communication buffers of dispatchers, made once and sized for the worst case."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from simulator.scenario import derived
from simulator.scenario.scenario import Scenario
from simulator.workload.tensors import Tensor, tensor_bytes

ALIGNED_TOKENS = 16
"""Hybrid-EP's tokens of a rank are rounded up to a multiple of it (deep_ep/hybrid_ep_buffer.py)."""


class Queues(Protocol):
    """What is assumed of DeepEP's queues; simulator.workload.memory.MemoryAssumptions has it, and says what it means."""

    @property
    def dispatch_nvl_tokens(self) -> float: ...
    @property
    def dispatch_rdma_tokens(self) -> float: ...
    @property
    def dispatch_slot_metadata_bytes(self) -> float: ...
    @property
    def dispatch_granularity_bytes(self) -> float: ...


def dispatch_buffer(scenario: Scenario, assumed: Queues, gpus_per_node: int) -> Tensor:
    """Buffers of the scenario's dispatcher; none where no tokens are sent."""
    size = 0.0 if scenario.parallel.ep == 1 else BUFFERS[scenario.moe.dispatcher](scenario, assumed, gpus_per_node)
    return Tensor("buffers.dispatch", round(size))


def _peers(scenario: Scenario, gpus_per_node: int) -> int:
    """Members of an expert group in a node, etp GPUs apart: tokens go to one of the ranks that share an expert."""
    return max(1, gpus_per_node // scenario.parallel.etp)


def _deepep(scenario: Scenario, assumed: Queues, gpus_per_node: int) -> float:
    """A channel is two SMs; each has a receive queue a GPU of the node, and where the expert group spans nodes a send and a
    receive queue a node (deepseek-ai/DeepEP csrc/config.hpp, get_nvl_buffer_size_hint and get_rdma_buffer_size_hint), their
    slots of a token's BF16 hidden state and its metadata.
    """
    ep, peers = scenario.parallel.ep, _peers(scenario, gpus_per_node)
    slot = tensor_bytes("bf16", scenario.model.hidden_size) + assumed.dispatch_slot_metadata_bytes
    channels, nodes = derived.comm_sms(scenario) // 2, -(-ep // peers)
    buffer = channels * min(ep, peers) * assumed.dispatch_nvl_tokens * slot
    if nodes > 1:
        heap = channels * nodes * 2 * assumed.dispatch_rdma_tokens * slot
        granularity = assumed.dispatch_granularity_bytes
        buffer += -(-heap // granularity) * granularity if granularity else heap
    return buffer


def _hybridep(scenario: Scenario, _assumed: Queues, gpus_per_node: int) -> float:
    """One receive buffer for dispatch and combine that holds every token of the group, in BF16, with FP32 weights for each
    expert of a domain and FP8 scales; between domains what a rank sends, and what comes from each other domain, both ways
    (deepseek-ai/DeepEP branch hybrid-ep, csrc/hybrid_ep/buffer/intranode.cu and internode_doca.cu, allocate_*_buffers).
    """
    moe, hidden, ep = scenario.model.moe, scenario.model.hidden_size, scenario.parallel.ep
    assert moe is not None, "only experts have a dispatcher"
    peers = min(ep, _peers(scenario, gpus_per_node))
    domains = -(-ep // peers)
    tokens = -(-derived.dispatched_tokens(scenario) // ALIGNED_TOKENS) * ALIGNED_TOKENS
    experts = moe.num_routed_experts // ep * peers
    scales = 4 * (hidden // 128)
    size = tokens * ep * (2 * hidden + 4 * experts + scales)
    if domains > 1:
        payload = (1 if scenario.moe.dispatch_dtype == "fp8" else 2) * hidden + scales
        size += tokens * (payload + 4 * moe.num_routed_experts)
        size += tokens * (domains - 1) * (payload + 4 * experts)
        size += 2 * tokens * (domains - 1) * (2 * hidden + 4 * experts)
    return size


def _of_library(_scenario: Scenario, _assumed: Queues, _gpus_per_node: int) -> float:
    """None of its own: the communicator's are counted with the others'."""
    return 0.0


BUFFERS: Final[Mapping[str, Callable[[Scenario, Queues, int], float]]] = {
    "deepep": _deepep, "hybridep": _hybridep, "alltoall": _of_library, "allgather": _of_library,
}  # fmt: skip
"""By the names of simulator/scenario/dispatchers.py."""
