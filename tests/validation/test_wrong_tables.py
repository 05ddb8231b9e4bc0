"""Tables and rows with something wrong: named with line, column, value and remedy; the other rows go on."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from simulator.cli.app import main
from simulator.errors import InputError
from tests.validation.test_statable import LLAMA, MIXTRAL
from validation.instrument.plausible import impossible
from validation.instrument.prediction import outcome
from validation.published.row import Row, read_rows
from validation.published.state import state

SMALL = LLAMA | {"layers": "1", "hidden": "1024", "ffn": "2048", "heads": "8", "kv_heads": "8", "gbs": "16"}


def text_of(rows: Sequence[Mapping[str, str]], delimiter: str = ",") -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(name for row in rows for name in row)), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (text_of([LLAMA], ";").encode(), "n_gpus, precision; separate cells by commas"),
        (text_of([LLAMA], "\t").encode(), "not tabs"),
        (text_of([LLAMA]).encode("utf-16"), "t.csv: is not UTF-8; save it as CSV in UTF-8"),
        (text_of([LLAMA | {"notes": "größer"}]).encode("latin-1"), "is not UTF-8"),
        (text_of([LLAMA]).replace("tp,pp", "tp,tp").encode(), 't.csv:1: has the column "tp" twice'),
        (b"", "has no column"),
        ((text_of([LLAMA]) + 'y,"never closed\n').encode(), "t.csv:3: cannot be read as CSV"),
    ],
    ids=["semicolons", "tabs", "utf-16", "latin", "twice", "empty", "quote"],
)  # fmt: skip
def test_a_table_of_another_kind_is_refused_with_what_to_do(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(InputError) as refused:
        read_rows(tmp_path / "t.csv")
    assert words in str(refused.value)


def test_a_long_cell_is_no_reason_to_refuse_a_table(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text_of([LLAMA | {"notes": "x" * 200_000}, LLAMA | {"case_id": "y"}]))
    assert [row.line for row in read_rows(tmp_path / "t.csv")] == [2, 3]


@pytest.mark.parametrize(
    ("cells", "reason", "words"),
    [
        ({"step_time_s": "1e999"}, "bad value", "step_time_s: is no number above 0 ('1e999')"),
        ({"seq": "٤٠٩٦"}, "bad value", "seq: is no whole number"),
        ({"mbs": "0"}, "bad value", "leave the cell empty where the source does not say"),
        ({"dense_or_moe": "dense", "experts": "8"}, "bad value", "dense_or_moe: is not what a model with 8 experts is"),
        ({"dense_or_moe": "sparse"}, "bad value", "dense_or_moe: is neither dense nor moe"),
        ({"dense_or_moe": "moe"}, "no model dimensions given", "experts"),
        ({"ffn": ""}, "no model dimensions given", "ffn"),
        ({"attention_kind": "linear"}, "kind of attention not known", "'linear'; allowed MHA, MQA, GQA, MLA"),
        (
            {"attention_kind": "GQA, sliding window 4096"},
            "kind of attention not known",
            "windows where models.yaml has",
        ),
        ({"pp": "2", "dp": "4", "schedule": "1F2B"}, "schedule not known", "'1F2B'"),
    ],
)
def test_a_value_that_nothing_is_made_of_is_named(cells: dict[str, str], reason: str, words: str) -> None:
    found = state(Row(LLAMA | cells))
    assert found.scenario is None
    assert words in found.missing[reason]


def test_a_schedule_that_moesim_names_is_taken_as_it_is() -> None:
    found = state(Row(LLAMA | {"pp": "2", "dp": "4", "schedule": "gpipe"}))
    assert found.scenario is not None
    assert found.scenario.parallel.schedule == "gpipe"
    assert not any(each.key == "parallel.schedule" for each in found.assumed)


def test_no_experts_is_a_dense_model() -> None:
    found = state(Row(LLAMA | {"experts": "0", "topk": "0", "shared_experts": "0"}))
    assert found.scenario is not None
    assert found.scenario.model.moe is None


def test_replicas_that_a_row_leaves_out_follow_from_its_gpus() -> None:
    with_dp, without = state(Row(MIXTRAL)), state(Row({key: cell for key, cell in MIXTRAL.items() if key != "dp"}))
    assert with_dp.scenario is not None
    assert without.scenario == with_dp.scenario
    uneven = state(Row(MIXTRAL | {"dp": "", "ep": "3"}))
    assert "ep 3 x etp 1 does not divide 8 ranks" in uneven.missing["columns contradict each other"]


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"tokens_per_s_per_gpu": "1e300"}, "tokens_per_s_per_gpu: is beyond the peak of h100 in its fastest format (1e+300)"),
        ({"step_time_s": "1e-320"}, "is beyond the peak"),
        ({"tokens_per_s_per_gpu": "1e-320"}, "longer than a year"),
        ({"step_time_s": "1e300"}, "longer than a year"),
    ],
)  # fmt: skip
def test_a_speed_that_no_run_has_is_a_bad_value(cells: dict[str, str], words: str) -> None:
    found = outcome(Row(SMALL | cells))
    assert found.figure is None
    assert (found.skipped_because or "").startswith("bad value: ")
    assert words in (found.skipped_because or "")


def test_the_fastest_format_is_the_limit_of_a_speed() -> None:
    """An H100's FP8 peak is twice its BF16 peak."""
    step = {"step_s": 4.0, "mfu": {"bf16_dense_causal": 0.5}}
    assert not impossible("step_time_s", 1.001, 4.0, step, "h100")
    assert impossible("step_time_s", 0.999, 4.0, step, "h100")
    assert not impossible("tokens_per_s_per_gpu", 399.0, 100.0, step, "h100")
    assert impossible("tokens_per_s_per_gpu", 401.0, 100.0, step, "h100")


