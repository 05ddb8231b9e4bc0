"""What captured graphs need, and how often the host waits for a router: Megatron-Core's rules.

Sources: docs/user-guide/features/cuda_graph.md and megatron/core/transformer/{transformer_config,cuda_graph_config}.py of
NVIDIA/Megatron-LM. A graph replays the shapes that it was captured with. So it holds experts only where no router decides how
many rows arrive: dropped and padded to a capacity, or a dispatcher that gives each rank a budget and never tells the host
(HybridEP with --moe-expert-rank-capacity-factor and --moe-paged-stash).
"""

from __future__ import annotations

from collections.abc import Iterator

from simulator.scenario import derived
from simulator.scenario.scenario import Scenario
from simulator.scenario.wording import FieldProblem

FULL = "full_iteration"


def host_syncs(scenario: Scenario) -> int:
    """How often the host waits for its GPU in the forward of a MoE layer: for the rows that each expert receives."""
    moe = scenario.moe
    if scenario.model.moe is None or moe.host_sync == "none":
        return 0
    implied = derived.host_syncs(scenario)
    return max(1, implied) if moe.host_sync == "per_layer" else implied


def waits_at_exchanges(scenario: Scenario) -> bool:
    """Whether the host waits for its GPU at pipeline exchanges; in a graph of the whole iteration none can."""
    parallel, where = scenario.parallel, scenario.host.pipeline_sync
    is_so = where == "always" or where == parallel.schedule
    return is_so and parallel.pp > 1 and scenario.host.cuda_graph != FULL


def graph_scopes(scenario: Scenario) -> frozenset[str]:
    """The scopes of a layer that are captured each for itself."""
    graph = scenario.host.cuda_graph
    return frozenset() if isinstance(graph, str) else frozenset(graph)


def captures_experts(scenario: Scenario) -> bool:
    """Whether a graph holds routed experts."""
    return scenario.model.moe is not None and (scenario.host.cuda_graph == FULL or "moe" in graph_scopes(scenario))


def host_problems(scenario: Scenario) -> Iterator[FieldProblem]:
    """What cannot be captured."""
    graph, scopes = scenario.host.cuda_graph, graph_scopes(scenario)
    if host_syncs(scenario) and captures_experts(scenario):
        what = FULL if graph == FULL else "moe"
        said = scenario.moe.host_sync or f"null, with dispatcher {scenario.moe.dispatcher}"
        yield (
            "host.cuda_graph",
            f"{what} captures experts, but in every layer the host reads how many rows they receive (moe.host_sync {said}); "
            f"{_sizes_known(scenario)}, or write moe.host_sync: none where ranks have a budget of rows that the host need not "
            "know, or capture attn, moe_router and moe_preprocess",
        )
    yield from _layer_problems(scenario, scopes)
    recompute = scenario.recompute
    if scopes and (recompute.granularity == "full" or "layer" in recompute.modules):
        yield (
            "host.cuda_graph",
            "a layer that is computed again whole cannot be captured in parts; write full_iteration or none, or "
            "recompute.granularity: selective",
        )
    if "moe_router" in scopes and "moe" in recompute.modules:
        text = "moe_router would be captured inside what recompute.modules moe computes again; drop one of the two"
        yield "host.cuda_graph", text


def _sizes_known(scenario: Scenario) -> str:
    """How the host would know all sizes before a router decides."""
    is_told = scenario.parallel.ep > 1 and not derived.dispatcher(scenario).counts_ahead
    if not scenario.moe.pad_to_capacity:
        other = ", and moe.dispatcher: alltoall" if is_told else ""
        return f"drop and pad (moe.drop: probs, moe.capacity_factor and moe.pad_to_capacity: true{other})"
    return (
        "write moe.dispatcher: alltoall" if is_told else "leave moe.host_sync out, since experts are padded to capacity"
    )


def _layer_problems(scenario: Scenario, scopes: frozenset[str]) -> Iterator[FieldProblem]:
    of_experts = sorted(scope for scope in scopes if scope.startswith("moe"))
    if of_experts and scenario.model.moe is None:
        text = f"{of_experts[0]} in model {scenario.model.name}, which has no experts; allowed attn and mlp"
        yield "host.cuda_graph", text
    if "mlp" in scopes and scenario.model.moe is not None and not scenario.model.num_dense_layers:
        text = "mlp is the FFN of dense layers, of which the model has none; leave it out"
        yield "host.cuda_graph", text


def host_warnings(scenario: Scenario) -> Iterator[FieldProblem]:
    """Keys that have no meaning."""
    if scenario.model.moe is None and scenario.moe.host_sync is not None and scenario.is_given("moe.host_sync"):
        yield "moe.host_sync", "has no meaning in a model without experts: the host waits for no router"
    why = _no_issuing(scenario)
    for key in ("launch_s", "dispatch", "costs"):
        if why and getattr(scenario.host, key) is not None and scenario.is_given(f"host.{key}"):
            yield f"host.{key}", f"has no meaning with {why}"
    for key in ("dispatch", "costs"):
        is_set = getattr(scenario.host, key) is not None and scenario.is_given(f"host.{key}")
        if not why and scenario.host.launch_s is not None and is_set:
            yield f"host.{key}", "has no meaning with host.launch_s, which is what every call takes"
    yield from _exchange_warnings(scenario)


def _no_issuing(scenario: Scenario) -> str:
    """Why what a call takes does not act; "": it does."""
    if not scenario.mechanisms.host_stream:
        return "mechanisms.host_stream: false"
    return f"host.cuda_graph: {FULL}, one launch" if scenario.host.cuda_graph == FULL else ""


def _exchange_warnings(scenario: Scenario) -> Iterator[FieldProblem]:
    if scenario.host.pipeline_sync == "none" or not scenario.is_given("host.pipeline_sync"):
        return
    parallel, why = scenario.parallel, _no_issuing(scenario)
    if not why and not waits_at_exchanges(scenario):
        why = "parallel.pp: 1" if parallel.pp == 1 else f"parallel.schedule: {parallel.schedule} (always means it too)"
    if why:
        yield "host.pipeline_sync", f"has no meaning with {why}: the host waits at no exchange"
