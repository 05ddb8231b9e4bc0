"""`moesim plan`: the table, the document, the file of -o that loads to the plan, and bad input; a stand-in plans."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from simulator import load_scenario
from simulator.cli.app import main
from tests.run import planned as double

OPTIONS = [
    "--set",
    "cluster.num_gpus=256",
    "--set",
    "parallel.pp=4",
    "--set",
    "phases=[{name: pretrain, tokens: 1e12}]",
]
ARGUMENTS = ["plan", "mixtral-8x22b", *OPTIONS]


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulator.run.planner.plan_layout", double.plan_layout)
    monkeypatch.setattr("simulator.run.planner.fits_any", double.fits_any)
    monkeypatch.setattr("simulator.run.planner.own_layout.states_layout", lambda scenario: False)


def test_the_table_says_the_smallest_and_what_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ARGUMENTS, "--num-gpus", "8,64,512"]) == 0
    captured = capsys.readouterr()
    shown = " ".join(captured.out.split())
    assert "32 GPUs are the smallest cluster that fits Cluster sizes" in shown
    assert "no layout fits on 8 GPUs" in shown
    assert "64 yes, 64.0 GB 102.0 s" in shown
    assert "taken" in shown
    assert "pp2 ep8: a longer bubble, +1.0 s" in shown
    assert "does not fit: 60 layouts" in shown
    assert sorted(captured.err.splitlines()[-3:]) == [
        "planning 1 of 3: 8 GPUs", "planning 2 of 3: 64 GPUs", "planning 3 of 3: 512 GPUs",
    ]  # fmt: skip


def test_the_document_has_the_tables_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ARGUMENTS, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {"rows", "smallest_that_fits", "front", "chosen", "rejected"} <= document.keys()
    assert document["smallest_that_fits"] == double.SMALLEST == document["rows"][0]["num_gpus"]
    assert {
        "num_gpus",
        "layout",
        "keys",
        "fits",
        "margin_bytes",
        "step_s",
        "tokens_per_s_per_gpu",
        "days",
        "cost_usd",
        "binds",
    } == (document["rows"][0].keys())
    assert document["front"] == list(range(len(document["rows"])))


@pytest.mark.parametrize("where", ["preset", "file"])
def test_the_written_file_loads_to_the_plan(where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, folder = "mixtral-8x22b", tmp_path / "plans"
    folder.mkdir()
    if where == "file":
        (tmp_path / "own.yaml").write_text("schema_version: 1\nname: own\nextends: mixtral-8x22b\nseed: 7\n")
        source = str(tmp_path / "own.yaml")
    best = folder / "best.yaml"
    assert main(["plan", source, *OPTIONS, "--num-gpus", "64,128", "-o", str(best)]) == 0
    text = best.read_text()
    assert "\nextends: " + ("mixtral-8x22b" if where == "preset" else "../own.yaml") + "\n" in text
    assert text.startswith("# Planned by moesim plan.")
    assert "# Beside it: pp2 ep8: a longer bubble, +1.0 s.\n" in text
    loaded = load_scenario(best)
    expected = load_scenario(
        source, [*OPTIONS[1::2], "cluster.num_gpus=128", *(f"{key}={value}" for key, value in double.KEYS.items())]
    )
    assert loaded.canonical() | {"name": ""} == expected.canonical() | {"name": ""}
    assert loaded.name.endswith(" on 128 GPUs")
    assert list(folder.iterdir()) == [best], "nothing else is left there"


@pytest.mark.parametrize("parallel", ["parallel: auto", "", "parallel: {pp: 3}"])
def test_a_scenario_needs_no_layout_of_its_own(
    parallel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is to be found, is none, or cannot be: 64 GPUs are no three stages."""
    monkeypatch.undo()
    monkeypatch.setattr("simulator.run.planner.plan_layout", double.plan_layout)
    monkeypatch.setattr("simulator.run.planner.fits_any", double.fits_any)
    text = f"""schema_version: 1
model: mixtral-8x7b
cluster: {{node: h100-x8, num_gpus: 64}}
{parallel}
training: {{seq_len: 4096, global_batch_size: 128}}
"""
    source = tmp_path / "own.yaml"
    source.write_text(text)
    best = tmp_path / "best.yaml"
    assert main(["plan", str(source), "--num-gpus", "64", "-o", str(best)]) == 0
    assert load_scenario(best).parallel.ep == 8
    assert "own layout" not in capsys.readouterr().out


def test_a_plan_that_its_keys_do_not_say_is_written_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def other_seed(scenario: object) -> object:
        planned, record = double.plan_layout(scenario)  # type: ignore[arg-type]
        return planned.model_copy(update={"seed": 12}), record

    monkeypatch.setattr("simulator.run.planner.plan_layout", other_seed)
    best = tmp_path / "best.yaml"
    assert main([*ARGUMENTS, "--num-gpus", "64", "-o", str(best)]) == 0
    assert "extends" not in best.read_text()
    assert load_scenario(best).seed == 12


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--num-gpus", "100"], "--num-gpus: 100 GPUs are no whole number of nodes of 8; next: 96 and 104"),
        (["--num-gpus", "256..64"], "--num-gpus: starts above its end"),
        (["--num-gpus", "64,128..256"], "--num-gpus: is no list and no range"),
        (["--num-gpus", "8,16"], "no layout of mixtral-8x22b fits on 8, 16 GPUs; the smallest that fits is 32"),
        (["--max-days", "0"], "--max-days: is no limit (0.0)"),
        (["--max-days", "nan"], "--max-days: is no limit (nan)"),
        (["--num-gpus", "64,128", "--max-days", "1"], "no size meets --max-days 1; 128 GPUs come nearest with 143 days"),
        (["--num-gpus", "64,128", "--max-usd", "9"], "--max-usd: no size meets --max-usd 9; 64 GPUs come nearest"),
        (["--max-usd", "1e6", "--set", "prices=null"], "--max-usd: has nothing to be compared with"),
        (["--set", "no.such=1"], "--set 4: no"),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_error_and_no_output(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "best.yaml"
    assert main([*ARGUMENTS, *options, "-o", str(out)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert "Traceback" not in captured.err
    assert not list(tmp_path.iterdir())


def test_a_file_is_not_replaced_without_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "best.yaml"
    out.write_text("mine")
    assert main([*ARGUMENTS, "--num-gpus", "64", "-o", str(out)]) == 2
    assert "-o: " in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert main([*ARGUMENTS, "--num-gpus", "64", "-o", str(out), "--force"]) == 0
    assert load_scenario(out).cluster.num_gpus == 64
    assert main([*ARGUMENTS, "--num-gpus", "64", "-o", str(tmp_path / "none" / "best.yaml")]) == 2
    assert "does not exist" in capsys.readouterr().err
