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


BAD_ROWS = (
    ({"gbs": "7"}, "refused by moesim: gbs: 7 sequences do not divide"),
    ({"gbs": "0"}, "gbs: is no whole number from 1 on ('0'); leave the cell empty"),
    ({"gbs": "-16"}, "gbs: is no whole number from 1 on ('-16')"),
    ({"gbs": "NaN"}, "gbs: is no whole number"),
    ({"gbs": "inf"}, "gbs: is no whole number"),
    ({"gbs": "1e400"}, "gbs: is no whole number"),
    ({"gbs": "16.5"}, "gbs: is no whole number"),
    ({"gbs": "99999999999999999999"}, "gbs: is too large"),
    ({"gbs": "1,024"}, "write 1024"),
    ({"gbs": "1 024"}, "write 1024"),
    ({"gbs": "1_024"}, "write 1024"),
    ({"seq": "4k"}, "seq: is no whole number from 1 on ('4k'); write a plain number in the column's unit"),
    ({"seq": "4096 tokens"}, "seq: is no whole number"),
    ({"seq": "1e12"}, "seq: is too large"),
    ({"step_time_s": "1.2e3 ms"}, "step_time_s: is no number above 0 ('1.2e3 ms'); write a plain number"),
    ({"step_time_s": "1,2"}, "write 1.2 if the comma is a decimal one, 12 if it separates thousands"),
    ({"step_time_s": "1,234"}, "write 1.234 if the comma is a decimal one, 1234 if"),
    ({"step_time_s": "-1"}, "step_time_s: is no number above 0"),
    ({"step_time_s": "nan"}, "step_time_s: is no number above 0"),
    ({"step_time_s": "inf"}, "step_time_s: is no number above 0"),
    ({"step_time_s": "１.５"}, "step_time_s: is no number above 0"),
    ({"step_time_s": "", "mfu": "45"}, "mfu: is above 1 ('45'); write a fraction: 0.45"),
    ({"step_time_s": "", "mfu": "45%"}, "mfu: is no number above 0"),
    ({"step_time_s": "", "tokens_per_s_per_gpu": "12.3k"}, "tokens_per_s_per_gpu: is no number above 0"),
    ({"tokens_per_s_per_gpu": "5"}, "tokens_per_s_per_gpu: differs from gbs * seq / (n_gpus * step_time_s)"),
    ({"memory_gib": "5000"}, "memory_gib: is more than h100 has ('5000')"),
    (
        {"tflops_per_gpu": "21400"},
        "tflops_per_gpu: is beyond the peak of h100 in its fastest format ('21400'); at most 1979",
    ),
    ({"memory_gib": "80GB"}, "memory_gib: is no number above 0"),
    ({"gpu": "H100-SXM"}, "unknown GPU: 'H100-SXM'; allowed A100-40GB"),
    ({"gpu": ""}, "unknown GPU: none named"),
    ({"model": "Llama-9"}, "model not known ('Llama-9')"),
    ({"model": ""}, "model not known ('')"),
    ({"n_gpus": ""}, "no GPU count given"),
    ({"n_gpus": "12", "dp": ""}, "n_gpus: 12 GPUs are no whole number of nodes"),
    ({"n_gpus": "1000000", "dp": ""}, "n_gpus: 1000000 GPUs, but fabric"),
    ({"tp": "3", "dp": ""}, "n_gpus: is no multiple of tp * pp * cp = 3 ('8')"),
    ({"tp": "TP2"}, "tp: is no whole number"),
    ({"tp": "16", "dp": "", "n_gpus": "16"}, "tp: tp 16 does not divide num_heads 8"),
    ({"pp": "8", "dp": "1"}, "pp: 8 pipeline stages for 1 layers"),
    ({"dp": "3"}, "dp 3 is not n_gpus / (tp pp cp)"),
    ({"mbs": "3"}, "gbs: 16 sequences do not divide by dp 8 * micro_batch_size 3"),
    ({"vpp": "2"}, "vpp 2 with pp 1"),
    ({"ep": "8"}, "ep of a dense model"),
    ({"heads": "7"}, "kv_heads: num_kv_heads 8 does not divide"),
    ({"layers": "1e9"}, "layers: is too large"),
    ({"vocab": "1e15"}, "vocab: is too large"),
    ({"precision": "FP8", "gpu": "A100-80GB"}, "precision: fp8-tensor, but a100 has no FP8 tensor core"),
    ({"precision": "MXFP8"}, "precision: mxfp8, but h100 has no tensor core"),
    ({"precision": "float"}, "precision: is no format ('float'); write BF16"),
    ({"precision": "FP4"}, "precision: is no format"),
    ({"precision": ""}, "no precision given"),
    ({"recompute": "some"}, "recompute: 'some'; allowed 'none', 'full', 'selective'"),
    ({"schedule": "zigzag", "pp": "2", "dp": "4"}, "schedule not known: 'zigzag'; allowed 1f1b"),
    ({"notes": "GA 3", "mbs": "1"}, "GA 3 x mbs 1 x dp 8 is not gbs 16"),
    ({"dense_or_moe": "moe", "experts": "8", "topk": "9", "moe_ffn": "512"}, "topk: is more than the 8 experts"),
    ({"experts": "8", "topk": "2", "moe_ffn": "512", "ep": "3"}, "ep 3 x etp 1 does not divide 8 ranks"),
    ({"set": "device.power_cap_w=900"}, "set: device.power_cap_w: 900 W is above the limit of h100, 700 W"),
    ({"set": "device.power_cap_w=-5"}, "set: device.power_cap_w: is too small"),
    ({"set": "kernels.attention=fa3", "gpu": "A100-80GB"}, "runs on hopper, a100 is ampere; leave it out, or use fa2"),
    ({"set": "nonsense"}, "set: is not key.path=value"),
    ({"set": "device.watts=5"}, "set: device.watts: unknown key"),
    ({"case_id": ""}, "case_id: is empty"),
    ({"case_id": "TWICE"}, "case_id is there twice: 'TWICE'; the first stands"),
)
"""Cells of a row, and what is said of it."""


