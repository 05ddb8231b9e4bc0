"""The key of what holds for one pipeline rank."""

from __future__ import annotations

from pydantic import Field

from simulator.results.document import ResultModel


class OnPipelineRank(ResultModel):
    """What holds for one pipeline rank; its place in the pipeline is the first key."""

    pp_rank: int = Field(ge=0)
