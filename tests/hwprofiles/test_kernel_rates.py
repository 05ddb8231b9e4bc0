"""The program that times kernels, rehearsed on the processor: what it asks for, and what it writes."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch

from hwprofiles.calibration import kernel_rates
from hwprofiles.calibration.rates import dense, grouped

CPU = torch.device("cpu")


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    monkeypatch.setattr(kernel_rates, "LOOP_S", 0.0)
    path = tmp_path / "rates.csv"
    assert kernel_rates.main(["--out", str(path), "--quick", "--device", "cpu"]) == 0
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_each_kernel_has_both_states_or_a_reason(rows: list[dict[str, str]]) -> None:
    """Of every kind; seconds within their low and high."""
    cases: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in rows:
        cases.setdefault(tuple(row[column] for column in kernel_rates.COLUMNS), []).append(row)
    assert {row["part"] for row in rows if row["seconds"]} == set(kernel_rates.KINDS)
    for found in cases.values():
        if found[0]["note"]:
            assert len(found) == 1
            assert not found[0]["seconds"]
        else:
            assert [row["state"] for row in found] == ["first_launches", "benchmark_loop"]
            assert all(0 < float(row["low"]) <= float(row["seconds"]) <= float(row["high"]) for row in found)


def test_a_run_cut_short_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "rates.csv"
    assert kernel_rates.main(["--out", str(path), "--quick", "--device", "cpu", "--limit", "-1"]) == 0
    assert len(path.read_text(encoding="utf-8").splitlines()) == 1


def test_the_processor_only_rehearses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert kernel_rates.main(["--out", str(tmp_path / "rates.csv"), "--device", "cpu"]) == 2
    assert "--quick" in capsys.readouterr().err


@pytest.mark.parametrize(("groups", "mean"), grouped.UNEVEN)
def test_uneven_loads_are_as_many_rows(groups: int, mean: int) -> None:
    counts = grouped.uneven_loads(groups, mean)
    assert sum(counts) == groups * mean
    assert list(counts) == sorted(counts, reverse=True)
    assert all(count > 0 and count % grouped.ALIGNED == 0 for count in counts)


def test_results_are_those_of_plain_products() -> None:
    """Grouped and looped calls of an expert layer give what each expert's product is, in all passes."""
    for case in grouped.cases(CPU, quick=True):
        if case.cells["library"] == "grouped" and case.cells["dtype"] == "bf16":
            assert case.make()().numel() == {
                "wgrad": case.cells["groups"] * case.cells["m"] * case.cells["n"]
            }.get(case.cells["variant"], case.cells["m"] * case.cells["n"])  # fmt: skip


def test_a_pass_is_the_layer_s() -> None:
    """The three passes of a layer have the same FLOP; m of fprop and dgrad, k of wgrad, are its tokens."""
    cases = [case.cells for case in dense.cases(CPU, quick=True)]
    (tokens,), ((n, k),) = dense.SMALL_TOKENS, dense.SMALL_WEIGHTS
    sizes = {case["variant"]: (case["m"], case["n"], case["k"]) for case in cases}
    assert sizes == {"fprop": (tokens, n, k), "dgrad": (tokens, k, n), "wgrad": (n, k, tokens)}
    assert {case["flop"] for case in cases} == {2.0 * tokens * n * k}
