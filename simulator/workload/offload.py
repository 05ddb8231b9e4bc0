"""What of a stage's activations the host holds: bytes by layer, and what is left on the GPU.

Layers are offloaded from the first of the stage on, whole layers or a share of all that each keeps. A tensor that the host
holds is on the GPU while its block computes, and from the input gradient to the weight gradient where a schedule parts these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from simulator.workload.stages import PartBlocks
from simulator.workload.tensors import BlockMemory, Tensor


@dataclass(frozen=True, slots=True)
class Moved:
    """Bytes that go to the host behind part `first` of a stage and come back before the backward of part `last`."""

    first: int
    last: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class Offloaded:
    """A stage. blocks: as on the GPU; on_host: what the host holds of each; moved: by layers, in forward order."""

    blocks: tuple[BlockMemory, ...]
    on_host: tuple[BlockMemory, ...]
    moved: tuple[Moved, ...]

    @property
    def largest_bytes(self) -> int:
        """Of the layers that move together."""
        return max((each.num_bytes for each in self.moved), default=0)


def offloaded(parts: Sequence[PartBlocks], share: float, layers: int | None) -> Offloaded:
    """share: of what an offloaded layer keeps; layers: the first so many of the stage, None: all."""
    blocks: list[BlockMemory] = []
    on_host: list[BlockMemory] = []
    moved: list[Moved] = []
    done = 0
    for part in parts:
        taken = part.is_layer and (layers is None or done < layers)
        done += part.last - part.first + 1 if part.is_layer else 0
        pairs = [_split(block, share if taken else 0.0) for block in part.blocks]
        blocks += [on_gpu for on_gpu, _ in pairs]
        on_host += [host for _, host in pairs]
        num_bytes = sum(tensor.num_bytes for _, host in pairs for tensor in host.saved)
        if num_bytes:
            moved.append(Moved(part.first, part.last, num_bytes))
    return Offloaded(tuple(blocks), tuple(on_host), tuple(moved))


def _split(block: BlockMemory, share: float) -> tuple[BlockMemory, BlockMemory]:
    """The block on the GPU and what the host holds of it."""
    if not share:
        return block, BlockMemory(block.name, ())
    gone = tuple(replace(tensor, num_bytes=int(tensor.num_bytes * share)) for tensor in block.saved)
    kept = tuple(
        replace(tensor, num_bytes=tensor.num_bytes - host.num_bytes)
        for tensor, host in zip(block.saved, gone, strict=True)
    )
    on_gpu = replace(
        block,
        saved=kept,
        deferred=(*block.deferred, *(tensor for tensor in gone if tensor.until == "W")),
        working_forward=(*block.working_forward, *gone),
        working_backward=(*block.working_backward, *(tensor for tensor in gone if tensor.until == "I")),
    )
    return on_gpu, BlockMemory(block.name, tuple(Tensor(tensor.name, tensor.num_bytes) for tensor in gone))
