"""The tool that measures layers and steps: what it is asked, what it writes, and that a run goes on where it was ended."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hwprofiles.proof_cases import drawn_layers, layer_cases, step_cases
from hwprofiles.proof_cases.sets import SETS, by_products
from hwprofiles.proof_cases.sizes import even, skewed, uneven

pytest.importorskip("torch")

import torch
from torch.utils.flop_counter import FlopCounterMode

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.model.config import ModelConfig
from hwprofiles.calibration.proof import cli, measure_layers, run, steps, timing
from hwprofiles.calibration.proof import layers as layers_module
from hwprofiles.calibration.proof.layers import build
from hwprofiles.calibration.proof.store import Table, begin
from hwprofiles.calibration.proof.weights_alone import WeightsAlone

Rows = list[dict[str, str]]


def rows_of(path: Path) -> Rows:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two layers and a step, on one thread."""

    def layers() -> Iterator[Any]:
        chosen = [case for case in layer_cases.small() if case.recipe == "bf16" and case.kind in ("gqa", "moe")]
        yield from chosen[1:]

    monkeypatch.setitem(run.SIZES, "cpu", (layers, lambda: iter([next(iter(step_cases.small()))])))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_loads_are_all_rows_and_no_expert_has_more_than_the_tokens() -> None:
    assert even(10, 4) == (3, 3, 2, 2)
    counts = skewed(6 * 512, 64, 512)
    assert sum(counts) == 6 * 512 and max(counts) <= 512 and uneven(counts) > 0.5
    assert uneven(even(4096, 64)) == 0.0


def test_proved_layers_are_what_was_promised() -> None:
    cases = list(layer_cases.proved())
    assert len(cases) >= 24 and len({case.name for case in cases}) == len(cases)
    assert {case.kind for case in cases} == set(layer_cases.KINDS)
    assert {case.recipe for case in cases} == {"bf16", "fp8-blockwise"}
    experts = {len(case.rows) for case in cases if case.rows}
    hidden = {case.values["hidden_size"] for case in cases}
    tokens = {case.tokens * case.sequences for case in cases}
    assert (min(experts), max(experts)) == (8, 64) and min(hidden) <= 1024 and max(hidden) >= 7168
    assert (min(tokens), max(tokens)) == (1024, 16_384) and any(uneven(case.rows) > 0.3 for case in cases if case.rows)


def test_drawn_layers_are_what_the_rule_promises() -> None:
    """The same ones everywhere, new, in every recipe, and as wide as the rule's lists."""
    cases = list(drawn_layers.drawn())
    assert [case.name for case in cases] == [case.name for case in drawn_layers.drawn()]
    assert len(cases) == 33 and cases[0].name == "moe h6912 e64 k1 f512 s2 bf16 1x8192 even"
    known = {case.values["name"] for case in (*layer_cases.proved(), *layer_cases.quick(), *layer_cases.development())}
    assert len({case.name for case in cases}) == 33 and not known & {case.values["name"] for case in cases}
    for recipe in layer_cases.RECIPES:
        kinds = [case.kind for case in cases if case.recipe == recipe and case.kind != "head"]
        assert {kind: kinds.count(kind) for kind in kinds} == {"moe": 4, "mla": 2, "gqa": 2, "dense": 2}
    experts = [case for case in cases if case.rows]
    assert [case.load for case in experts] == ["even", "skewed"] * 6 and min(len(case.rows) for case in experts) == 8
    assert {case.tokens * case.sequences for case in cases} == set(drawn_layers.TOKENS)
    assert min(case.tokens for case in cases) == 1024
    for case in experts:
        assert sum(case.rows) / len(case.rows) >= drawn_layers.ROWS
        assert (
            3e-6 * case.values["hidden_size"] * len(case.rows) * case.values["moe"]["expert_intermediate_size"] <= 1500
        )


def test_layers_for_own_products_are_drawn_by_the_same_rule_and_are_others() -> None:
    cases = list(drawn_layers.drawn_own())
    known = {case.values["name"] for case in (*layer_cases.proved(), *drawn_layers.drawn(), *layer_cases.development())}
    assert len({case.name for case in cases}) == 16 and not known & {case.values["name"] for case in cases}
    assert {(case.recipe, case.products) for case in cases} == {("fp8-blockwise", "own")}
    assert [case.load for case in cases if case.rows] == ["even", "skewed"] * 4
    steps = list(SETS["own-steps"].steps())
    assert {(step.products, step.issue) for step in steps} == {("own", "graph")} and len(
        {step.name for step in steps}
    ) == 9


