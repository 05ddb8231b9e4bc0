"""Commands: one JSON document on standard output and nothing else there, atomic files, exit codes, light start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from hwprofiles.catalog import list_names
from hwprofiles.record_file import CatalogError
from hwprofiles.stack_choice import stack_names
from simulator import load_scenario, not_modelled
from simulator.check import scenario_schema
from simulator.cli import app as cli
from simulator.cli import output
from simulator.cli.app import main
from simulator.cli.catalogues import CATALOGUES
from simulator.cli.list import COLUMNS
from simulator.errors import InconsistentSimulation, InputError, MoesimError, Problem
from simulator.schedule.action import Kind
from simulator.schedule.schedules.straight import straight_schedule
from simulator.version import package_version

SMALL = [
    "--set", "cluster.num_gpus=256", "--set", "training.global_batch_size=512",
    "--set", "parallel.pp=4", "--set", "phases=[{name: short, steps: 2}]", "--set", "draws=2",
]  # fmt: skip
"""Options that make a step of the DeepSeek-V3 preset quick."""
ROOT = Path(__file__).parents[2]
HEAVY = ("numba", "numpy", "pandas", "plotly", "pydantic", "rich", "ruamel", "simpy", "streamlit")


def run_small(*arguments: str) -> int:
    return main(["run", "deepseek-v3", *SMALL, *arguments])


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(command in shown for command in ("run", "list", "schema", "schedule"))
    assert not any(f"\n  {entry.name} " in shown for entry in not_modelled.entries("command"))


def test_start_imports_nothing_heavy() -> None:
    code = f"import sys, simulator.cli.app as a; a.main(['--help']); print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_run_writes_one_json_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_small("--json", "--set", "parallel.schedule=1f1b") == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert captured.err.splitlines() == [line for line in captured.err.splitlines() if line.startswith("warning: ")]
    assert "parallel.overlap.ep" in captured.err
    overrides = [*SMALL[1::2], "parallel.schedule=1f1b"]
    assert document["scenario_sha256"] == load_scenario("deepseek-v3", overrides).scenario_sha256
    assert document["step"]["step_s"] > 0
    assert [f"warning: {text}" for text in document["warnings"]] == captured.err.splitlines(), "once each"


def test_run_without_json_prints_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_small() == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.startswith("deepseek-v3")


def test_result_of_a_resolved_scenario_is_the_same_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_small("--json") == 0
    first = capsys.readouterr().out
    (tmp_path / "resolved.json").write_text(json.dumps(json.loads(first)["scenario"]))
    assert main(["run", str(tmp_path / "resolved.json"), "--json"]) == 0
    second = json.loads(capsys.readouterr().out)
    expected = json.loads(first)
    for told in ("defaults_used", "framework_switches"):  # what was filled in then is given now
        assert second.pop(told) == []
        assert expected.pop(told)
    assert second == expected


def test_out_file_is_the_document_and_is_replaced_only_by_force(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "result.json"
    assert run_small("--json", "--out", str(path)) == 0
    document = capsys.readouterr().out
    assert path.read_text() == document
    assert path.stat().st_mode & 0o777 == 0o666 & ~output_mask()
    path.write_text("old")
    assert run_small("--out", str(path)) == 2
    assert path.read_text() == "old"
    assert run_small("--out", str(path), "--force") == 0
    assert path.read_text() == document
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize("where", ["locked", "missing", "loop"])
def test_a_file_that_cannot_be_written_is_found_before_the_run(
    where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def must_not_run(scenario: object, simulate: object) -> None:
        raise AssertionError("the run was simulated")

    def refuse(**where: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("simulator.run.training_run.simulate_run", must_not_run)
    folder = tmp_path / where
    if where == "locked":  # a superuser writes into a folder without permissions too
        folder.mkdir()
        monkeypatch.setattr(output.tempfile, "TemporaryFile", refuse)
    elif where == "loop":
        folder.symlink_to(folder)
    assert run_small("--out", str(folder / "result.json")) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("--out: ")
    assert ("Permission denied" in captured.err) == (where == "locked")


def test_the_check_of_the_output_leaves_no_file(tmp_path: Path) -> None:
    output.check_output(tmp_path / "result.json", force=False)
    assert list(tmp_path.iterdir()) == []


def test_alone_it_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert main(["--help"]) == 0
    assert shown == capsys.readouterr().out
    assert "Commands:" in shown


def test_it_says_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"moesim {package_version()}\n"


def output_mask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "result.json"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MoesimError, match="No space left"):
        output.write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (InputError("wrong"), 2, "wrong"),
        (InconsistentSimulation("deadlock: a waits for b"), 3, "deadlock: a waits for b"),
        (MoesimError("broken"), 1, "broken"),
        (RuntimeError("boom\nmore"), 1, "failed: RuntimeError: boom (--debug shows where)"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_exit_codes(
    error: BaseException, code: int, text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(scenario: object, **_: object) -> None:
        raise error

    monkeypatch.setattr("simulator.run.training_run.simulate_run", fail)
    assert run_small("--json") == code
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", f"{text}\n")


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(scenario: object, **_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("simulator.run.training_run.simulate_run", fail)
    with pytest.raises(RuntimeError, match="boom"):
        run_small("--debug")


FIGURES = {
    "gpus": ("dense BF16", "989 TFLOP/s", "141 GB", "4.80 TB/s", "132", "700 W"),
    "nodes": ("scale-up", "450 GB/s", "50.0 GB/s", "72"),
    "fabrics": ("rail_fat_tree", "50.0 GB/s"),
    "frameworks": ("2024-07", "NeMo 24.07 performance summary"),
    "models": ("671 B", "37.6 B", "256, 8 a token, 1 shared", "dense"),
    "stacks": ("measured", "public", "transferred", "public measurements on h100 and h800: GEMM, attention"),
    "schedules": ("(P-1)(F+B)",),
    "presets": ("2,048", "h800-x8", "h800-deepseek-2024"),
    "cases": ("2,048", "fp8-blockwise"),
    "topologies": ("fat_tree",),
    "recipes": ("bf16",),
    "prices": ("USD/GPU-hour", "5.25", "2.25 to 6.03", "2026-05", "USD"),
}


@pytest.mark.parametrize("kind", CATALOGUES)
def test_lists_name_every_entry(kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["list", kind, "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    names = [entry["name"] for entry in entries]
    assert names == sorted(set(names))
    assert all(next(iter(entry)) == "name" for entry in entries)
    monkeypatch.setenv("COLUMNS", "140")
    assert main(["list", kind]) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert lines[0].startswith("name ")
    assert list(dict.fromkeys(line.split()[0] for line in lines[1:] if not line.startswith(" "))) == names
    assert [figure for figure in FIGURES[kind] if figure not in text] == []
    if kind == "stacks":
        assert names == list(stack_names())
    if kind in ("gpus", "nodes", "fabrics", "prices"):
        assert names == list(list_names(kind))  # type: ignore[arg-type]
    if kind == "models":
        assert all(entry["num_parameters"] > 0 for entry in entries)


def test_price_sheets_tell_their_offers(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["list", "prices", "--json"]) == 0
    sheets = {sheet["name"]: sheet for sheet in json.loads(capsys.readouterr().out)}
    for sheet in sheets.values():
        offers = [offer for price in sheet["entries"].values() for offer in price["offers"]]
        assert sheet["num_offers"] == len(offers)
        assert sheet["providers"] == sorted({offer["provider"] for offer in offers})
        assert all(offer["source"]["date"] and offer["commitment"] for offer in offers)
    assert "google-cloud" in sheets["market-2025-03"]["providers"]
    monkeypatch.setenv("COLUMNS", "140")
    assert main(["list", "prices"]) == 0
    (line,) = (each for each in capsys.readouterr().out.splitlines() if each.startswith("market-2025-03  a100 "))
    assert line.endswith("10  aws, azure, cr8dl, oblivus, oracle, runpod")


@pytest.mark.parametrize("kind", CATALOGUES)
def test_a_narrow_list_leaves_columns_out_and_names_them(
    kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for width in (60, 80, 100):
        monkeypatch.setenv("COLUMNS", str(width))
        assert main(["list", kind]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= width
        assert len(COLUMNS[kind]) == sum(column.header in lines[0] for column in COLUMNS[kind]) or any(
            line.startswith(f"left out at {width} columns: ") for line in lines
        )


def test_schema_is_the_loaders(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(scenario_schema()))


def test_a_wrong_file_of_a_catalogue_is_named_and_bad_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_wrong_gpu(name: str) -> None:
        raise CatalogError([Problem("gpus/own.yaml:2", "family", "is missing")])

    monkeypatch.setattr("hwprofiles.catalog.load_gpu", load_wrong_gpu)
    assert main(["list", "gpus"]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", "gpus/own.yaml:2: family: is missing\n")


def test_schedule_as_json_has_every_action(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schedule", "dualpipe", "--pp", "4", "--micro-batches", "8", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["name"], document["pp"], document["micro_batches"]) == ("dualpipe", 4, 8)
    forwards = [(a["stage"], a["micro_batch"]) for rank in document["ranks"] for a in rank if a["kind"] in ("F", "FB")]
    assert sorted(forwards) == [(stage, micro_batch) for stage in range(4) for micro_batch in range(8)]


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ((("F", 0), ("F", 1), ("B", 0)), "micro-batch 1 has 1 F, 0 B, 0 I, 0 W"),
        ((("B", 0), ("F", 0), ("F", 1), ("B", 1)), "1B0"),
    ],
    ids=["loses-a-backward", "deadlock"],
)
@pytest.mark.parametrize("form", [[], ["--json"]], ids=["grid", "json"])
def test_an_unsound_schedule_is_not_printed(
    order: Sequence[tuple[Kind, int]],
    words: str,
    form: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built = straight_schedule("own", 2, 2, lambda rank: order)
    monkeypatch.setattr("simulator.cli.schedule.build_schedule", lambda *counts, split: built)
    assert main(["schedule", "own", "--pp", "2", "--micro-batches", "2", *form]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("schedule own: ")
    assert words in err


def test_schedule_as_a_grid_has_a_line_a_rank(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schedule", "1f1b", "--pp", "4", "--micro-batches", "4"]) == 0
    assert sum(line.startswith("rank ") for line in capsys.readouterr().out.splitlines()) == 4


def test_a_reader_that_leaves_is_no_crash(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(scenario: object, **_: object) -> None:
        raise BrokenPipeError

    forgotten: list[bool] = []
    monkeypatch.setattr("simulator.run.training_run.simulate_run", leave)
    monkeypatch.setattr(cli, "_forget_output", lambda: forgotten.append(True))
    assert run_small("--json") == 1
    assert (capsys.readouterr().err, forgotten) == ("", [True])
