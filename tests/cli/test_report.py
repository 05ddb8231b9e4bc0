"""`moesim report`: which format, which sources, one clear error before anything is simulated, whole files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulator.cli.app import main
from simulator.cli.report import MAX_SOURCES
from simulator.cli.sources import is_result_file
from simulator.report import items
from simulator.report.formats import FORMATS
from simulator.results.document import to_json
from simulator.results.run_result import from_json
from simulator.scenario.layers import preset_names
from tests.report.made import small_item
from tests.report.test_console import RESULT

PRESET = preset_names()[0]


@pytest.fixture
def not_simulated(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The made-up run in place of a simulation; the names of the scenarios that were asked for."""
    asked: list[str] = []

    def simulate_run(scenario: object) -> object:
        asked.append(scenario.name)  # type: ignore[attr-defined]
        return RESULT

    monkeypatch.setattr(items, "simulate_run", simulate_run)
    monkeypatch.setattr(items, "step_timeline", lambda scenario, mean_step_s: None)
    yield asked


@pytest.fixture
def result_file(tmp_path: Path) -> Path:
    path = tmp_path / "result.json"
    path.write_text(to_json(RESULT))
    return path


def written(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["-o", "a.json"], "json"),
        (["-o", "a.MD"], "md"),
        (["-f", "html", "-o", "a.html"], "html"),
        (["-f", "md", "-o", "a.html"], "md"),
        (["-f", "json", "-o", "a"], "json"),
    ],
)
def test_the_format_is_what_f_says_or_what_the_suffix_says(
    options: list[str], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, not_simulated: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", PRESET, *options]) == 0
    assert not_simulated == [PRESET]
    content = Path(options[-1]).read_bytes()
    item = items.ReportItem(RESULT)
    assert content == FORMATS[name].render([item])


def test_options_change_every_scenario_and_the_order_is_kept(tmp_path: Path, not_simulated: list[str]) -> None:
    out = tmp_path / "both.json"
    assert main(["report", PRESET, PRESET, "--set", "name=changed", "-o", str(out)]) == 0
    assert not_simulated == ["changed", "changed"]
    assert json.loads(out.read_text()) == [json.loads(to_json(RESULT))] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "a.docx"], 'no format has the suffix ".docx"; use one of '),
        (["-o", "a"], "no format has the suffix"),
        (["-f", "docx", "-o", "a.docx"], "unknown report format"),
        (["-f", "pdf", "-o", "a.pdf"], "print it to a PDF file"),
        (["-f", "htm", "-o", "a"], "html"),
        (["-o", "there.json"], "exists; --force replaces it"),
        (["-o", "folder/missing/a.json"], "does not exist"),
        (["-o", "folder.json"], "is a directory"),
        (["-o", "a.json", "--set", "prices.usd_per_gpu_hour=-1"], "prices.usd_per_gpu_hour"),
        (["-o", "a.json", "--set", "currency=EUR"], "currency"),
        (["-o", "a.json", "--set", "prices={sheet: nowhere}"], "prices.sheet"),
    ],
)
def test_one_clear_error_and_nothing_written(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], not_simulated: list[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("there.json").write_text("old")
    Path("folder").mkdir()
    Path("folder.json").mkdir()
    before = written(tmp_path)
    assert main(["report", PRESET, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert "Traceback" not in error
    assert not_simulated == []
    assert written(tmp_path) == before
    assert Path("there.json").read_text() == "old"


def test_force_replaces_the_file(tmp_path: Path, not_simulated: list[str]) -> None:
    out = tmp_path / "a.json"
    out.write_text("old")
    assert main(["report", PRESET, "-o", str(out), "--force"]) == 0
    assert from_json(out.read_text()) == RESULT
    assert written(tmp_path) == ["a.json"]


def test_too_many_sources_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", *[PRESET] * (MAX_SOURCES + 1), "-o", str(tmp_path / "a.md")]) == 2
    assert f"at most {MAX_SOURCES}" in capsys.readouterr().err


def test_a_result_file_is_a_source_like_a_scenario(result_file: Path, tmp_path: Path, not_simulated: list[str]) -> None:
    out = tmp_path / "a.json"
    assert main(["report", str(result_file), "-o", str(out)]) == 0
    assert out.read_text() == result_file.read_text()
    assert main(["report", str(result_file), PRESET, "-o", str(out), "--force"]) == 0
    assert len(json.loads(out.read_text())) == 2
    assert not_simulated == [PRESET]


def test_options_have_nothing_to_change_in_results(
    result_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(result_file), "--set", "draws=1", "-o", str(tmp_path / "a.json")]) == 2
    assert capsys.readouterr().err.startswith("--set: ")


@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
def test_a_truncated_result_is_refused_as_one(
    share: float, result_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = result_file.read_text()
    result_file.write_text(text[: int(len(text) * share)])
    assert main(["report", str(result_file), "-o", str(tmp_path / "a.html")]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert str(result_file) in error
    assert written(tmp_path) == ["result.json"]


def test_a_result_of_another_schema_version_is_refused(
    result_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result_file.write_text(result_file.read_text().replace('"schema_version": 1', '"schema_version": 2', 1))
    assert main(["report", str(result_file), "-o", str(tmp_path / "a.html")]) == 2
    assert "schema_version" in capsys.readouterr().err


def test_a_result_that_does_not_come_out_again_ends_with_three(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(items, "package_version", lambda: "1.2.3")
    result = small_item().result
    document = json.loads(to_json(result.model_copy(update={"version": "1.2.3"})))
    path, out = tmp_path / "result.json", tmp_path / "a.json"
    path.write_text(json.dumps(document))
    assert main(["report", str(path), "-o", str(out)]) == 0
    before = out.read_bytes()
    document["step"]["step_s"] *= 1 + 1e-8
    path.write_text(json.dumps(document))
    assert main(["report", str(path), "-o", str(out), "--force"]) == 3
    assert "the file was changed" in capsys.readouterr().err
    assert out.read_bytes() == before


def test_a_result_is_told_from_a_scenario(result_file: Path, tmp_path: Path) -> None:
    assert is_result_file(str(result_file))
    sorted_keys = tmp_path / "sorted.json"
    sorted_keys.write_text(json.dumps(json.loads(result_file.read_text()), sort_keys=True))
    assert is_result_file(str(sorted_keys))
    scenario = tmp_path / "scenario.json"
    scenario.write_text(json.dumps(RESULT.scenario))
    assert not is_result_file(str(scenario))
    for other in (PRESET, str(tmp_path), str(tmp_path / "missing.json"), "a\0b"):
        assert not is_result_file(other)


def test_the_help_names_every_format(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--help"]) == 0
    shown = capsys.readouterr().out
    assert [name for name in FORMATS if name not in shown] == []
