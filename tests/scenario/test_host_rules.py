"""What host.cuda_graph refuses: what Megatron-Core does, and with a way out."""

from __future__ import annotations

import pytest

from simulator import load_scenario
from simulator.errors import InputError
from simulator.scenario.host_rules import host_warnings

PADDED = (
    "moe.capacity_factor=1.0",
    "moe.drop=probs",
    "moe.pad_to_capacity=true",
    "moe.host_sync=null",
    "moe.dispatcher=alltoall",
)
DROPLESS = ("moe.host_sync=null",)


@pytest.mark.parametrize(
    ("preset", "given", "graph", "text"),
    [
        ("deepseek-v3", DROPLESS, "full_iteration", "write moe.host_sync: none"),
        ("deepseek-v3", (*PADDED, "moe.host_sync=per_layer"), "full_iteration", "host_sync per_layer"),
        ("deepseek-v3", DROPLESS, "[attn, moe]", "drop and pad"),
        ("deepseek-v3", PADDED, "[moe, moe_router]", "moe holds moe_router and moe_preprocess already"),
        ("deepseek-v3", PADDED, "[attn, moe_preprocess]", "captured behind moe_router"),
        ("llama-3.1-70b", (), "[attn, moe_router]", "has no experts; allowed attn and mlp"),
        ("mixtral-8x22b", (), "[mlp]", "the model has none"),
        (
            "llama-3.1-70b",
            ("recompute={granularity: full, num_layers: 1}",),
            "[attn]",
            "recompute.granularity: selective",
        ),
        (
            "deepseek-v3",
            ("recompute={granularity: selective, modules: [moe]}",),
            "[attn, moe_router]",
            "computes again",
        ),
        ("llama-3.1-70b", (), "[]", "must be none, full_iteration, or a list"),
        ("llama-3.1-70b", (), "[attn, attn]", "names attn twice"),
        ("llama-3.1-70b", (), "full", "must be none, full_iteration, or a list"),
        ("llama-3.1-70b", (), "mlp", "one scope is a list too: [mlp]"),
        ("llama-3.1-70b", (), "[attn, ffn]", "ffn is no scope of a layer; allowed attn, mlp, moe,"),
        ("llama-3.1-70b", (), "[attn, none]", "none stands alone"),
        ("deepseek-v3", (), "[moe, moe_preprocess]", "name moe alone"),
    ],
)
def test_a_graph_that_cannot_be_captured_is_refused(preset: str, given: tuple[str, ...], graph: str, text: str) -> None:
    with pytest.raises(InputError) as caught:
        load_scenario(preset, overrides=[*given, f"host.cuda_graph={graph}"])
    (problem,) = caught.value.problems
    assert "host.cuda_graph" in str(problem) and text in problem.message


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (("parallel.pp=1",), "with parallel.pp: 1"),
        (("host.cuda_graph=full_iteration",), "one launch"),
        (("mechanisms.host_stream=false",), "with mechanisms.host_stream: false"),
        (("parallel.schedule=gpipe",), "with parallel.schedule: gpipe (always means it too)"),
        ((), ""),
    ],
)
def test_a_wait_at_exchanges_that_do_not_come_is_told(given: tuple[str, ...], text: str) -> None:
    base = ("cluster.num_gpus=16", "parallel.pp=2", "parallel.schedule=1f1b", "host.pipeline_sync=1f1b")
    scenario = load_scenario("llama-3.1-70b", overrides=[*base, *given])
    told = [words for field, words in host_warnings(scenario) if field == "host.pipeline_sync"]
    assert [text in each for each in told] == ([True] if text else [])


@pytest.mark.parametrize(
    ("preset", "given", "graph"),
    [
        ("deepseek-v3", PADDED, "full_iteration"),
        ("deepseek-v3", ("moe.host_sync=none",), "full_iteration"),
        ("deepseek-v3", PADDED, "[attn, mlp, moe]"),
        ("deepseek-v3", DROPLESS, "[moe_preprocess, moe_router, attn]"),
        ("llama-3.1-70b", (), "[attn, mlp]"),
    ],
)
def test_what_can_be_captured_is_taken(preset: str, given: tuple[str, ...], graph: str) -> None:
    scenario = load_scenario(preset, overrides=[*given, f"host.cuda_graph={graph}"])
    assert scenario == load_scenario(scenario.canonical())


@pytest.mark.parametrize(
    ("dispatcher", "padded", "remedy"),
    [
        ("deepep", (), ("moe.drop=probs", "moe.capacity_factor=1.0", "moe.pad_to_capacity=true", "moe.dispatcher=alltoall")),
        ("alltoall", (), ("moe.drop=probs", "moe.capacity_factor=1.0", "moe.pad_to_capacity=true")),
        ("deepep", PADDED[:3], ("moe.dispatcher=alltoall",)),
        ("alltoall", PADDED[:3], ("moe.host_sync=null",)),
    ],
)  # fmt: skip
def test_the_way_to_a_full_graph_leads_there(dispatcher: str, padded: tuple[str, ...], remedy: tuple[str, ...]) -> None:
    sync = "per_layer" if remedy == ("moe.host_sync=null",) else "null"
    given = [f"moe.host_sync={sync}", f"moe.dispatcher={dispatcher}", *padded, "host.cuda_graph=full_iteration"]
    with pytest.raises(InputError) as caught:
        load_scenario("deepseek-v3", overrides=given)
    (problem,) = caught.value.problems
    assert all(each.split("=")[0] in problem.message for each in remedy)
    assert load_scenario("deepseek-v3", overrides=[*given, *remedy]).host.cuda_graph == "full_iteration"


def test_where_all_experts_are_local_no_dispatcher_counts() -> None:
    """With ep 1 DeepEP is not asked: experts padded to their capacity have sizes that the host knows."""
    alone = ("parallel.ep=1", "parallel.schedule=1f1b", "parallel.overlap.ep=none", "moe.max_nodes_per_token=null")
    given = [*PADDED[:4], *alone, "moe.dispatcher=deepep", "host.cuda_graph=full_iteration"]
    assert load_scenario("deepseek-v3", overrides=given).host.cuda_graph == "full_iteration"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("host.launch_s=1e-5", "host.dispatch=eager"), ("host.dispatch",)),
        (("host.launch_s=1e-5", "mechanisms.host_stream=false"), ("host.launch_s",)),
        (("host.dispatch=eager", "host.cuda_graph=full_iteration"), ("host.dispatch",)),
        (("host.dispatch=eager", "host.cuda_graph=[attn, mlp]"), ()),
        (("host.launch_s=1e-5",), ()),
    ],
)
def test_keys_of_the_host_that_do_not_act_are_told(given: tuple[str, ...], told: tuple[str, ...]) -> None:
    warnings = [each for each in load_scenario("llama-3.1-70b", overrides=given).warnings if "host." in each]
    assert [each.split(": ")[1] for each in warnings] == list(told) and all("no meaning" in each for each in warnings)
