"""Faults of cluster sizes: which are tried, what they take and cost, which is taken."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

SIZES = Room(
    "sizes",
    ("tests/run/test_cluster_sizes.py", "tests/run/test_plan_sizes.py", "tests/run/test_shared_out.py"),
    (
        Fault(
            "simulator/run/planner/cluster_sizes.py",
            "if size > unit and size % unit:",
            "if size > unit and size % 2:",
            "sizes that no whole nodes make are planned",
        ),
        Fault(
            "simulator/run/planner/cluster_sizes.py",
            "while step != (1 if found <= unit else unit):",
            "while step == 0:",
            "the smallest size is looked for in coarse steps alone",
        ),
        Fault(
            "simulator/run/planner/sizes.py",
            "return wall_s / SECONDS_PER_DAY, cost_usd(gpu_hours(num_gpus, wall_s), price)",
            "return wall_s / SECONDS_PER_DAY, cost_usd(gpu_hours(1, wall_s), price)",
            "one GPU is paid",
        ),
        Fault(
            "simulator/run/planner/sizes.py",
            "if not any(t <= time and c <= cost and (t, c) != (time, cost) for _, t, c in points)",
            "if not any(t < time and c < cost for _, t, c in points)",
            "what another beats in one and equals in the other is on the front",
        ),
        Fault(
            "simulator/run/planner/sizes.py",
            "near = [idx for idx in met if cost[idx] <= least * (1.0 + SAME_COST_FRAC)]",
            "near = met",
            "the fastest is taken, whatever it costs",
        ),
        Fault(
            "simulator/run/planner/sizes.py",
            "return _overstep(row, limits) <= 1.0",
            "return True",
            "limits are not kept",
        ),
        Fault(
            "simulator/run/planner/sizes.py",
            "total[reason] = total.get(reason, 0) + number",
            "total[reason] = number",
            "rejections are of the last size alone",
        ),
        Fault(
            "simulator/run/planner/shared_out.py",
            "found[place] = plan(sizes[place]) if handed is None else handed[0]",
            "found[place] = plan(sizes[0]) if handed is None else handed[0]",
            "what the second process fails at is planned for another size",
        ),
    ),
)
