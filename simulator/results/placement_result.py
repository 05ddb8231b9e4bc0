"""Where the ranks of a job lie: GPUs used of each scale-up domain, GPUs paid for, and how the expert groups fit in."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from simulator.results.document import ResultModel


class ExpertGroups(ResultModel):
    """Expert groups that lie alike. groups: how many; ranks_by_domain: members of one on each scale-up domain, most first.

    is_simulated: the step is that of these, the slowest; the others wait for them at its end.
    """

    groups: int = Field(ge=1)
    ranks_by_domain: tuple[int, ...] = Field(min_length=1)
    is_simulated: bool


class Placement(ResultModel):
    """gpus_per_domain: GPUs used of each scale-up domain of domain_gpus; num_domains: that hold the job.

    rule: why so many: given by the scenario; groups_and_job: the largest multiple of host and parallel groups that divides
    the job; groups: the largest multiple, which does not; divisor_of_group: the largest divisor of a group that exceeds the
    domain; whole_domain: where none of these exists.
    gpus_used: of the job, which GPU-hours and cost count. gpus_paid: whole domains, or the whole hosts of a job inside one;
    gpus_idle: paid and not used. expert_groups: absent where no expert is on another GPU.
    """

    gpus_per_domain: int = Field(ge=1)
    domain_gpus: int = Field(ge=1)
    rule: Literal["given", "groups_and_job", "groups", "divisor_of_group", "whole_domain"]
    num_domains: int = Field(ge=1)
    gpus_used: int = Field(ge=1)
    gpus_paid: int = Field(ge=1)
    gpus_idle: int = Field(ge=0)
    expert_groups: tuple[ExpertGroups, ...] | None = None