def test_every_bad_row_is_named_and_the_others_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table with a byte order mark and the line ends of Windows, names of any letters, one command, exit code 0."""
    good = [SMALL | {"step_time_s": "1", "case_id": name} for name in ("TWICE", "größe-模型")]
    bad = [SMALL | {"step_time_s": "1", "case_id": f"B-{n}"} | cells for n, (cells, _) in enumerate(BAD_ROWS)]
    text = text_of([*good, *bad])
    assert "\r\n" in text
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert main(["validate", "--cases", str(tmp_path / "t.csv"), "--json"]) == 0
    out = capsys.readouterr()
    told = json.loads(out.out)["cases"]
    assert [case["predicted"] is not None for case in told] == [True, True] + [False] * len(BAD_ROWS)
    for case, (cells, words) in zip(told[2:], BAD_ROWS, strict=True):
        assert words in case["skipped_because"], cells
    named = out.err.splitlines()
    for line, (cells, _) in enumerate(BAD_ROWS, 4):
        if "given" not in told[line - 2]["skipped_because"].partition(":")[0] and "model" not in cells:
            assert any(each.startswith(f"t.csv:{line}: ") for each in named), cells


def test_keys_of_a_rows_own_are_its_scenario_and_no_assumption() -> None:
    found = state(Row(LLAMA | {"set": "device.power_cap_w=500; kernels.attention = fa2"}))
    assert found.scenario is not None
    assert (found.scenario.device.power_cap_w, found.scenario.kernels.attention) == (500.0, "fa2")
    assert "kernels.attention" in {each.key for each in state(Row(LLAMA)).assumed}
    assert "kernels.attention" not in {each.key for each in found.assumed}
