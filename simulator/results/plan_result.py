"""What a planner found: the layout that it chose, and those beside it with what they lose by.

Times are of one step in seconds, memory in bytes of one GPU.
"""

from __future__ import annotations

from pydantic import Field

from simulator.results.document import JsonValue, ResultModel


class PlannedLayout(ResultModel):
    """A layout that the planner looked at.

    layout: in words; keys: dotted key → value, as `--set` takes them. margin_bytes: what the fullest GPU has left (negative
    where it does not fit). step_s, tokens_per_s_per_gpu: simulated, absent where it was not; closed_form_s: what it was
    ranked by. binds: what holds it back most; loses_by: why it is not the choice, absent of the choice.
    """

    layout: str
    keys: dict[str, JsonValue]
    fits: bool
    margin_bytes: float
    step_s: float | None = Field(default=None, gt=0)
    closed_form_s: float = Field(gt=0)
    tokens_per_s_per_gpu: float | None = Field(default=None, gt=0)
    binds: str | None = None
    loses_by: str | None = None


class LayoutPlan(ResultModel):
    """How a layout was found. num_candidates: of the space; num_legal: that the simulator's rules allow; num_feasible: that
    fit; num_simulated: of these, step by step.

    rejected: reason → candidates; rule: of the choice, in words. simulated: best first, the choice among them. within_noise:
    layouts whose steps joint draws do not tell from the choice's.
    """

    num_candidates: int = Field(ge=0)
    num_legal: int = Field(ge=0)
    num_feasible: int = Field(ge=0)
    num_simulated: int = Field(ge=0)
    rejected: dict[str, int]
    rule: str
    chosen: PlannedLayout
    simulated: tuple[PlannedLayout, ...]
    within_noise: tuple[str, ...] = ()
