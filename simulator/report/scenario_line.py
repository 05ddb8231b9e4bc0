"""A scenario in one line: what stands over every page, so that nobody reads figures of another plan."""

from __future__ import annotations

from simulator.report import facts, numbers
from simulator.scenario import derived
from simulator.scenario.hardware import fabric_of, node_of
from simulator.scenario.scenario import Scenario


def scenario_line(scenario: Scenario) -> str:
    """'deepseek-v3 · 2,048 × h800 · ib-400g-8plane · pp16 dp128 ep64 dualpipe · 15,360 × 4,096 tokens a step'."""
    cluster, training, plan = scenario.cluster, scenario.training, scenario.parallel
    sizes = {
        "tp": plan.tp, "cp": plan.cp, "pp": plan.pp, "vpp": plan.vpp, "dp": derived.dp(scenario), "ep": plan.ep,
        "etp": plan.etp,
    }  # fmt: skip
    degrees = [f"{axis}{size}" for axis, size in sizes.items() if size > 1]
    parts = (
        facts.cut(scenario.name, 60),
        f"{cluster.num_gpus:,} × {facts.cut(node_of(scenario).gpu, 40)}",
        facts.cut(fabric_of(scenario).name, 40),
        " ".join([*degrees, plan.schedule]),
        f"{training.global_batch_size:,} × {numbers.whole(training.seq_len)} tokens a step",
    )
    return " · ".join(parts)
