"""What small models take the host between a proof's steps: when they are measured, and the stack that they make."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.machine import host
from hwprofiles.calibration.proof import own_host
from hwprofiles.calibration.proof.cli import main
from hwprofiles.hosts.torch_model import key
from hwprofiles.proof_cases import drawn_steps, step_cases
from hwprofiles.proof_cases.sets import SETS, CaseSet
from hwprofiles.stack_choice import load_stack
from hwprofiles.stack_folders import open_folder
from tests.hwprofiles.test_host_models import PLAIN, rows

torch = pytest.importorskip("torch")

from hwprofiles.calibration.host.core import HostRow  # noqa: E402
from hwprofiles.calibration.proof import run as proof_run  # noqa: E402
from hwprofiles.calibration.proof import steps  # noqa: E402


def table(path: Path) -> Path:
    """A host.csv of made-up small models."""
    found = [{**dict.fromkeys(host.COLUMNS, ""), **row, "call": "torch_model"} for row in rows("bf16", PLAIN).values()]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(host.COLUMNS))
        writer.writeheader()
        writer.writerows(found)
    return path


def test_a_stack_takes_the_small_models_of_a_proof_and_keeps_the_rest(tmp_path: Path) -> None:
    assert main(["stack", "h100-measured", str(table(tmp_path / "host.csv")), "-o", str(tmp_path / "new")]) == 0
    new, old = open_folder(tmp_path / "new").stack.parameters, load_stack("h100-measured").parameters
    for part, seconds in PLAIN.items():
        assert new[key("bf16", part, "f")].value == pytest.approx(seconds, rel=1e-5)
    others = [name for name in old if name.startswith("host.") and not name.startswith("host.torch_model")]
    assert others and all(new[name].value == pytest.approx(old[name].value, rel=1e-5) for name in others)


def test_what_cannot_make_a_stack_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = table(tmp_path / "host.csv")
    with pytest.raises(CalibrationError, match="no calibration"):
        own_host.write("h100-public", good, tmp_path / "new")
    with pytest.raises(CalibrationError, match="small models"):
        own_host.write("h100-measured", own_host.STACKS / "h100-measured" / "kernels.csv", tmp_path / "x")
    with pytest.raises(CalibrationError, match="there already"):
        own_host.write("h100-measured", good, tmp_path)
    assert main(["stack", "h100-measured", str(tmp_path / "none.csv"), "-o", str(tmp_path / "new")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_small_models_run_between_cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    class Turns:
        def __init__(self, device: Any, recipes: Any) -> None:
            order.append(f"models of {', '.join(recipes)}")

        def round(self) -> None:
            order.append("round")

        def rows(self) -> Iterator[HostRow]:
            yield HostRow("torch_model", "one bf16", "forward", 1, 1.0, 0.5, 2.0, 0.0, 0.0, 0.0)

    def row_of(case: step_cases.StepCase, *_: Any) -> dict[str, Any]:
        order.append(case.name)
        return {"name": case.name}

    three = [replace(next(step_cases.small()), micro_batches=number) for number in (1, 2, 3)]
    made = CaseSet("made up", lambda: iter(()), lambda: iter(three), looks_at_host=True)
    monkeypatch.setattr(proof_run, "SETS", {**SETS, "made-up": made})
    monkeypatch.setitem(proof_run.SIZES, "made-up", (made.layers, made.steps))
    monkeypatch.setattr(proof_run, "Turns", Turns)
    monkeypatch.setattr(steps, "row_of", row_of)
    assert proof_run.run(tmp_path, torch.device("cpu"), "made-up", lambda text: None) == 0
    assert order == ["models of bf16", *(each for case in three for each in ("round", case.name))]
    written = list(csv.DictReader((tmp_path / "host.csv").read_text().splitlines()))
    assert [(row["name"], row["host_s"]) for row in written] == [("torch_model one bf16 forward", "1")]
    assert (tmp_path / "host.yaml").exists()
    assert proof_run.run(tmp_path, torch.device("cpu"), "made-up", lambda text: None) == 0
    assert len(order) == 7  # nothing is missing: nothing is measured


def test_drawn_models_are_within_the_rule_and_new() -> None:
    cases = list(drawn_steps.drawn())
    assert len({case.name for case in cases}) == len(cases) == sum(map(len, drawn_steps.WAYS))
    assert {case.values["name"] for case in cases} == {f"drawn {letter}" for letter in "ABCDEF"}
    assert {case.recipe for case in cases} == {"bf16", "fp8-blockwise", "fp8-row"}
    assert [case.name for case in cases] == [case.name for case in drawn_steps.drawn()]
    known = [{**values, "name": ""} for values in step_cases.MODELS]
    for case in cases:
        experts = case.values["moe"]["num_routed_experts"]
        layers = case.values["num_layers"] - case.values["num_dense_layers"]
        assert layers * experts <= drawn_steps.LOOPED and {**case.values, "name": ""} not in known
        assert case.tokens * case.sequences * case.values["moe"]["top_k"] / experts >= drawn_steps.ROWS
    later = list(drawn_steps.drawn_later())
    assert len(later) == 3 * 6 and not {case.name for case in later} & {case.name for case in cases}
    graphs = [case.issue == "graph" for case in cases]
    assert graphs == sorted(graphs)


def test_a_mean_of_the_middle_leaves_out_a_quarter_at_each_end() -> None:
    from hwprofiles.calibration.host.models import trimmed

    assert trimmed([9.0, 1.0, 2.0, 3.0]) == (2.5, 1.0, 9.0)
    assert trimmed([float(number) for number in range(1, 11)]) == (5.5, 2.0, 9.0)
    assert trimmed([100.0, *[3.0] * 9, -100.0]) == (3.0, 3.0, 3.0)
