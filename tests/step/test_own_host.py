"""Host costs that a stack holds itself: whom they serve, what they change, and how sure they make a step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import fsum, hypot, log
from pathlib import Path

import pytest

from hwprofiles.calibration.machine import host_fit
from hwprofiles.hosts import host_names, load_host
from hwprofiles.hosts.own import own_range
from hwprofiles.parameter_keys import key_problem, part_problems
from hwprofiles.stack_records import Parameter
from simulator import load_scenario
from simulator.cli.app import main
from simulator.errors import InputError
from simulator.scenario.host_speed import AGAIN, GROUPS, HOST_SPEED, OWN_REASON, SHARES
from simulator.scenario.scenario import Scenario
from simulator.step.prepared import prepare
from simulator.step.step import simulate_times
from tests.hwprofiles.test_host_part import rows

PROCESSOR = "Intel(R) Xeon(R) Platinum 8480C"
OTHER = "Intel(R) Xeon(R) Processor"
BOUND_BY_HOST = (
    "cluster.num_gpus=8", "parallel.tp=1", "parallel.pp=1", "model.num_layers=2", "model.num_dense_layers=2",
    "training.global_batch_size=64", "training.seq_len=64", "recompute={granularity: none, modules: []}",
    "host.dispatch=eager", "model.hidden_size=1024", "model.vocab_size=2048",
)  # fmt: skip
BOUND_BY_DEVICE = (*BOUND_BY_HOST, "training.seq_len=8192", "training.global_batch_size=16")


def stack(folder: Path, ratio: float, processor: str = PROCESSOR) -> str:
    """A stack of H100 whose host's calls take `ratio` times the tables'; its kernels are what is public."""
    folder.mkdir()
    measured: Mapping[str, Parameter] = host_fit.parameters(rows(ratio), "moesim calibrate", "2026-11-27")
    text = {key: entry.model_dump() for key, entry in measured.items()}
    (folder / "host_parameters.yaml").write_text(json.dumps(text), encoding="utf-8")
    provenance = {
        "gpu": "h100", "description": "made up", "software": "none", "state": "first_launches", "host_cpu": processor,
        "sources": {"calibrate": {"kind": "measurement", "where": "moesim calibrate", "date": "2026-11-27"}},
    }  # fmt: skip
    (folder / "provenance.yaml").write_text(json.dumps(provenance), encoding="utf-8")
    return f"stack={folder}"


def scenario(*overrides: str) -> Scenario:
    return load_scenario("llama-3.1-70b", (*BOUND_BY_HOST, *overrides))


def test_a_slow_own_host_slows_a_step_that_it_binds_and_no_other(tmp_path: Path) -> None:
    slow, fast = stack(tmp_path / "slow", 4.0), stack(tmp_path / "fast", 1.0)
    bound = [simulate_times(scenario(each)).step_s for each in (fast, slow)]
    assert bound[1] > 1.3 * bound[0]
    longer = [simulate_times(load_scenario("llama-3.1-70b", (*BOUND_BY_DEVICE, each))).step_s for each in (fast, slow)]
    assert longer[1] == pytest.approx(longer[0], rel=0.01)


def test_a_cheaper_own_host_is_never_slower(tmp_path: Path) -> None:
    times = [simulate_times(scenario(stack(tmp_path / f"{ratio:g}", ratio))).step_s for ratio in (0.5, 1.0, 1.5, 2.0)]
    assert times == sorted(times)


def test_own_costs_of_the_tables_processor_are_the_tables(tmp_path: Path) -> None:
    """Measured as the tables have it: the same seconds, whichever of both serves."""
    own = stack(tmp_path / "own", 1.0)
    found = [prepare(scenario(own, f"host.costs={each}")).host for each in ("stack", "processor")]
    assert found[0] is not None and found[1] is not None
    assert found[0].costs is not None and found[1].costs is not None
    for key in found[0].costs.__slots__:
        assert getattr(found[0].costs, key) == pytest.approx(getattr(found[1].costs, key)), key


def test_they_serve_the_processor_that_they_were_measured_on(tmp_path: Path) -> None:
    """Another machine's do not, unless the scenario says so; and its own do not where it says that."""
    here, elsewhere = stack(tmp_path / "here", 3.0), stack(tmp_path / "elsewhere", 3.0, OTHER)

    def call_s(*given: str) -> float:
        host = prepare(scenario(*given)).host
        assert host is not None and host.costs is not None
        return host.costs.module_f_s

    tables = call_s("stack=h100-public")
    assert call_s(here) == pytest.approx(3 * tables)
    assert call_s(elsewhere) == pytest.approx(tables)
    assert call_s(elsewhere, "host.costs=stack") == pytest.approx(3 * tables)
    assert call_s(here, "host.costs=processor") == pytest.approx(tables)
    assert call_s(here, "cluster.node=h100-x8", "assumptions.host_speed=2") == pytest.approx(6 * tables)


def test_the_result_says_where_the_costs_are_from_and_is_surer(tmp_path: Path) -> None:
    own = stack(tmp_path / "own", 1.0)
    measured, tables = (
        prepare(scenario(own, *more)).assumptions[HOST_SPEED] for more in ((), ("host.costs=processor",))
    )
    assert measured.reason == OWN_REASON
    assert "moesim calibrate" in str(measured.source)
    assert "moesim calibrate" not in str(tables.source)
    assert tables.low < measured.low < 1 < measured.high < tables.high
    assert log(measured.high) < 0.75 * log(tables.high)
    own_costs = own_range("eager", host_fit.parameters(rows(1.0), "moesim calibrate", "2026-11-27"))
    parts = []
    for keys, share in zip(GROUPS, SHARES, strict=True):
        both = [(getattr(own_costs.value, key), getattr(own_costs.high, key)) for key in keys]
        logs = [log(high / value) for value, high in both if value > 0]
        parts.append(share * fsum(logs) / len(logs))
    assert log(measured.high) == pytest.approx(hypot(log(AGAIN), *parts), rel=1e-4)
    assert fsum(SHARES) == pytest.approx(1.0)
    nobody_says = prepare(scenario(own, "host.dispatch=null")).assumptions[HOST_SPEED]
    assert nobody_says.low < measured.low and measured.high < nobody_says.high


def test_a_stack_without_host_costs_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"host\.costs: stack, but h100-public has no host costs.*moesim calibrate"):
        prepare(scenario("stack=h100-public", "host.costs=stack"))
    assert main(["run", "llama-3.1-70b", "--set", "host.costs=node"]) == 2
    assert "stack" in capsys.readouterr().err


def test_keys_of_a_host_are_checked() -> None:
    assert key_problem("host.seconds") is None
    assert key_problem("host.eager.launch_f_s") is None
    assert "eager" in str(key_problem("host.eeger.launch_f_s"))
    assert "launch_f_s" in str(key_problem("host.eager.lunch_f_s"))
    assert [key for key, _ in part_problems(["host.eager.launch_f_s"])] == ["host.eager.launch_f_s"]
    assert list(part_problems(["host.eager.launch_f_s", "host.seconds"])) == []


def test_every_processor_is_told_from_the_others() -> None:
    """What Linux calls one is no other's; the tables' is known."""
    names = {name: load_host(name).reported for name in host_names()}
    assert all(names.values())
    for name, reported in names.items():
        others = [each for other, more in names.items() if other != name for each in more]
        assert not any(each in other or other in each for each in reported for other in others)
    assert any(each in PROCESSOR for each in names["xeon-8480c"])
