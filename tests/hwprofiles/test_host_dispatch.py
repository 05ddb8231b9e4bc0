"""The program that times what the host needs to issue work, rehearsed on the processor."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch

from hwprofiles.calibration import host_dispatch
from hwprofiles.calibration.host import layers
from hwprofiles.calibration.host.core import Case, HostRow, counted, measured
from hwprofiles.yaml_file import read_yaml

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("host") / "host.csv"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host_dispatch, "QUICK_SAMPLES", 1)
        patch.setattr(layers, "LOOPED", (2,))
        assert host_dispatch.main(["--out", str(path), "--quick", "--device", "cpu"]) == 0
    return path


@pytest.mark.slow
def test_every_row_has_seconds_within_their_ends(written: Path) -> None:
    with written.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(host_dispatch.COLUMNS)
    assert all(0 < float(row["low_s"]) <= float(row["host_s"]) <= float(row["high_s"]) for row in rows)
    named = {(row["name"], row["phase"]) for row in rows}
    assert {("linear", "backward"), ("moe_layer", "forward"), ("moe_layer", "backward"), ("wait", "")} <= named
    operators = {(row["name"], row["phase"]): float(row["operators"]) for row in rows if row["variant"] == "bf16"}
    assert operators["moe_layer", "forward"] > operators["dense_layer", "forward"] > operators["gqa", "forward"]


@pytest.mark.slow
def test_the_provenance_names_the_processor(written: Path) -> None:
    facts = read_yaml(written.with_suffix(".yaml")).data
    assert facts["made_by"].endswith("host_dispatch")
    assert facts["cpu"]
    assert facts["left_out"] == {}


def test_a_kind_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(device: torch.device) -> None:
        raise RuntimeError("no such library")

    monkeypatch.setattr(host_dispatch, "kinds", lambda recipes: (("graphs", fails),))
    rows, left_out = host_dispatch.rows(CPU, 1, ("bf16",))
    assert rows == []
    assert left_out == {"graphs": "RuntimeError: no such library"}


def test_a_call_is_a_share_of_its_sample() -> None:
    """Ten sums in a sample: one operator a call."""
    x = torch.ones(4)
    case = Case("add", "", "", 10, lambda _: [torch.add(x, x) for _ in range(10)])
    assert counted(case, CPU) == (10, 0)
    assert measured(case, CPU, 1).host_s < 1e-3


def test_nothing_is_timed_behind_a_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A profiler that was attached slows later calls of the driver: all timing comes first, of all kinds."""
    x, seen = torch.ones(4), []

    def cases(device: torch.device, name: str) -> Iterator[Case]:
        yield Case(name, "", "", 2, lambda _: [torch.add(x, x) for _ in range(2)])

    def timed(case: Case, device: torch.device, samples: int) -> HostRow:
        seen.append(f"time {case.name}")
        return measured(case, device, samples)

    def looked_into(case: Case, device: torch.device) -> tuple[int, int]:
        seen.append(f"count {case.name}")
        return counted(case, device)

    made = tuple((name, partial(cases, name=name)) for name in ("one", "other"))
    monkeypatch.setattr(host_dispatch, "kinds", lambda recipes: made)
    monkeypatch.setattr(host_dispatch, "measured", timed)
    monkeypatch.setattr(host_dispatch, "counted", looked_into)
    found, left_out = host_dispatch.rows(CPU, 1, ("bf16",))
    assert seen == ["time one", "time other", "count one", "count other"]
    assert [row.operators for row in found] == [1, 1]
    assert left_out == {}


def test_it_needs_a_gpu_or_a_rehearsal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("has a GPU")
    assert host_dispatch.main(["--out", str(tmp_path / "host.csv")]) == 2
    assert "--device cpu" in capsys.readouterr().err