def test_products_are_chosen_for_the_recipe_that_has_both() -> None:
    cases = list(drawn_layers.drawn())
    own = list(by_products(cases, "own"))
    assert list(by_products(cases, None)) == cases and {case.recipe for case in own} == {"fp8-blockwise"}
    assert [case.name for case in by_products(cases, "library")] == [case.name.replace(" own", "") for case in own]
    given = layers_module.formats_of("fp8-blockwise", torch.device("cpu"), "own")  # a rehearsal: emulated
    assert given.name == "fp8-blockwise"
    if not torch.cuda.is_available():
        with pytest.raises(CalibrationError, match="sees no CUDA GPU"):
            layers_module.formats_of("fp8-blockwise", torch.device("cuda", 0), "own")


def test_a_proof_is_measured_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--cases says which; a folder of one set is not gone on with by another, and a table without rows has no provenance."""
    kept: list[str] = []
    monkeypatch.setattr(
        run,
        "run",
        lambda folder, device, size, say, seconds, products: kept.append(" ".join(filter(None, (size, products)))) or 0,
    )
    monkeypatch.setattr("hwprofiles.calibration.numerics.device.cpu_or_gpu", lambda name: torch.device("cuda", 0))
    assert cli.main(["-o", str(tmp_path), "--cases", "drawn"]) == cli.main(["-o", str(tmp_path)]) == 0
    assert cli.main(["-o", str(tmp_path), "--products", "own"]) == 0 and kept.pop() == "first own"
    assert kept == ["drawn", "first"] and {"drawn", "first"} <= run.SIZES.keys()
    assert not list(run.SIZES["drawn"][1]())
    begin(tmp_path, {"gpu": "", "size": "first"})
    with pytest.raises(CalibrationError, match="size 'first', now 'drawn'"):
        begin(tmp_path, {"gpu": "", "size": "drawn"})


@pytest.mark.parametrize("recipe", ["bf16", "fp8-blockwise", "fp8-row"])
@pytest.mark.parametrize("kind", layer_cases.KINDS)
def test_weights_alone_are_all_gradients_of_weights_and_no_other(kind: str, recipe: str) -> None:
    """Its products are a whole backward's less those of the input's alone; a gradient for each weight, in FP32."""
    case = next(case for case in layer_cases.small() if case.kind == kind)
    built = build(replace(case, recipe=recipe), torch.device("cpu"))
    flop = {}
    for name, frozen in (("B", False), ("I", True)):
        built.freeze(frozen)
        out = built.forward()
        with FlopCounterMode(display=False) as counter:
            built.backward(out)
        flop[name] = counter.get_total_flops()
    alone = WeightsAlone(built.module, built.forward)
    for _ in range(2):  # nothing is left of the call before
        grads = alone.forward()
        with FlopCounterMode(display=False) as counter:
            found = alone.gradients(grads)
        assert counter.get_total_flops() == flop["B"] - flop["I"] > 0
        assert len(found) == len(list(built.module.parameters())) and all(grad.dtype is torch.float32 for grad in found)
    assert sorted(grad.numel() for grad in found) == sorted(weight.numel() for weight in built.module.parameters())


class Marks:
    """Moments of a GPU of which those whose number is in `late` have passed when the host has queued what follows them."""

    def __init__(self, late: set[int]) -> None:
        self.late, self.number = late, -1

    def mark(self) -> Any:
        self.number += 1
        return SimpleNamespace(query=lambda passed=self.number in self.late: passed)

    def between(self, begin: Any, end: Any) -> float:
        return 1.0


def test_a_call_that_was_queued_too_late_is_told_and_the_next_one_is_waited_for_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(timing, "sleep", slept.append)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: None)
    monkeypatch.setattr(timing.time, "perf_counter", iter(range(100)).__next__)
    monkeypatch.setattr(timing, "MOST_AHEAD_S", 10.0)
    queued = timing.Queued(torch.device("cpu"))
    queued.device, queued.clock = torch.device("cuda"), Marks({2, 4})  # type: ignore[assignment]
    late = []
    for _ in range(4):
        queued.time("W", lambda: None)
        late.append(queued.is_late)
    assert late == [False, True, True, False]
    assert slept == pytest.approx([timing.LEAST_AHEAD_S, 1.3, 1.3 * 1.5, 1.3 * 1.5**2])
    queued.time("another", lambda: None)
    assert slept[-1] == timing.LEAST_AHEAD_S


@pytest.mark.parametrize(("always", "calls", "note"), [(False, 2, ""), (True, 4, "the GPU waited for the host")])
def test_passes_that_waited_for_the_host_are_timed_again(
    always: bool, calls: int, note: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two calls behind one to warm up; where each is late, twice as many, and a note."""
    timed: list[str] = []

    def time(self: Any, name: str, call: Any) -> tuple[float, Any]:
        timed.append(name)
        self.is_late = name == "W" and (always or timed.count("W") == 2)
        return (9.0 if self.is_late else 1.0), call()

    monkeypatch.setattr(measure_layers.Queued, "time", time)
    case = next(case for case in layer_cases.small() if case.kind == "dense")
    rows = {row["phase"]: row for row in measure_layers.rows_of(case, torch.device("cpu"), lambda: "")}
    assert [rows[phase]["calls"] for phase in ("F", "B", "I")] == [2, 2, 2]
    assert (rows["W"]["calls"], rows["W"]["note"], rows["W"]["seconds"]) == (calls, note, 9.0 if always else 1.0)
    assert timed.count("W") == (5 if always else 4)


