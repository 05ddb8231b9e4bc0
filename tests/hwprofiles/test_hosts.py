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
    here, there = dispatch_range("eager"), dispatch_range("eager").times(2.1)
    assert astuple(there.high) == tuple(2.1 * each for each in astuple(here.high))


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


@pytest.mark.parametrize(
    ("name", "phase", "key"),
    [
        ("add", "forward", "launch_f_s"),
        ("mul", "backward", "launch_b_s"),
        ("linear_module", "forward", "module_f_s"),
        ("python_function", "forward", "function_f_s"),
        ("python_function", "backward", "function_b_s"),
        ("all_to_all", "", "collective_s"),
    ],
)
def test_own_measurement_lies_in_the_range(name: str, phase: str, key: str) -> None:
    """Of plain torch, brought to the tables' processor by the linear layer that was measured on both."""
    path = Path(hosts.__file__).parents[1] / "measurements" / "h100-host-dispatch-2026-11-27.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["variant"] in ("recorded", "all_to_all")]
    found = {(row["variant"] if row["name"] == "collective" else row["name"], row["phase"]): row for row in rows}
    here = float(found["linear_module", "forward"]["host_s"]) / 13.5e-6
    entry = load_dispatch("eager")[key]
    assert entry.low <= float(found[name, phase]["host_s"]) / here <= entry.high
