"""A layout in words: how the GPUs share a step, in the order in which people write it."""

from __future__ import annotations

from typing import Final, Protocol

from simulator.scenario.scenario import Scenario

DEGREES: Final = ("tp", "cp", "pp", "vpp", "ep", "etp")


class Plan(Protocol):
    """What has the keys of `parallel` that are said here, its degrees among them."""

    @property
    def zero_stage(self) -> int: ...
    @property
    def schedule(self) -> str: ...


def layout_text(scenario: Scenario) -> str:
    """ "tp1 cp1 pp16 vpp1 ep64 etp1 zero1 mb1 dualpipe, recompute selective": equal texts, equal degrees."""
    plan = scenario.parallel
    text = layout_words(plan, scenario.training.micro_batch_size, scenario.recompute.granularity)
    return text.replace(f"cp{plan.cp}", f"cp{plan.cp} ({plan.cp_comm})", 1) if plan.cp > 1 else text


def layout_words(plan: Plan, micro_batch_size: int, recompute: str) -> str:
    """The words of degrees, ZeRO stage, micro-batch, schedule and recompute."""
    degrees = " ".join(f"{key}{getattr(plan, key)}" for key in DEGREES)
    return f"{degrees} zero{plan.zero_stage} mb{micro_batch_size} {plan.schedule}, recompute {recompute}"
