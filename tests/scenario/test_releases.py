"""Framework releases: switches with their sources, defaults that the scenario's own keys win over, nothing that multiplies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simulator import load_scenario, not_modelled, simulate_run
from simulator.cli.app import main
from simulator.errors import InputError
from simulator.registry import Family
from simulator.results.document import to_document
from simulator.scenario import releases
from simulator.scenario.releases import RELEASES, Beside, Release, SetSwitch, Switch, load_release, set_switches

SMALL = ("llama-3.1-70b", "cluster.num_gpus=16", "parallel.pp=2", "model.num_layers=4", "model.num_dense_layers=4")


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for child in value.values():
            yield from leaves(child)
    elif isinstance(value, list):
        for child in value:
            yield from leaves(child)
    else:
        yield value


@pytest.mark.parametrize("name", RELEASES.names())
def test_a_file_has_switches_only_each_with_its_source(name: str) -> None:
    release = load_release(name)
    assert release.switches
    for switch in release.switches:
        assert switch.source, switch.set
        for value in leaves(switch.set):
            assert isinstance(value, str | bool | int), f"{switch.set}: a switch is a word, true or false, or a count"
    assert all(entry.source for entry in release.beside)
    assert "@" in name


@pytest.mark.parametrize("name", RELEASES.names())
def test_every_release_runs_in_a_dense_and_in_a_moe_scenario(name: str) -> None:
    dense = load_scenario("llama-3.1-70b", [f"framework={name}"])
    assert dense.framework == name
    moe = load_scenario("mixtral-8x22b", [f"framework={name}"])
    assert load_scenario(moe.canonical()) == moe


def test_the_switches_are_defaults_and_the_scenarios_own_keys_win() -> None:
    plain = load_scenario(SMALL[0], SMALL[1:])
    taken = load_scenario(SMALL[0], [*SMALL[1:], "framework=llm-foundry@2023"])
    assert (plain.kernels.autograd, taken.kernels.autograd) == ("fused", "eager")
    told = {entry.key: entry for entry in taken.framework_switches}
    assert told["kernels.autograd"].source
    assert "kernels.autograd" in taken.defaults_used
    own = load_scenario(SMALL[0], [*SMALL[1:], "framework=llm-foundry@2023", "kernels.autograd=fused"])
    assert own.kernels.autograd == "fused"
    assert "kernels.autograd" not in {entry.key for entry in own.framework_switches}


def test_a_switch_of_several_keys_is_taken_whole_or_not_at_all() -> None:
    deepseek = {"model": {"name": "DeepSeek-V3"}, "parallel": {"tp": 2}, "recompute": {"granularity": "none"}}
    chosen = {entry.key for entry in set_switches("megatron-bridge@26.02", deepseek, "h100")}
    assert "recompute.modules" not in chosen
    deepseek = {"model": {"name": "DeepSeek-V3"}, "parallel": {"tp": 2}}
    chosen_values = {entry.key: entry.value for entry in set_switches("megatron-bridge@26.02", deepseek, "h100")}
    assert chosen_values["recompute.modules"] == ["mla_up_proj", "mlp"]
    assert deepseek["recompute"] == {"granularity": "selective", "modules": ["mla_up_proj", "mlp"]}


def test_conditions_read_model_gpu_and_keys() -> None:
    def modules(gpu: str, recipe: str) -> Any:
        data = {"model": {"name": "deepseek-v3"}, "precision": {"recipe": recipe}}
        found = {entry.key: entry.value for entry in set_switches("megatron-bridge@26.04", data, gpu)}
        return found.get("recompute.modules")

    assert modules("gb200", "bf16") == ["mla_up_proj"]
    assert modules("gb200", "mxfp8") == ["mlp"]
    assert modules("gb300", "bf16") == ["swiglu"]
    assert modules("a100", "bf16") is None
    tensor = {entry.key for entry in set_switches("nemo@recipes", {"parallel": {"tp": 2}}, "h100")}
    single = {entry.key for entry in set_switches("nemo@recipes", {"parallel": {"tp": 1}}, "h100")}
    assert tensor - single == {"parallel.sequence_parallel", "parallel.overlap.tp"}


def test_experts_follow_tensor_parallelism_where_the_release_says_so() -> None:
    data: dict[str, Any] = {"parallel": {"tp": 4}, "model": {"moe": {"num_routed_experts": 8}}}
    set_switches("megatron-core@recipes", data, "h100")
    assert data["parallel"]["etp"] == 4
    dense: dict[str, Any] = {"parallel": {"tp": 4}, "model": {}}
    set_switches("megatron-core@recipes", dense, "h100")
    assert "etp" not in dense["parallel"]


def test_what_nothing_computes_yet_is_told_and_sets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    planned = not_modelled.Planned("key", "host.new_graph", "leave it out", now=("none",))
    monkeypatch.setattr(not_modelled, "TABLE", (*not_modelled.TABLE, planned))
    release = Release(
        summary="s",
        source="x",
        switches=(Switch(set={"host.new_graph": "full_iteration"}), Switch(set={"parallel.zero_stage": 2}, source="y")),
        beside=(Beside(what="an odd stream", when={"gpu": "h100"}), Beside(what="another", when={"gpu": "b200"})),
    )
    monkeypatch.setattr(releases, "load_release", lambda name: release.sourced())
    data: dict[str, Any] = {}
    assert set_switches("any", data, "h100") == (
        SetSwitch("host.new_graph", "full_iteration", "x", is_modelled=False),
        SetSwitch("parallel.zero_stage", 2, "y"),
        SetSwitch("an odd stream", True, "x", is_modelled=False),
    )
    assert data == {"parallel": {"zero_stage": 2}}


def test_the_result_lists_the_switches() -> None:
    document = to_document(
        simulate_run(load_scenario(SMALL[0], [*SMALL[1:], "framework=megatron-core@recipes", "draws=1"]))
    )
    assert document["scenario"]["framework"] == "megatron-core@recipes"
    listed = {row["key"]: row for row in document["framework_switches"]}
    assert listed["kernels.autograd"]["value"] == "transformer_engine"
    assert listed["kernels.autograd"]["source"]
    plain = to_document(simulate_run(load_scenario(SMALL[0], [*SMALL[1:], "draws=1"])))
    assert "framework_switches" not in plain


def test_an_unknown_release_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"framework.*did you mean megatron-bridge@26\.06"):
        load_scenario("mixtral-8x22b", ["framework=megatron-bridge@26.6"])
    with pytest.raises(InputError, match="framework"):
        load_scenario("mixtral-8x22b", ["framework=[a]"])


def test_the_catalogue_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "frameworks", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in entries] == list(RELEASES.names())
    assert all(entry["switches"] for entry in entries)
    assert main(["list", "frameworks"]) == 0
    assert "megatron-bridge@26.06" in capsys.readouterr().out


def test_a_file_without_sources_or_switches_is_refused() -> None:
    with pytest.raises(ValueError, match="without a source"):
        Release(summary="s", switches=(Switch(set={"parallel.zero_stage": 1}),))
    with pytest.raises(ValueError, match="neither switches"):
        Release(summary="s")


def test_a_switch_that_does_not_fit_names_the_release_and_what_wins() -> None:
    with pytest.raises(InputError) as refused:
        load_scenario("llama-3.1-70b", ["framework=llm-foundry@2023", "cluster.node=b200-x8"])
    assert "kernels.attention: fa1" in str(refused.value)
    assert "; framework llm-foundry@2023 sets it, and a value of your own goes before" in str(refused.value)
    own = ["framework=llm-foundry@2023", "cluster.node=b200-x8", "kernels.attention=cudnn"]
    assert load_scenario("llama-3.1-70b", own).kernels.attention == "cudnn"
    with pytest.raises(InputError) as mine:
        load_scenario("llama-3.1-70b", ["cluster.node=b200-x8", "kernels.attention=fa1"])
    assert "sets it" not in str(mine.value)


@pytest.mark.parametrize("key", ["kernels.grouped_gemm=loop", "kernels.casts=transformer-engine-2025"])
def test_keys_of_experts_are_told_to_have_no_meaning_in_a_dense_model(key: str) -> None:
    """Of what is written; a release's switches are for all models that it trains."""
    name = key.partition("=")[0]
    assert any(name in text and "has no meaning" in text for text in load_scenario("llama-3.1-70b", [key]).warnings)
    assert not any(name in text for text in load_scenario("mixtral-8x22b", [key]).warnings)
    assert not any(name in text for text in load_scenario("llama-3.1-70b", ["framework=nemo@24.07"]).warnings)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("switch: []", "switch: unknown key"),
        ('matches: [{framework: "(("}]', "is no regular expression"),
        ('reads: [{pattern: "[", set: {a: 1}, source: s}]', "is no regular expression"),
        ('switches: [{when: {parallel.tp: "> x"}, set: {parallel.vpp: 2}, source: s}]', 'is no number behind ">"'),
        ('switches: [{when: {parallel.tp: [1, "> x"]}, set: {parallel.vpp: 2}, source: s}]', 'is no number behind ">"'),
        ("extends: acme@1", "extends itself"),
    ],
)
def test_a_file_that_is_wrong_is_named(
    text: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, with the file, whatever it was meant to do."""
    (tmp_path / "acme@1.yaml").write_text(f"summary: s\n{text}\n")
    family: Family[Path] = Family("framework release")
    family.add("acme@1", tmp_path / "acme@1.yaml")
    monkeypatch.setattr(releases, "RELEASES", family)
    monkeypatch.setattr("simulator.scenario.completed.RELEASES", family)
    monkeypatch.setattr("simulator.scenario.load.NAMES", {})
    load_release.cache_clear()
    assert main(["run", "llama-3.1-70b", "--set", "framework=acme@1"]) == 2
    said = capsys.readouterr().err
    load_release.cache_clear()
    assert said.startswith("--set 1: framework: frameworks/acme@1.yaml")
    assert words in said


@pytest.mark.parametrize(
    ("release", "pp", "recipe", "expected"),
    [
        ("megatron-lm@2021", 1, "fp16", ("bf16", True)),
        ("megatron-lm@2021", 2, "fp16", ("bf16", False)),
        ("megatron-lm@2021", 2, "bf16", ("fp32", False)),
        ("megatron-lm@2022", 1, "fp16", ("bf16", False)),
    ],
)
def test_gradients_of_early_megatron(release: str, pp: int, recipe: str, expected: tuple[str, bool]) -> None:
    """16-bit sums of FP16 runs and FP32 ones of BF16 runs; beside the last backward only under PyTorch's own wrapper."""
    keys = (f"parallel.pp={pp}", f"precision.recipe={recipe}", f"framework={release}")
    taken = load_scenario(SMALL[0], [each for each in SMALL[1:] if "parallel.pp" not in each] + list(keys))
    assert (taken.data_parallel.grad_reduce.dtype, taken.data_parallel.grad_reduce.overlap) == expected
