"""Device memory of captured CUDA graphs: their pool, their nodes, their static tensors, and experts' buffers of a fixed size.

Sources: NVIDIA/Megatron-LM docs/discussions/deepseek-v3-gb200-optimization, 2.3 (a graph a layer, pass and micro-batch, all in
one pool that the allocator shares with nothing else); megatron/core/transformer/cuda_graphs.py and full_cuda_graph.py; NVIDIA/
TransformerEngine transformer_engine/pytorch/graph.py, make_graphed_callables with _reuse_graph_input_output_buffers;
Megatron-LM docs/user-guide/features/paged_stash.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from simulator.scenario.host import GraphScope
from simulator.scenario.host_rules import FULL, captures_experts, graph_scopes
from simulator.scenario.scenario import Scenario
from simulator.workload.host_calls import PREPROCESS, graph_scope
from simulator.workload.op import Op, StageWorkload, Unit
from simulator.workload.saved import ActivationRecipe
from simulator.workload.tensors import BlockMemory, Tensor, total_bytes

ROUTED: Final = "expert"
MOE_BLOCK: Final = "moe_ffn"
DATA_BYTES: Final = 8 + 8 + 8 + 4
"""Of a token: its id, label and position in 64 bits, its weight in the loss in 32 (Megatron-LM pretrain_gpt.py)."""
_OWNERS: Final[dict[str, GraphScope]] = {"attn": "attn", "router": "moe_router", "shared": "moe_router", ROUTED: "moe"}
"""Whose tensors a scope captures, by the first part of their names; `ffn`: a dense layer's FFN, or a router's norm."""


class GraphAssumptions(Protocol):
    """What is assumed of graphs; simulator.workload.memory.MemoryAssumptions has it, and says what it means."""

    @property
    def graph_node_bytes(self) -> float: ...
    @property
    def graph_pool_frac(self) -> float: ...
    @property
    def graph_rows_frac(self) -> float: ...
    @property
    def graph_budget_frac(self) -> float: ...


@dataclass(frozen=True, slots=True)
class GraphNeeds:
    """Of a rank. nodes: kernels in all its graphs; pooled_bytes: captured tensors at their fullest; working_bytes: of them,
    what lives only while one block runs; static_bytes: tensors at addresses that graphs read and write, beside those kept.
    """

    nodes: int = 0
    pooled_bytes: int = 0
    working_bytes: int = 0
    static_bytes: int = 0

    def tensors(self, assumed: GraphAssumptions) -> tuple[Tensor, ...]:
        """What graphs take beside the tensors that an eager step holds.

        What captured work needs while it runs lies idle in the pool while other work runs. An upper estimate where all blocks
        are captured: beside the pool stand only the optimizer's temporaries and what the steps before the capture left.
        """
        return (
            Tensor("buffers.graph_pool", self.working_bytes + round(assumed.graph_pool_frac * self.pooled_bytes)),
            Tensor("buffers.graph_nodes", round(assumed.graph_node_bytes * self.nodes)),
            Tensor("buffers.graph_static", self.static_bytes),
        )

    def num_bytes(self, assumed: GraphAssumptions) -> int:
        """Their sum."""
        return total_bytes(self.tensors(assumed))


NO_GRAPHS: Final = GraphNeeds()


def captured(block: BlockMemory, scenario: Scenario) -> BlockMemory:
    """What of a block's tensors is made in captured graphs."""
    if scenario.host.cuda_graph == FULL:
        return replace(block, gradients=())
    scopes = _held(scenario)

    def held(tensors: Iterable[Tensor]) -> tuple[Tensor, ...]:
        return tuple(tensor for tensor in tensors if _scope_of(tensor, block) in scopes)

    return BlockMemory(
        block.name, held(block.saved), held(block.deferred), held(block.working_forward), held(block.working_backward),
        held(block.outputs),
    )  # fmt: skip


def _held(scenario: Scenario) -> frozenset[str]:
    """The scopes, with those that `moe` holds."""
    scopes = graph_scopes(scenario)
    return scopes | {"moe_router", "moe_preprocess"} if "moe" in scopes else scopes


def _scope_of(tensor: Tensor, block: BlockMemory) -> GraphScope | None:
    owner = tensor.name.partition(".")[0]
    if owner == "ffn":
        return "moe_router" if block.name == MOE_BLOCK else "mlp"
    return _OWNERS.get(owner)