def test_a_gpu_without_the_products_of_a_recipe_is_not_timed_with_emulated_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(layers_module, "numerics", lambda recipe, device, gemms: asked.append((device.type, gemms)))
    for name in ("cuda", "cpu"):
        layers_module.formats_of("fp8-row", torch.device(name))
    assert asked == [("cuda", "library"), ("cpu", "auto")]


def test_development_shares_no_layer_with_what_is_proved() -> None:
    assert not {case.values["name"] for case in layer_cases.development()} & {
        case.values["name"] for case in (*layer_cases.proved(), *layer_cases.quick())
    }


def test_proved_steps_are_six_models_in_every_way() -> None:
    cases = list(step_cases.proved())
    assert len({case.name for case in cases}) == len(cases)
    assert len({case.values["name"] for case in cases}) >= 6
    assert {case.issue for case in cases} == {"eager", "graph"} and {case.micro_batches for case in cases} == {1, 4}
    assert any(case.recompute for case in cases) and any(case.recipe != "bf16" for case in cases)
    for case in cases:
        ModelConfig.of(case.values)


def test_a_run_writes_every_pass_and_goes_on_where_it_was_ended(few: None, tmp_path: Path, capsys: Any) -> None:
    assert cli.main(["-o", str(tmp_path / "out"), "--device", "cpu"]) == 0
    layers, whole = rows_of(tmp_path / "out/layers.csv"), rows_of(tmp_path / "out/steps.csv")
    assert [row["phase"] for row in layers] == ["F", "B", "I", "W"] * 2 and len(whole) == 1
    assert all(float(row["seconds"]) > 0 for row in layers)
    step = whole[0]
    parts = sum(float(step[f"{part}_s"]) for part in ("forward", "backward", "optimizer"))
    assert parts == pytest.approx(float(step["step_s"]), rel=0.6) and int(step["parameters"]) == 113_280
    provenance = (tmp_path / "out/layers.yaml").read_text()
    assert "kind: measurement" in provenance and all(f"  {name}: " in provenance for name in measure_layers.COLUMNS)
    path = tmp_path / "out/layers.csv"
    kept = path.read_text()
    path.write_text(kept[: kept.rindex(layers[4]["name"]) + 20])  # a run killed in the middle of the last layer's rows
    capsys.readouterr()
    assert cli.main(["-o", str(tmp_path / "out"), "--device", "cpu"]) == 0
    assert [row["phase"] for row in rows_of(path)] == ["F", "B", "I", "W"] * 2
    assert rows_of(path)[:4] == layers[:4] and f"1/1 {layers[4]['name']}" in capsys.readouterr().err


def test_time_that_is_up_leaves_the_rest_for_the_next_run(few: None, tmp_path: Path, capsys: Any) -> None:
    assert cli.main(["-o", str(tmp_path), "--device", "cpu", "--seconds", "1e-9"]) == 1
    assert rows_of(tmp_path / "layers.csv") == [] and "3 of 3 cases are missing" in capsys.readouterr().err


def test_a_case_that_fails_is_a_row_that_says_why(few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Mapping[str, Any]:
        raise RuntimeError("operation not permitted when stream is capturing\n at line")

    monkeypatch.setattr(steps, "row_of", fails)
    assert cli.main(["-o", str(tmp_path), "--device", "cpu"]) == 0
    (row,) = rows_of(tmp_path / "steps.csv")
    assert row["note"] == "operation not permitted when stream is capturing at line" and row["step_s"] == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--device", "cpu"], "-o"), (["-o", "{}", "--device", "tpu"], "'tpu' cannot be used"),
        (["-o", "{}", "--device", "cpu", "--seconds", "0"], "must be above 0"),
        (["-o", "{}/file", "--device", "cpu"], "cannot be used"),
        (["-o", "{}/other", "--device", "cpu"], "torch '1.0', now"),
        (["profile", "--device", "cpu"], "-o"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line(arguments: list[str], told: str, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "file").write_text("a file")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/run.json").write_text(json.dumps({"torch": "1.0"}))
    assert cli.main([each.format(tmp_path) for each in arguments]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1


def test_a_table_of_other_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "layers.csv").write_text("one,two\n")
    with pytest.raises(CalibrationError, match="other columns"):
        Table(tmp_path / "layers.csv", {"name": ""})
