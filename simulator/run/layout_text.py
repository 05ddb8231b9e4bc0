"""A layout in words: how the GPUs share a step, in the order in which people write it."""

from __future__ import annotations

from simulator.scenario.scenario import Scenario


def layout_text(scenario: Scenario) -> str:
    """ "tp1 cp1 pp16 vpp1 ep64 etp1 zero1 mb1 dualpipe, recompute selective": equal texts, equal degrees."""
    plan, recompute = scenario.parallel, scenario.recompute
    degrees = " ".join(f"{key}{getattr(plan, key)}" for key in ("tp", "cp", "pp", "vpp", "ep", "etp"))
    if plan.cp > 1:
        degrees = degrees.replace(f"cp{plan.cp}", f"cp{plan.cp} ({plan.cp_comm})", 1)
    batch = f"zero{plan.zero_stage} mb{scenario.training.micro_batch_size}"
    return f"{degrees} {batch} {plan.schedule}, recompute {recompute.granularity}"
