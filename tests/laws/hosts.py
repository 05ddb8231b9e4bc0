"""How the host of a drawn scenario issues its work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from hwprofiles.hosts import EXECUTORS
from simulator.scenario.host import GRAPH_SCOPES


@st.composite
def hosts(
    draw: st.DrawFn, model: Mapping[str, Any], recompute: Mapping[str, Any], *, is_synced: bool
) -> dict[str, Any]:
    """How a host issues: by which framework's calls or in so many seconds each, and what it captures of that. is_synced: it
    reads what routers decide, so that no graph can hold experts.
    """
    names = set(GRAPH_SCOPES) if model.get("moe") else {"attn", "mlp"}
    if not model["num_dense_layers"]:
        names.discard("mlp")
    if is_synced:
        names.discard("moe")
    if "moe" in recompute.get("modules", ()):
        names.discard("moe_router")
    scopes = draw(st.sets(st.sampled_from(sorted(names)), min_size=1))
    if "moe" in scopes or "moe_router" not in scopes:
        scopes -= {"moe_preprocess"}
    if "moe" in scopes:
        scopes -= {"moe_router"}
    in_parts = [sorted(scopes)] * 2 if scopes and recompute["granularity"] != "full" else []
    graphs = ["none", "none", *([] if is_synced else ["full_iteration"]), *in_parts]
    return {
        "cuda_graph": draw(st.sampled_from(graphs)),
        "dispatch": draw(st.sampled_from([None, *EXECUTORS])),
        "launch_s": draw(st.sampled_from([None, None, None, 0.0, 5e-6, 5e-5])),
    }
