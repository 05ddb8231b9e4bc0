"""What leaves a GPU's memory for its host's, and its rules: optimizer state with its update, activations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from hwprofiles.schema import Node
from simulator.scenario.section import MAX_LAYERS, Section
from simulator.scenario.wording import FieldProblem

Share = Annotated[float, Field(ge=0, le=1)]


class Offload(Section):
    """What the host holds. Parameters always stay on the GPU."""

    optimizer: Share = 0.0
    """Share of the optimizer's state that the host holds and updates (Megatron-LM's --optimizer-offload-fraction, DeepSpeed's
    ZeRO-Offload)."""
    optimizer_overlap: bool = False
    """Gradients come, parameters go and the host computes at the same time, piece by piece
    (--overlap-cpu-optimizer-d2h-h2d); else one behind the other."""
    activations: Share = 0.0
    """Share of what the offloaded layers keep of a micro-batch."""
    activation_layers: Annotated[int, Field(ge=1, le=MAX_LAYERS)] | None = None
    """The first so many layers of each stage are offloaded (cpu_offloading_num_layers); null: all."""

    @property
    def is_used(self) -> bool:
        """Whether anything is offloaded."""
        return self.optimizer > 0 or self.activations > 0


def offload_problems(offload: Offload, node: Node) -> Iterator[FieldProblem]:
    """What cannot be offloaded on a node."""
    if offload.is_used and node.host_link_bytes_per_s is None:
        what = "optimizer" if offload.optimizer > 0 else "activations"
        share = offload.optimizer if offload.optimizer > 0 else offload.activations
        keys = "host_link_name, host_link_bytes_per_s, host_memory_bytes and host_memory_bytes_per_s"
        text = f"{share:g} on node {node.name}, which states no link to its host; give the node {keys}"
        yield f"offload.{what}", f"{text}, or use {what}: 0"


def offload_warnings(offload: Offload, stage_layers: int) -> Iterator[FieldProblem]:
    """Keys that have no meaning. stage_layers: of the stage with the most."""
    if offload.optimizer_overlap and not offload.optimizer:
        yield "offload.optimizer_overlap", "has no meaning with optimizer: 0: nothing is updated on the host"
    if offload.activation_layers is not None and not offload.activations:
        yield (
            "offload.activation_layers",
            "has no meaning with activations: 0: nothing is offloaded; set activations: 1",
        )
    elif offload.activation_layers is not None and offload.activation_layers > stage_layers:
        text = (
            f"{offload.activation_layers} is more than the {stage_layers} layers of a stage, and acts as {stage_layers}"
        )
        yield "offload.activation_layers", text
