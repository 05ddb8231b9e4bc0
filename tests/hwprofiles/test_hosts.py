"""Host processors and what calls take on them: every node has one, every table is whole, ranges and order hold."""

from __future__ import annotations

import csv
from dataclasses import astuple
from pathlib import Path

import pytest

from hwprofiles import hosts
from hwprofiles.catalog import CatalogError, list_names, load_node
from hwprofiles.hosts import EXECUTORS, KEYS, dispatch_range, host_names, load_dispatch, load_host


@pytest.mark.parametrize("node", list_names("nodes"))
def test_every_node_names_its_processor(node: str) -> None:
    record = load_node(node)
    assert record.host_cpu is not None
    assert record.sources["host_cpu"].where
    seconds = load_host(record.host_cpu).seconds
    assert 0.5 < seconds.low <= seconds.value <= seconds.high < 3


def test_no_processor_is_without_a_node() -> None:
    assert {load_node(name).host_cpu for name in list_names("nodes")} == set(host_names())


@pytest.mark.parametrize("executor", EXECUTORS)
def test_tables_are_whole_and_sourced(executor: hosts.Executor) -> None:
    table = load_dispatch(executor)
    assert set(table) == set(KEYS)
    assert all(entry.unit == "s" and entry.source.where for entry in table.values())
    assert all(0 <= entry.low <= entry.value <= entry.high < 2e-3 for entry in table.values())


@pytest.mark.parametrize("key", KEYS)
def test_who_has_less_python_issues_faster(key: str) -> None:
    """Own code, plain modules, Transformer Engine's."""
    custom, eager, engine = (load_dispatch(each)[key].value for each in ("custom", "eager", "transformer_engine"))
    assert custom <= eager <= engine


def test_grace_against_the_xeon() -> None:
    """github.com/NVIDIA/TransformerEngine/issues/2053: a linear layer of torch takes 33.2 and 37.1 us there, 13.5 us here."""
    grace = load_host("grace").seconds
    assert grace.low < 33.2 / 13.5 < 37.1 / 13.5 <= grace.high
    assert load_dispatch("eager")["module_f_s"].value == pytest.approx(13.5e-6, rel=0.15)


def test_unknown_software_is_between_and_covers_both() -> None:
    unknown, eager, engine = (dispatch_range(each) for each in (None, "eager", "transformer_engine"))
    for idx in range(len(KEYS)):
        values = sorted(astuple(each.value)[idx] for each in (eager, engine))
        assert values[0] * (1 - 1e-9) <= astuple(unknown.value)[idx] <= values[1] * (1 + 1e-9)
        for each in (eager, engine):
            assert astuple(unknown.low)[idx] <= astuple(each.low)[idx]
            assert astuple(unknown.high)[idx] >= astuple(each.high)[idx]


def test_a_slower_processor_takes_longer_over_every_call() -> None:
    here = dispatch_range("eager").value
    assert astuple(here.times(2.1)) == tuple(2.1 * each for each in astuple(here))


def test_bad_names_and_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CatalogError, match=r"no host processor is called grase.*grace"):
        load_host("grase")
    monkeypatch.setattr(hosts, "_ROOT", tmp_path)
    (tmp_path / "dispatch").mkdir()
    text = "{value: 1.0e-6, unit: s, source: nobody}"
    lines = [f"{key}: {text}" for key in KEYS if key != "sync_s"] + [f"snyc_s: {text}"]
    (tmp_path / "dispatch" / "eager.yaml").write_text("\n".join(lines), encoding="utf-8")
    load_dispatch.cache_clear()
    with pytest.raises(CatalogError) as caught:
        load_dispatch("eager")
    load_dispatch.cache_clear()
    assert "snyc_s" in str(caught.value)
    assert "sync_s" in str(caught.value)
    assert "is missing" in str(caught.value)


def own() -> dict[tuple[str, str, str], float]:
    """(name, variant, phase) → seconds of the own measurement of plain torch, brought to the tables' processor by the linear
    layer that was measured on both.
    """
    path = Path(hosts.__file__).parents[1] / "measurements" / "h100-host-dispatch-2026-11-27.csv"
    with path.open(encoding="utf-8", newline="") as file:
        found = {(row["name"], row["variant"], row["phase"]): float(row["host_s"]) for row in csv.DictReader(file)}
    slower = found["linear_module", "recorded", "forward"] / 13.5e-6
    assert slower == pytest.approx(1.8, rel=0.03), "the ratio that sources of the tables state"
    return {key: seconds / slower for key, seconds in found.items()}


@pytest.mark.parametrize(
    ("name", "variant", "phase", "key"),
    [
        ("add", "recorded", "forward", "launch_f_s"),
        ("mul", "recorded", "backward", "launch_b_s"),
        ("linear_module", "recorded", "forward", "module_f_s"),
        ("python_function", "recorded", "forward", "function_f_s"),
        ("python_function", "recorded", "backward", "function_b_s"),
        *(
            ("collective", op, "", "collective_s")
            for op in ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")
        ),
        ("wait", "item", "", "sync_s"),
        ("wait", "tolist", "", "sync_s"),
    ],
)
def test_own_measurement_lies_in_the_range(name: str, variant: str, phase: str, key: str) -> None:
    entry = load_dispatch("eager")[key]
    assert entry.low <= own()[name, variant, phase] <= entry.high


def test_calls_of_a_linear_layer_s_backward_and_of_experts_follow_from_the_own_measurement() -> None:
    """A backward has two products and a parameter's hook; a loop over 64 experts has one or two of each."""
    table, measured = load_dispatch("eager"), own()
    hook = table["parameter_s"].value
    found = {
        "module_b_s": (measured["linear_module", "recorded", "backward"] - hook) / 2,
        "looped_expert_f_s": measured["expert_loop", "64_experts", "forward"] / 64,
        "looped_expert_b_s": (measured["expert_loop", "64_experts", "backward"] / 64 - hook) / 2,
    }
    for key, seconds in found.items():
        assert table[key].value == pytest.approx(seconds, rel=0.15)


def test_a_replay_lies_between_those_of_few_and_of_many_kernels() -> None:
    few, many = (own()["graph_replay", f"{count}_kernels", ""] for count in (10, 100))
    for executor in ("eager", "compiled"):
        assert few < load_dispatch(executor)["graph_s"].value < many


@pytest.mark.parametrize(("phase", "dense", "routed"), [("forward", 0.37e-3, 1.26e-3), ("backward", 0.78e-3, 1.65e-3)])
def test_what_nothing_counts_lies_between_two_codes(phase: str, dense: float, routed: float) -> None:
    """Whole layers of the torch model less their counted calls on that host (which the sources state), and 0.6 of it."""
    measured = own()
    slower = 23.6e-6 / 13.5e-6
    layer = measured["dense_layer", "bf16", phase] - dense / slower
    more = measured["moe_layer", "bf16", phase] - routed / slower - layer
    for executor in ("eager", "transformer_engine"):
        table, end = load_dispatch(executor), phase[0]
        for key, seconds in ((f"layer_{end}_s", layer), (f"routed_{end}_s", more)):
            assert 0.55 * seconds < table[key].value < seconds
            assert table[key].high > seconds
