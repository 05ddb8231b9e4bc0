"""The host part of a calibration: costs that made its rows come back from them; what it cannot run is told."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hwprofiles
from hwprofiles.calibration.machine import host_fit
from hwprofiles.hosts import KEYS, load_dispatch
from hwprofiles.hosts.own import IN_A_MODEL, has_own, in_a_model, own_range

torch = pytest.importorskip("torch")

from hwprofiles.calibration.host.core import Case  # noqa: E402
from hwprofiles.calibration.machine import host  # noqa: E402

RATIO = 1.8
"""Of the made-up host's calls to the catalogue's."""


def rows(ratio: float = RATIO) -> list[dict[str, Any]]:
    """What a host would be measured at whose every call takes `ratio` times the table's for plain torch."""
    table = {key: entry.value * ratio for key, entry in load_dispatch("eager").items()}
    region = {key: entry.value * ratio for key, entry in load_dispatch("compiled").items()}
    each = 2 * table["looped_expert_b_s"] + table["parameter_s"]
    seconds = {
        "add recorded forward": table["launch_f_s"], "mul recorded forward": table["launch_f_s"],
        "index_select recorded forward": table["launch_f_s"], "cumsum no_grad": table["launch_f_s"],
        "add recorded backward": table["launch_b_s"], "mul recorded backward": table["launch_b_s"],
        "linear_module recorded forward": table["module_f_s"], "linear_stack trained forward": table["module_f_s"],
        "accumulate parameters backward": table["parameter_s"],
        "linear_stack trained backward": 2 * table["module_b_s"] + table["parameter_s"],
        "python_function recorded forward": table["function_f_s"], "norm_stack trained forward": table["function_f_s"],
        "python_function recorded backward": table["function_b_s"], "norm_stack trained backward": table["function_b_s"],
        "attention core forward": table["attention_f_s"], "attention core backward": table["attention_b_s"],
        "cast float32 forward": table["cast_s"], "wait item": table["launch_f_s"] + table["sync_s"],
        "wait tolist": table["launch_f_s"] + table["sync_s"],
        **{f"collective {op}": table["collective_s"] for op in ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")},
        **{f"expert_loop {n}_experts forward": 1e-4 + n * table["looped_expert_f_s"] for n in (4, 64)},
        **{f"expert_loop {n}_experts backward": 2e-4 + n * each for n in (4, 64)},
        **{f"graph_replay {n}_kernels": table["graph_s"] + n * table["graph_node_s"] for n in (1, 10, 1000)},
        **{f"compiled_region {n}_pairs_recorded forward": region["layer_f_s"] + 2 * n * region["launch_f_s"] for n in (4, 16)},
        **{f"compiled_region {n}_pairs_recorded backward": region["layer_b_s"] + 3 * n * region["launch_b_s"] for n in (4, 16)},
    }  # fmt: skip
    return [
        {"name": name, "host_s": value, "low_s": 0.95 * value, "high_s": 1.1 * value, "device": "cuda"}
        for name, value in seconds.items()
    ]


def test_the_costs_of_a_host_come_back() -> None:
    found = host_fit.parameters(rows(), "made up", "2026-11-27")
    table = load_dispatch("eager")
    for key in KEYS:
        if f"host.eager.{key}" in found:
            assert found[f"host.eager.{key}"].value == pytest.approx(RATIO * table[key].value, rel=1e-6), key
            assert found[f"host.eager.{key}"].basis == "measured"
    never = {"grouped_expert_f_s", "grouped_expert_b_s", "expert_cast_s", "message_f_s", "message_b_s"}
    assert {key for key in KEYS if f"host.eager.{key}" not in found} == never | {
        f"{kind}_{way}_s" for kind in ("layer", "routed") for way in "fb"
    }
    assert found["host.seconds"].value == pytest.approx(RATIO)
    assert found["host.compiled.layer_b_s"].value == pytest.approx(RATIO * load_dispatch("compiled")["layer_b_s"].value)


def test_one_of_many_takes_no_more_than_all_of_few_over_their_number() -> None:
    """A replay of 1,000 nodes that was disturbed: a node takes at most a tenth of a replay of ten."""
    found = rows()
    few_s = next(row["host_s"] for row in found if row["name"] == "graph_replay 10_kernels")
    for row in found:
        if row["name"] == "graph_replay 1000_kernels":
            row["host_s"] = row["low_s"] = row["high_s"] = 1000 * few_s
    node = host_fit.parameters(found, "made up", "2026-11-27")["host.eager.graph_node_s"]
    assert node.value == pytest.approx(few_s / 10)


def test_the_fit_asks_for_rows_that_are_measured() -> None:
    """Those without a GPU by their cases, the others by the start of their names."""
    cases = [case for _, each in host.kinds("full") for case in each(torch.device("cpu"))]
    known = {" ".join(part for part in (case.name, case.variant, case.phase) if part) for case in cases}
    on_gpu = ("graph_replay", "compiled_region", "collective")
    assert {row["name"] for row in rows() if not row["name"].startswith(on_gpu)} <= known


def test_calls_between_others_take_longer() -> None:
    """Layers that take 1.5 times their counted calls; without them a stack says nothing."""
    table = {key: entry.value * RATIO for key, entry in load_dispatch("eager").items()}
    layers = []
    for name, calls in host_fit.LAYERS.items():
        way = name.rpartition(" ")[2][0]
        counts = {"module": calls.modules, "attention": calls.cores, "launch": calls.kernels}
        seconds = sum(table[f"{kind}_{way}_s"] * count for kind, count in counts.items())
        seconds = 1.5 * (seconds + calls.parameters * table["parameter_s"])
        layers.append({"name": name, "host_s": seconds, "low_s": seconds, "high_s": seconds, "device": "cuda"})
    found = host_fit.parameters([*rows(), *layers], "made up", "2026-11-27")
    assert found[IN_A_MODEL].value == pytest.approx(1.5)
    assert in_a_model(found) is found[IN_A_MODEL]
    assert IN_A_MODEL not in host_fit.parameters(rows(), "made up", "2026-11-27")


def test_the_catalogue_s_layers_are_those_of_the_own_measurement() -> None:
    """Calls that were not measured there (attention, a parameter) are the tables' times 1.8, the ratio of their sources."""
    path = Path(hwprofiles.__file__).parent / "measurements" / "h100-host-dispatch-2026-11-27.csv"
    with path.open(encoding="utf-8", newline="") as file:
        read = [{**row, "device": "cuda"} for row in csv.DictReader(file)]
    for row in read:
        row["name"] = " ".join(part for part in (row["name"], row["variant"], row["phase"]) if part)
    named = {row["name"]: row for row in read}
    for phase in ("forward", "backward"):
        read.append({**named[f"linear_module recorded {phase}"], "name": f"linear_stack trained {phase}"})
        core = {
            "name": f"attention core {phase}",
            "host_s": load_dispatch("eager")[f"attention_{phase[0]}_s"].value * 1.8,
        }
        read.append({**named[f"linear_module recorded {phase}"], **core})
    parameter = {"name": "accumulate parameters backward", "host_s": load_dispatch("eager")["parameter_s"].value * 1.8}
    read.append({**named["add recorded backward"], **parameter})
    found, known = host_fit.parameters(read, "own measurement", "2026-11-27")[IN_A_MODEL], in_a_model(None)
    assert found.value == pytest.approx(known.value, rel=0.03)
    assert known.low < found.low < found.value < found.high < known.high


def test_what_was_not_measured_is_the_tables_by_the_hosts_ratio() -> None:
    own = own_range("transformer_engine", host_fit.parameters(rows(), "made up", "2026-11-27"))
    table = load_dispatch("transformer_engine")
    for key in KEYS:
        assert getattr(own.value, key) == pytest.approx(RATIO * table[key].value)
        assert getattr(own.low, key) <= getattr(own.value, key) <= getattr(own.high, key)


def test_measured_costs_are_surer_than_the_tables() -> None:
    own = own_range("eager", host_fit.parameters(rows(), "made up", "2026-11-27"))
    table = load_dispatch("eager")["module_f_s"]
    assert own.high.module_f_s / own.low.module_f_s < table.high / table.low
    assert own.low.module_f_s == pytest.approx(0.95 * own.value.module_f_s)
    assert own.high.module_f_s == pytest.approx(1.1 * own.value.module_f_s)


def test_a_slower_host_measures_slower() -> None:
    slow, fast = (own_range(None, host_fit.parameters(rows(ratio), "made up", "2026-11-27")) for ratio in (2.0, 1.0))
    assert all(getattr(fast.value, key) <= getattr(slow.value, key) for key in KEYS)
    assert fast.value.module_f_s < slow.value.module_f_s


def test_without_a_gpu_or_rows_there_are_no_costs() -> None:
    assert host_fit.parameters([], "", "") == {}
    assert host_fit.parameters([{**row, "device": "cpu"} for row in rows()], "made up", "2026-11-27") == {}
    assert not has_own({})


def test_a_kind_that_fails_and_one_out_of_time_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(device: Any) -> Iterator[Case]:
        raise RuntimeError("no such library")
        yield

    def works(device: Any) -> Iterator[Case]:
        yield Case("add", "no_grad", "forward", 1, lambda state: None)
        yield Case("mul", "no_grad", "forward", 1, lambda state: None)

    monkeypatch.setattr(host, "kinds", lambda size: (("graphs", fails), ("operators", works)))
    found: list[Any] = []
    assert host.measure(torch.device("cpu"), "cpu", found.append) == ("host: graphs: RuntimeError: no such library",)
    assert [row["name"] for row in found] == ["add no_grad forward", "mul no_grad forward"]
    assert all(set(row) == set(host.COLUMNS) for row in found)
    host.measure(torch.device("cpu"), "cpu", found.append, {"add no_grad forward"})
    assert len(found) == 3
    monkeypatch.setitem(host.CALLS_S, "cpu", -1.0)
    assert "operators from add" in host.measure(torch.device("cpu"), "cpu", found.append)[1]


@pytest.mark.slow
def test_every_case_runs_on_the_processor() -> None:
    found: list[Any] = []
    assert host.measure(torch.device("cpu"), "cpu", found.append) == ()
    assert {"wait item", "add recorded backward", "collective all_reduce"} <= {row["name"] for row in found}
