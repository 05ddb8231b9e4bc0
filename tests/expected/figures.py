"""The figures of a preset that are committed: what a user reads first, with both ends of every range."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from simulator import load_scenario, simulate_run
from simulator.results.document import to_document

PRESETS = ("deepseek-v3", "mixtral-8x22b", "llama-3.1-70b")
DRAWS = 4
"""Fewer than a user's default: enough that the random draws are in the figures."""
NOTHING = 1e-12
"""Sums that cancel leave so little."""
FILE = Path(__file__).parent / "figures.json"


@cache
def document_of(preset: str) -> Mapping[str, Any]:
    """The result document of a preset; a process simulates it once."""
    return to_document(simulate_run(load_scenario(preset, [f"draws={DRAWS}"])))


def figures_of(preset: str) -> dict[str, float]:
    """Name → figure, in SI units, GPU-hours and USD; what is nothing is left out."""
    document = document_of(preset)
    step, totals = document["step"], document["totals"]
    found = {"step_s": step["step_s"], "step_low_s": step["interval"]["low"], "step_high_s": step["interval"]["high"]}
    found |= {f"gpu_hours_{end}": totals["gpu_hours"][end] for end in ("low", "value", "high")}
    found |= {f"cost_usd_{end}": totals["cost_usd"][end] for end in ("low", "value", "high")}
    for row in step["by_rank"]:
        found |= {f"rank_{row['pp_rank']}_{part}": row[part] for part in row if part != "pp_rank"}
    found |= {f"category_{row['category']}_s": row["seconds"] for row in step["by_category"]}
    found |= {f"binding_{row['what']}_s": row["seconds"] for row in step["binding"]}
    found |= {f"imbalance_{name}": value for name, value in (step.get("imbalance") or {}).items()}
    found |= {f"basis_{name}": share for name, share in document["basis"].items()}
    for stage in document["memory"]["by_stage"]:
        found[f"memory_{stage['pp_rank']}_peak_bytes"] = stage["peak_bytes"]
    for row in document["assumptions"]:
        effect = row.get("effect_on_gpu_hours")
        if effect:
            found |= {f"effect_{row['key']}_{end}_gpu_hours": effect[end] for end in ("low", "high")}
    return {name: value for name, value in found.items() if abs(value) > NOTHING}
