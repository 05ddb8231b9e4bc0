"""What is odd and kept is told, with the key and where it was given."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwprofiles.stack_choice import load_stack, stack_names
from simulator import load_scenario
from simulator.scenario.hardware import MEASURED_SEQ, measured_seq

V3 = "deepseek-v3"


def told(key: str, *overrides: str, source: str | Path = V3) -> list[str]:
    """Warnings of a key, with their positions."""
    return [each for each in load_scenario(source, overrides).warnings if f": {key}: " in each]


def test_the_longest_measured_sequence_is_that_of_the_stacks() -> None:
    assert measured_seq("h800-notrace") == measured_seq("b200-public") == MEASURED_SEQ
    for name in stack_names():
        rows = [row for row in load_stack(name).kernels.rows if row.shape.op.startswith("attent")]
        assert measured_seq(name) == max([MEASURED_SEQ, *(row.shape.seq for row in rows)])


def test_a_sequence_beyond_the_measurements_is_told() -> None:
    assert told("training.seq_len", f"training.seq_len={MEASURED_SEQ}") == []
    (text,) = told("training.seq_len", "seed=1", "training.seq_len=10000000")
    assert text.startswith("overrides[1]: training.seq_len: 10,000,000 tokens; attention was measured up to 32,768")
    assert text.endswith("at 131,072 it gives FlashAttention-2's calls on H200 8 % too short forward, 1 % backward")


def test_a_fabric_faster_than_the_nics_says_both_figures_and_which_binds() -> None:
    (text,) = told("cluster.fabric", "cluster.fabric=ib-800g-rail")
    assert text.startswith("overrides[0]: cluster.fabric: 100 GB/s at a port of ib-800g-rail, 50 GB/s at a NIC")
    assert text.endswith("here the NIC")
    assert told("cluster.fabric", "cluster.fabric=ib-200g-rail") == []
    (text,) = told("cluster.fabric", "seed=1", "cluster.node=a100-x8", "precision=bf16")
    assert text.startswith("overrides[1]: cluster.fabric: "), "the node was given last"


def test_communication_kernels_of_another_vendor_are_told() -> None:
    (text,) = told("parallel.comm_sms", "cluster.node=mi300x-x8")
    assert "overrides[0]: parallel.comm_sms: 20 SMs for DeepEP" in text
    assert "mi300x is of AMD" in text
    assert told("parallel.comm_sms", "cluster.node=mi300x-x8", "parallel.ep=1") == []


def test_groups_that_lie_across_scale_up_domains_are_told() -> None:
    (text,) = told("parallel.ep", "cluster.node=gb200-nvl72", "cluster.gpus_per_domain=72")
    assert "groups of 64 GPUs do not divide the 72 GPUs used of a scale-up domain: " in text
    assert "25 of 32 lie across domains (40 + 24, 48 + 16, 56 + 8, 32 + 32)" in text
    assert text.endswith("with cluster.gpus_per_domain: 64 every group lies alike")
    assert told("parallel.ep", "cluster.node=gb200-nvl72") == [], "64 of 72 are used"
    assert told("parallel.ep", "cluster.node=gb200-nvl72", "parallel.ep=8") == [], "72 is nine times 8"
    assert (
        told("parallel.ep", "cluster.node=gb200-nvl72", "parallel.ep=32", "parallel.pp=2", "cluster.num_gpus=64") == []
    ), "one domain"


@pytest.mark.parametrize(
    ("option", "falls"),
    [
        ("model=kimi-k2", ["moe.max_nodes_per_token 4"]),
        ("model=kimi-k2", ["parallel.layers_per_stage a list of 16"]),
        ("parallel.pp=8", ["parallel.layers_per_stage a list of 16"]),
        ("cluster.node=h200-x8", ['stack "h800-transfer"']),
    ],
)
def test_what_falls_with_a_changed_key_is_told(option: str, falls: list[str], tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    layers = [4] * 15 + [1]
    path.write_text(
        f"schema_version: 1\nextends: deepseek-v3\nstack: h800-transfer\nparallel: {{layers_per_stage: {layers}}}\n"
    )
    key = option.partition("=")[0]
    (text,) = told(key, option, source=path)
    assert text.startswith(f"overrides[0]: {key}: is changed; what was chosen for the old one falls: ")
    assert all(each in text for each in falls)


def test_a_model_takes_the_node_limit_of_another_router_with_it_unless_it_is_given_anew() -> None:
    scenario = load_scenario(V3, ["model=kimi-k2"])
    assert scenario.moe.max_nodes_per_token is None
    assert load_scenario(V3, ["model=kimi-k2", "model.num_layers=61"]).moe.max_nodes_per_token is None
    kept = load_scenario(V3, ["model=kimi-k2", "moe.max_nodes_per_token=4"])
    assert kept.moe.max_nodes_per_token == 4
    assert kept.warnings == ()
    assert load_scenario(V3, ["model.num_layers=60"]).moe.max_nodes_per_token == 4, "the same router"


def test_what_a_file_extends_falls_in_the_same_way(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("schema_version: 1\nextends: deepseek-v3\nmodel: kimi-k2\n")
    (text,) = told("model", source=tmp_path / "own.yaml")
    assert text.startswith(f"{tmp_path / 'own.yaml'}:3: model: is changed")


def test_a_run_without_phases_says_that_it_is_one_step() -> None:
    document = {"model": "llama-3.1-8b", "cluster": {"node": "h100-x8", "num_gpus": 8}}
    (text,) = load_scenario(document).warnings
    assert text.startswith("phases: are not given: the run is a single step")
    assert load_scenario({**document, "phases": [{"name": "p", "steps": 1}]}).warnings == ()


def test_an_imbalance_that_cannot_act_is_told() -> None:
    (text,) = told("moe.balance", "parallel.ep=1", "moe.balance={load_imbalance: 1.2}")
    assert text.startswith("overrides[1]: moe.balance: load_imbalance has no meaning with ep 1")


@pytest.mark.parametrize("overrides", ["seed=1", [1], ["seed=1", None]])
def test_overrides_that_are_no_list_of_texts_are_one_error(overrides: object) -> None:
    from simulator.errors import InputError

    with pytest.raises(InputError) as caught:
        load_scenario(V3, overrides)  # type: ignore[arg-type]
    (problem,) = caught.value.problems
    assert problem.field == "overrides"


def test_what_acts_between_stages_or_ranks_of_a_layer_is_told_where_there_are_none() -> None:
    plan = {"schema_version": 1, "model": "llama-3.1-8b", "cluster": {"node": "h100-x8", "num_gpus": 8}}
    for key, value, degree, reason in (
        ("parallel.pipeline_buffers", "per_micro_batch", "pp", "nothing is sent between stages"),
        ("head.logits", "gathered", "tp", "every GPU has all logits"),
    ):
        found = {
            overrides: [each for each in load_scenario(plan, overrides).warnings if f": {key}: " in each]
            for overrides in ((), (f"{key}={value}",), (f"{key}={value}", f"parallel.{degree}=2"))
        }
        assert [len(each) for each in found.values()] == [0, 1, 0]
        assert found[f"{key}={value}",][0].endswith(f"has no meaning with {degree} 1: {reason}")


@pytest.mark.parametrize("method", ["uniform", "block"])
def test_more_recomputed_layers_than_a_stage_has_are_told(method: str) -> None:
    def of(number: int) -> list[str]:
        options = ["recompute=full", f"recompute.method={method}", f"recompute.num_layers={number}"]
        return told("recompute.num_layers", *options, source="llama-3.1-70b")

    assert not of(5)
    assert "6 is more than the 5 layers of a stage, and acts as 5" in of(6)[0]
