"""The document of `moesim plan`: cluster sizes, each in its best layout, with days and cost.

Times are of one step in seconds, memory in bytes of one GPU.
"""

from __future__ import annotations

from pydantic import Field

from simulator.results.comparison import StepDifference
from simulator.results.document import JsonValue, ResultModel, Seconds
from simulator.results.plan_result import LayoutPlan


class PlanRow(ResultModel):
    """A cluster size: what its best layout does, or what the scenario's own does.

    keys: dotted key -> value, as `--set` takes them, of the layout. margin_bytes: what the fullest GPU has left. days,
    cost_usd: of the tokens that the phases train, all at this step; absent where they say no tokens, or there is no price.
    why: why the size has no layout, which is then all there is of it.
    """

    num_gpus: int = Field(gt=0)
    layout: str | None = None
    keys: dict[str, JsonValue] | None = None
    fits: bool
    margin_bytes: float | None = None
    step_s: Seconds | None = None
    tokens_per_s_per_gpu: float | None = Field(default=None, ge=0)
    days: float | None = Field(default=None, ge=0)
    cost_usd: float | None = Field(default=None, ge=0)
    binds: str | None = None
    why: str | None = None


class GivenLayout(ResultModel):
    """The layout that the scenario states itself, on its own number of GPUs, beside the planned one of that size.

    is_plan: whether the two are one; planned: the other in the same words. keys: dotted key -> value, of those that it sets
    otherwise. difference: of its step less this one by category, the biggest first; absent where that size has no plan.
    """

    row: PlanRow
    is_plan: bool = False
    planned: str | None = None
    keys: dict[str, JsonValue]
    difference: tuple[StepDifference, ...] | None = None


class PlanResult(ResultModel):
    """The document of `moesim plan`: cluster sizes, ascending, each in its best layout.

    smallest_that_fits: GPUs of the smallest cluster that was found to have a layout that fits, planned or not. front: indices
    of the rows that no other beats in both days and cost; chosen: of the row that is taken by `rule`, absent where none meets
    the limits; plan: how its layout was found. rejected: reason -> layouts, over all sizes. tokens: that days and cost are of.
    notes: what days and cost leave out, a line each.
    """

    scenario: str
    rows: tuple[PlanRow, ...] = Field(min_length=1)
    smallest_that_fits: int | None = None
    front: tuple[int, ...] = ()
    chosen: int | None = None
    rejected: dict[str, int] = Field(default_factory=dict)
    rule: str
    tokens: float | None = Field(default=None, gt=0)
    max_days: float | None = Field(default=None, gt=0)
    max_usd: float | None = Field(default=None, gt=0)
    given: GivenLayout | None = None
    plan: LayoutPlan | None = None
    notes: tuple[str, ...] = ()