def test_what_is_wrong_with_rows_is_told_with_their_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "t.csv"
    rows = [
        SMALL | {"case_id": "ok", "step_time_s": "1"}, SMALL | {"case_id": "bad\x1b[31m", "gbs": "1,024"},
        SMALL | {"case_id": "lacks", "step_time_s": ""}, SMALL | {"case_id": "fast", "step_time_s": "1e-9"},
    ]  # fmt: skip
    table.write_text(text_of(rows))
    assert main(["validate", "--cases", str(table), "--json"]) == 0
    told = capsys.readouterr()
    assert [case["skipped_because"] is None for case in json.loads(told.out)["cases"]] == [True, False, False, False]
    assert told.err.splitlines() == [
        "t.csv:3: bad\\x1b[31m: bad value: gbs: is no whole number from 1 on ('1,024'); write 1024",
        "t.csv:5: fast: bad value: step_time_s: is beyond the peak of h100 in its fastest format (1e-09); correct the figure "
        "or the model",
    ]


def test_a_table_without_rows_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_text(text_of([LLAMA]).splitlines()[0] + "\n")
    assert main(["validate", "--cases", str(tmp_path / "t.csv")]) == 0
    assert "0 rows, 0 predicted" in capsys.readouterr().out


def test_rows_without_a_collection_are_no_source_each() -> None:
    assert outcome(Row(SMALL | {"case_id": "mine", "step_time_s": "1"})).labels["source"] == ""
    assert outcome(Row(SMALL | {"case_id": "OURS-7", "step_time_s": "1"})).labels["source"] == "OURS"


def test_a_place_that_cannot_be_written_is_told_before_anything_is_predicted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t.csv").write_text(text_of([SMALL]))
    monkeypatch.setattr("simulator.cli.validate.ACCURACY", tmp_path / "none" / "accuracy.csv")
    monkeypatch.setattr("validation.instrument.pool.outcomes", lambda rows, predict: pytest.fail("predicted"))
    assert main(["validate", "--write", "--cases", str(tmp_path / "t.csv")]) == 2
    assert capsys.readouterr().err.startswith("--write: ")
