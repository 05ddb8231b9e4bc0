"""Memory by stage and named tensor."""

from __future__ import annotations

import pandas as pd

from simulator.report.memory_words import tensor_words
from simulator.results.step_result import MEMORY_KINDS, Memory, StageMemory, StageTensor


def tensors_of(stage: StageMemory) -> tuple[StageTensor, ...]:
    """The tensors of a stage's peak, largest first; in a document that tells of none, one a kind."""
    if stage.tensors is not None:
        return stage.tensors
    kinds = [StageTensor(name=kind, kind=kind, bytes=stage.bytes_of(kind)) for kind in MEMORY_KINDS]
    return tuple(sorted((tensor for tensor in kinds if tensor.bytes), key=lambda tensor: -tensor.bytes))


def memory_frame(memory: Memory) -> pd.DataFrame:
    """One row a stage and tensor: pp_rank, kind, tensor (its name), what (in words), size_bytes, share_of_peak (0 to 1).

    Stages in order, the tensors of each largest first.
    """
    rows = [
        (
            stage.pp_rank,
            tensor.kind,
            tensor.name,
            tensor_words(tensor.name),
            tensor.bytes,
            tensor.bytes / stage.peak_bytes,
        )
        for stage in memory.by_stage
        for tensor in tensors_of(stage)
    ]
    return pd.DataFrame(rows, columns=["pp_rank", "kind", "tensor", "what", "size_bytes", "share_of_peak"])


def worst_stage_frame(memory: Memory) -> pd.DataFrame:
    """The rows of `memory_frame` of the stage with the highest peak."""
    frame = memory_frame(memory)
    return frame[frame.pp_rank == memory.worst_stage.pp_rank].reset_index(drop=True)
