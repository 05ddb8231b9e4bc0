"""How the host of a drawn scenario issues its work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from hwprofiles.hosts import EXECUTORS
from simulator.scenario.dispatchers import DISPATCHERS
from simulator.scenario.host import GRAPH_SCOPES


@st.composite
def dispatches(draw: st.DrawFn, capacity: Mapping[str, Any] | None) -> dict[str, Any]:
    """Who sends rows to experts, how many at most, and whether the host waits for their counts. None: no model with experts."""
    waits = draw(st.sampled_from([None, None, "none", "per_layer"])) if capacity is not None else None
    return {
        "dispatcher": draw(st.sampled_from(["deepep", "deepep", *DISPATCHERS])), "host_sync": waits, **(capacity or {}),
    }  # fmt: skip


def _is_synced(model: Mapping[str, Any], routed: Mapping[str, Any]) -> bool:
    """Whether the host reads what routers decide, so that no graph can hold experts."""
    if not model.get("moe") or routed["host_sync"] is not None:
        return routed["host_sync"] == "per_layer"
    return DISPATCHERS[routed["dispatcher"]].host_syncs(is_padded=routed.get("pad_to_capacity", False)) > 0


@st.composite
def hosts(
    draw: st.DrawFn, model: Mapping[str, Any], recompute: Mapping[str, Any], routed: Mapping[str, Any]
) -> dict[str, Any]:
    """How a host issues: by which framework's calls or in so many seconds each, and what it captures of that."""
    is_synced = _is_synced(model, routed)
    names = set(GRAPH_SCOPES) if model.get("moe") else {"attn", "mlp"}
    if not model["num_dense_layers"]:
        names.discard("mlp")
    if is_synced:
        names.discard("moe")
    if "moe" in recompute.get("modules", ()):
        names -= {"moe_router", "moe_preprocess"}
    scopes = draw(st.sets(st.sampled_from(sorted(names, reverse=True)), min_size=1))
    if "moe" in scopes:
        scopes -= {"moe_router", "moe_preprocess"}
    if "moe_preprocess" in scopes:
        scopes |= {"moe_router"}
    in_parts = [sorted(scopes)] * 2 if scopes and recompute["granularity"] != "full" else []
    graphs = ["none", "none", *([] if is_synced else ["full_iteration"]), *in_parts]
    return {
        "cuda_graph": draw(st.sampled_from(graphs)),
        "dispatch": draw(st.sampled_from([None, *EXECUTORS])),
        "launch_s": draw(st.sampled_from([None, None, None, 0.0, 5e-6, 5e-5])),
    }
