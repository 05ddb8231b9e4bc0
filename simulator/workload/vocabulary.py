"""Vocabulary matrices that a rank computes with and that stand on another rank: it holds copies, whose gradients are summed.

Tied embeddings under a pipeline (Megatron-LM core/distributed/finalize_model_grads.py, embedding group of the first and last
stage), and the embedding or head that an MTP module borrows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from simulator.scenario.model import ModelSpec
from simulator.workload.layers.part import PARTS, Vocabulary
from simulator.workload.op import ParamGroup, StageWorkload, Workload
from simulator.workload.stages import forward_order


@dataclass(frozen=True, slots=True)
class VocabularyCopy:
    """One matrix of which copies stand on other pipeline ranks than its own.

    parameters: of the matrix on one rank. ranks: pipeline ranks that hold it or a copy, ascending; of two ranks that hold the
    same stages (DualPipe) the lower one. stages: those that compute with a copy.
    """

    matrix: Vocabulary
    parameters: int
    ranks: tuple[int, ...]
    stages: tuple[int, ...]


def vocabulary_copies(
    model: ModelSpec, layout: Sequence[Sequence[str]], placement: Sequence[Sequence[int]], tp: int = 1
) -> tuple[VocabularyCopy, ...]:
    """Every matrix with copies. layout: codes of every stage; placement: stages of every pipeline rank."""
    found = []
    for matrix in ("embedding", "head"):
        ranks, stages = set[int](), set[int]()
        for rank, held in enumerate(placement):
            using = [stage for stage in held if any(matrix in PARTS[code].vocabulary(model) for code in layout[stage])]
            is_owner = any(matrix in PARTS[code].holds for stage in held for code in layout[stage])
            first = next(other for other, stages_there in enumerate(placement) if set(stages_there) == set(held))
            if using or is_owner:
                ranks.add(min(rank, first))
            if using and not is_owner:
                stages.add(using[0])
        if stages:
            parameters = model.vocab_size // tp * model.hidden_size
            found.append(VocabularyCopy(matrix, parameters, tuple(sorted(ranks)), tuple(sorted(stages))))
    return tuple(found)


def with_copies(
    workload: Workload, model: ModelSpec, layout: Sequence[Sequence[str]], copies: Sequence[VocabularyCopy]
) -> Workload:
    """The workload whose stages count the copies that they compute with among their dense parameters."""
    stages = list(workload.stages)
    for copy in copies:
        for stage in copy.stages:
            stages[stage] = _with_copy(stages[stage], model, layout[stage], copy)
    return replace(workload, stages=tuple(stages))


def _with_copy(stage: StageWorkload, model: ModelSpec, codes: Sequence[str], copy: VocabularyCopy) -> StageWorkload:
    uses = [copy.matrix in part.vocabulary(model) for part in forward_order(codes)]
    last = len(stage.groups) - 1  # of a stage that stands for all (mechanisms.stage_imbalance) others may be fewer
    unit = stage.groups[min(uses.index(True), last)].unit if stage.groups else 0
    group = ParamGroup(unit, copy.parameters)
    return replace(stage, dense_params=stage.dense_params + copy.parameters, groups=(*stage.groups, group))
