"""The watts of a step, as a result says them."""

from __future__ import annotations

from pydantic import Field

from simulator.results.document import ResultModel


class RankWatts(ResultModel):
    """A GPU of one pipeline rank. mean_w: over the step; speed: of arithmetic over that of its first launches after a rest."""

    pp_rank: int = Field(ge=0)
    mean_w: float = Field(gt=0)
    speed: float = Field(gt=0, le=1)


class StepWatts(ResultModel):
    """Mean power of a GPU over the step and all ranks, and what the limit leaves of the chip's speed.

    mean_w, speed: means over the pipeline ranks. limit_w: the board's, or a lower cap. limited: whether any rank is slowed
    down. kwh_per_step: of all GPUs of the job (GPUs alone: no host, switch or cooling), in kWh.
    """

    mean_w: float = Field(gt=0)
    limit_w: float = Field(gt=0)
    speed: float = Field(gt=0, le=1)
    limited: bool
    kwh_per_step: float = Field(gt=0)
    by_rank: tuple[RankWatts, ...] = Field(min_length=1)
