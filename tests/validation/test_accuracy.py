"""The accuracy file: published rows as they were run, what is written anew and what stays, and that it can be made again."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulator.cli.app import main
from simulator.cli.validate import ACCURACY
from simulator.report.accuracy import read_accuracy
from tests.validation.test_statable import LLAMA, MIXTRAL, PUBLISHED
from validation import accuracy
from validation.accuracy import cells_of, merged, read_table, rows_of, table_text
from validation.case import Group
from validation.compare import Row
from validation.published.prediction import predicted
from validation.published.row import Row as PublishedRow
from validation.published.row import read_rows

GROUP = Group(model="m", gpu="g", framework="f", release="r", precision="p", num_gpus=8)


def made_up(case: str, kind: str = "case", predicted_s: float = 2.0) -> Row:
    return Row(case, "s", GROUP, "step.step_s", "edge", predicted_s, 1.0, 3.0, 2.5, "x", "", kind)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cells", "quantity", "measured"),
    [
        ({"tokens_per_s_per_gpu": "9000", "step_time_s": "2.0", "mfu": "0.4"}, "step.tokens_per_s_per_gpu", 9000.0),
        ({"step_time_s": "2.0", "tflops_per_gpu": "400"}, "step.step_s", 2.0),
        ({"tflops_per_gpu": "400", "mfu": "0.4"}, "step.tflops.noncausal", 400.0),
        ({"mfu": "0.4"}, "step.mfu.bf16_dense_noncausal", 0.4),
    ],
)
def test_a_row_is_read_as_its_most_direct_speed(cells: dict[str, str], quantity: str, measured: float) -> None:
    found = predicted(PublishedRow(LLAMA | cells | {"source_url": "there", "source_detail": "Table 1"}))
    assert found is not None
    assert (found.quantity, found.measured, found.kind, found.source) == (
        quantity,
        measured,
        "published",
        "there, Table 1",
    )
    assert found.low < found.predicted < found.high
    assert (found.group.gpu, found.stack) == ("h100", "h100-transfer")


def test_the_note_says_what_was_run_and_what_was_assumed() -> None:
    found = predicted(PublishedRow(MIXTRAL | {"tokens_per_s_per_gpu": "9000", "mbs": ""}))
    assert found is not None
    assert found.note.startswith("8 GPUs, ep8, BF16, Megatron-LM; not stated and assumed: ")
    assert "training.micro_batch_size=1" in found.note


def test_rows_without_a_speed_or_a_statement_are_left_out() -> None:
    assert predicted(PublishedRow(LLAMA)) is None
    assert predicted(PublishedRow(LLAMA | {"step_time_s": "2.0", "layers": ""})) is None


def test_what_was_not_predicted_anew_stays() -> None:
    old = [cells_of(made_up(name)) for name in ("deepseek-v3", "llama-3.1-405b", "gone")]
    old += [cells_of(made_up("P-1", "published"))]
    cases = merged(old, [made_up("llama-3.1-405b", predicted_s=4.0)])
    assert [(cells["case"], cells["predicted"]) for cells in cases] == [
        ("deepseek-v3", "2"), ("llama-3.1-405b", "4"), ("P-1", "2"),
    ]  # fmt: skip
    runs = merged(old, [made_up("P-2", "published")])
    assert [cells["case"] for cells in runs] == ["deepseek-v3", "llama-3.1-405b", "P-2"]


def test_the_file_written_again_is_the_same_bytes() -> None:
    text = ACCURACY.read_text(encoding="utf-8")
    assert table_text(merged(read_table(ACCURACY), [])) == text
    assert text.isascii()


def test_a_table_of_published_runs_is_compared_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`moesim validate --write --published`: a line a run and their summary, cases of the file untouched."""
    row = made_up("P-1", "published", predicted_s=2.0)
    target = tmp_path / "accuracy.csv"
    target.write_text(table_text([cells_of(made_up("deepseek-v3"))]))
    table = tmp_path / "runs.csv"
    table.write_text("case_id\n")
    monkeypatch.setattr(accuracy, "published_rows", lambda path: [row])
    monkeypatch.setattr("simulator.cli.validate.ACCURACY", target)
    assert main(["validate", "--write", "--published", str(table)]) == 0
    assert [cells["case"] for cells in read_table(target)] == ["deepseek-v3", "P-1"]
    out = " ".join(capsys.readouterr().out.split())
    assert "P-1 g step_s 2.500 s 2.000 s -20.0 %" in out
    assert "1 runs; error of the speed: mean 25.0 %, median 25.0 %, bias +25.0 %; 100.0 % measured inside" in out


def test_a_table_that_is_not_there_or_holds_nothing_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", "--published", str(tmp_path / "none.csv")]) == 2
    assert "--published" in capsys.readouterr().err
    empty = tmp_path / "empty.csv"
    empty.write_text("case_id,model,gpu,n_gpus,precision\nx,m,g,8,BF16\n")
    assert main(["validate", "--published", str(empty)]) == 2
    assert "validation.statable" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not PUBLISHED.is_file(), reason="the published rows are not beside the checkout")
def test_the_committed_rows_can_be_made_again() -> None:
    """A dozen of them, spread over the file: the same text, and no row that can be stated is left out."""
    committed = [cells for cells in read_table(ACCURACY) if cells["group"] == "published"]
    given = {row.text("case_id"): row for row in read_rows(PUBLISHED)}
    sample = committed[:: len(committed) // 12][:12]
    assert len(sample) == 12
    found = rows_of([given[cells["case"]] for cells in sample], "published")
    assert [cells_of(row) for row in found] == sample
    assert len({row.case for row in read_accuracy() if row.group == "published"}) == len(committed) == 228