def working_bytes(blocks: Iterable[BlockMemory]) -> int:
    """The most that lives only while one of the blocks runs."""
    return max(
        (max(total_bytes(each.working_forward), total_bytes(each.working_backward)) for each in blocks), default=0
    )


def stage_nodes(stage: StageWorkload, scenario: Scenario) -> int:
    """Captured kernels of one micro-batch in all passes of a stage."""
    scopes = None if scenario.host.cuda_graph == FULL else _held(scenario)
    return sum(_unit_nodes(unit, scopes) for unit in stage.units)


def _unit_nodes(unit: Unit, scopes: frozenset[str] | None) -> int:
    """scopes: None: all."""
    nodes = 0
    for block, works in unit.blocks.items():
        for work in works:
            if scopes is None or graph_scope(work, block, unit.kind) in scopes:
                nodes += work.shape.num_kernels if isinstance(work, Op) else 1
    for key, message in unit.all_to_all.items():
        if scopes is None or graph_scope(message, key, unit.kind) in scopes:
            nodes += 1
        if key == "dispatch_f" and (scopes is None or "moe_preprocess" in scopes):
            nodes += PREPROCESS
    return nodes


def static_bytes(scenario: Scenario, boundary_bytes: int, tokens: int, num_micro_batches: int) -> int:
    """Beside the inputs of layers, which are kept anyway: of a whole step all its data; of layers a gradient of what a layer
    gives and one of what it takes, which the graphs of all layers and micro-batches share.
    """
    if scenario.host.cuda_graph == FULL:
        return DATA_BYTES * tokens * num_micro_batches
    return 2 * boundary_bytes


def captured_micro_batches(scenario: Scenario, num_micro_batches: int, has_pairs: bool) -> int:
    """Micro-batches that have graphs of their own: all of a step, but for layers of a rank without a pipeline, where each is
    done before the next (TECudaGraphHelper._get_cuda_graph_input_data).
    """
    if scenario.host.cuda_graph != FULL and scenario.parallel.pp == 1 and not has_pairs:
        return 1
    return num_micro_batches


def with_fixed_rows(recipe: ActivationRecipe, scenario: Scenario, assumed: GraphAssumptions) -> ActivationRecipe:
    """The recipe with the rows that captured experts have room for, where no capacity pads them: more than a balanced router
    sends, so that a real one rarely sends too many.
    """
    if not fixes_rows(scenario):
        return recipe
    kept = max(recipe.expert_rows_frac, assumed.graph_rows_frac)
    worked = max(recipe.expert_rows_peak_frac, assumed.graph_budget_frac, kept)
    return replace(recipe, expert_rows_frac=kept, expert_rows_peak_frac=worked)


def fixes_rows(scenario: Scenario) -> bool:
    """Whether captured experts have buffers of a fixed size that no capacity gives."""
    return captures_experts(scenario) and scenario.parallel.ep > 1 and not scenario.moe.pad_to_capacity


def unpacked(block: BlockMemory, recipe: ActivationRecipe) -> BlockMemory:
    """The block where kept rows are packed into a stash: while it runs they stand in buffers of the full size as well."""
    kept = total_bytes(tensor for tensor in block.saved if tensor.name.startswith(f"{ROUTED}."))
    if not kept:
        return block
    full = Tensor(f"{ROUTED}.unpacked", round(kept * recipe.expert_rows_peak_frac / recipe.expert_rows_frac))
    return replace(
        block, working_forward=(*block.working_forward, full), working_backward=(*block.working_backward, full)
    )


def is_captured(scenario: Scenario) -> bool:
    """Whether anything is."""
    return scenario.host.cuda_graph != "none"


def rank_needs(
    scenario: Scenario, held: Sequence[StageWorkload], blocks: Iterable[BlockMemory], pooled_bytes: int, static: int,
    micro_batches: int,
) -> GraphNeeds:  # fmt: skip
    """Of a rank that holds these stages. blocks: what is captured of theirs; pooled_bytes: of these at their fullest."""
    nodes = micro_batches * sum(stage_nodes(stage, scenario) for stage in held)
    return GraphNeeds(nodes, pooled_bytes, working_bytes(blocks), static)
