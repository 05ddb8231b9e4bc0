"""How many GPUs of each scale-up domain a job takes, and what it pays for those that it leaves idle.

A rack of 72 GPUs holds groups of 8, 16 or 64 without a remainder only where 64 of its GPUs are used: consecutive ranks
that filled all 72 would put some groups across two racks, and every exchange of these would go over NICs.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm
from typing import Literal

from simulator.scenario import derived
from simulator.scenario.hardware import node_of
from simulator.scenario.scenario import Scenario

DomainRule = Literal["given", "groups_and_job", "groups", "divisor_of_group", "whole_domain"]


@dataclass(frozen=True, slots=True)
class DomainUse:
    """GPUs used of each scale-up domain, how that number was found, and what is paid.

    gpus_per_domain: d, used of each of `num_domains` (fewer in the last where d does not divide the job).
    rule: given by the scenario; or the largest multiple of host and groups that divides the job (groups_and_job), that
    does not (groups); or, where a group exceeds the domain, the largest divisor of it (divisor_of_group); or the whole
    domain, where none of these exists (whole_domain).
    gpus_used: of the job. gpus_paid: whole domains; of a job inside one domain its whole hosts.
    """

    gpus_per_domain: int
    rule: DomainRule
    num_domains: int
    gpus_used: int
    gpus_paid: int

    @property
    def gpus_idle(self) -> int:
        """GPUs that are paid for and do nothing."""
        return self.gpus_paid - self.gpus_used


def domain_use(domain: int, host: int, num_gpus: int, groups: int, given: int | None = None) -> DomainUse:
    """The use of domains of `domain` GPUs by a job.

    host: GPUs of one host (a compute tray), which divides the domain. groups: least common multiple of the groups that
    should not straddle a domain, lcm(tp*cp, etp*ep). given: the scenario's choice, a multiple of host up to domain.
    """
    rule: DomainRule
    used, rule = (given, "given") if given is not None else _default(domain, host, num_gpus, groups)
    num_domains = -(-num_gpus // used)
    paid = num_domains * domain if num_domains > 1 else -(-num_gpus // host) * host
    return DomainUse(used, rule, num_domains, num_gpus, paid)


def _default(domain: int, host: int, num_gpus: int, groups: int) -> tuple[int, DomainRule]:
    unit = lcm(host, groups)
    multiples = range(domain // unit * unit, 0, -unit)
    dividing = next((size for size in multiples if num_gpus % size == 0), None)
    if dividing is not None:
        return dividing, "groups_and_job"
    if multiples:
        return multiples[0], "groups"
    if groups > domain:
        divisors = (size for size in range(domain // host * host, 0, -host) if groups % size == 0)
        found = next(divisors, None)
        if found is not None:
            return found, "divisor_of_group"
    return domain, "whole_domain"


def domain_use_of(scenario: Scenario) -> DomainUse:
    """The use of the scenario's domains."""
    node = node_of(scenario)
    return domain_use(
        node.scale_up_domain_gpus, node.gpus_per_node, scenario.cluster.num_gpus, derived.unbroken_ranks(scenario),
        scenario.cluster.gpus_per_domain,
    )  # fmt: skip
