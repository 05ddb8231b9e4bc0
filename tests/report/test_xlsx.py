"""The spreadsheet: its totals are the result's, follow when an input is changed as a new run would, and hold text as text."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from functools import cache
from io import BytesIO
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from openpyxl import load_workbook

from simulator import load_scenario, simulate_run
from simulator.report.facts import CATEGORY_LEGENDS
from simulator.report.formats import FORMATS, ReportItem
from simulator.report.sheets.sheet import LINE_POINTS
from simulator.report.sheets.styles import INPUT_FILL
from simulator.report.timeline_words import category_words
from simulator.results.document import to_document
from simulator.results.run_result import RunResult, from_json
from simulator.run.kept_steps import KeptSteps, keep_steps
from simulator.step.batches import StepSimulator
from tests.report.made import small_item
from tests.report.payloads import poisoned
from tests.report.sheet_maths import Book, NotAvailable

ROOT = Path(__file__).parents[2]
MADE_UP = from_json((ROOT / "tests" / "results" / "data" / "made_up_run.json").read_text())
SHEETS = ["Summary", "Phases", "Breakdown", "Assumptions", "Sources"]
ENDS = ("value", "low", "high")
FORMULA_STARTS = (
    "=1+1", "+1+1", "-1+1", "@SUM(1)", "\t=1+1", "\n=1+1", "\r=1+1", "＝1+1", "＋1", "－1", "＠SUM(1)", "  =1+1",
    '=HYPERLINK("https://example.com","x")', "=cmd|' /C calc'!A0", "https://example.com/x", "{=1+1}", "12", "1e5",
)  # fmt: skip
"""Texts that a spreadsheet may take for something else."""


def xlsx(*results: RunResult) -> bytes:
    return FORMATS["xlsx"].render([ReportItem(result) for result in results])


def phases(tokens_a: float, tokens_b: float) -> str:
    """Two phases, the first with a ramp."""
    ramp = "{from: 128, over_tokens: 2e10}"
    return f"phases=[{{name: a, tokens: {tokens_a!r}, batch_ramp: {ramp}}}, {{name: b, tokens: {tokens_b!r}}}]"


RAMPED = phases(2e11, 1e10)


@cache
def steps() -> KeptSteps:
    return keep_steps(load_scenario("mixtral-8x22b", ["draws=1", RAMPED]), StepSimulator())


@cache
def ramped(*overrides: str) -> RunResult:
    """A run with a batch ramp and a second phase, its steps simulated once; overrides: of prices and phases."""
    return simulate_run(load_scenario("mixtral-8x22b", ["draws=1", RAMPED, *overrides]), simulate=steps())


def without_price(result: RunResult) -> RunResult:
    phases = tuple(phase.model_copy(update={"cost_usd": None}) for phase in result.phases)
    totals = result.totals.model_copy(update={"cost_usd": None})
    return result.model_copy(update={"price": None, "totals": totals, "phases": phases})


def row_of(book: Book, sheet: str, words: str) -> int:
    """The first row (from 1) whose first cell is `words`."""
    return next(row[0].row for row in book.book[sheet].iter_rows(max_col=1) if row[0].value == words)


def figures(book: Book, words: str, columns: str = "CDE") -> list[Any]:
    """Value, low and high of a row of Summary."""
    row = row_of(book, "Summary", words)
    return [book.value("Summary", f"{column}{row}") for column in columns]


def ends(estimate: Any) -> list[float]:
    return [getattr(estimate, end) for end in ENDS]


def test_five_sheets_in_order() -> None:
    assert load_workbook(BytesIO(xlsx(MADE_UP))).sheetnames == SHEETS


CASES: dict[str, Callable[[], list[RunResult]]] = {
    "made up": lambda: [MADE_UP],
    "simulated": lambda: [small_item().result],
    "ramped": lambda: [ramped()],
    "one step": lambda: [ramped("phases=[{name: a, steps: 1}]")],
    "a price with a range": lambda: [ramped("prices.sheet=market-2026-05")],
    "without a price": lambda: [without_price(MADE_UP)],
    "three": lambda: [ramped(), without_price(MADE_UP), small_item().result],
}


@pytest.mark.parametrize("case", CASES)
def test_every_formula_carries_the_value_that_it_has(case: str) -> None:
    content = xlsx(*CASES[case]())
    book, shown = Book(content), load_workbook(BytesIO(content), data_only=True)
    assert len(book.formulas()) > 40
    for sheet, cell in book.formulas():
        cached, computed = shown[sheet][cell].value, book.value(sheet, cell)
        if isinstance(computed, str):
            assert (cached or "") == computed, f"{sheet}!{cell}"
        else:
            assert cached == pytest.approx(computed, rel=1e-12, abs=1e-9), f"{sheet}!{cell}"


@pytest.mark.parametrize("case", ["made up", "simulated", "ramped", "one step", "a price with a range"])
def test_totals_recomputed_are_those_of_the_document(case: str) -> None:
    """The made-up one is of a version without intervals of phases."""
    (result,) = CASES[case]()
    book, totals = Book(xlsx(result)), result.totals
    assert totals.cost_usd is not None
    assert figures(book, "Cost") == pytest.approx(ends(totals.cost_usd), rel=1e-9)
    assert figures(book, "GPU-hours") == pytest.approx(ends(totals.gpu_hours), rel=1e-9)
    assert figures(book, "Wall clock") == pytest.approx([end / 86_400 for end in ends(totals.wall_s)], rel=1e-9)


def test_phases_recomputed_are_those_of_the_document() -> None:
    result = ramped()
    book = Book(xlsx(result))
    for phase, column in zip(result.phases, "CF", strict=True):
        for words, expected in (
            ("Tokens", phase.tokens),
            ("Steps", phase.steps),
            ("Wall clock", phase.wall_s / 3600),
            ("GPU-hours", phase.gpu_hours),
            ("Cost", phase.cost_usd),
        ):
            cell = f"{column}{row_of(book, 'Phases', words)}"
            assert book.value("Phases", cell) == pytest.approx(expected, rel=1e-9), words


def price_cell(book: Book, column: str = "C") -> str:
    return f"{column}{row_of(book, 'Summary', 'Price')}"


@pytest.mark.parametrize(
    ("tokens_a", "tokens_b", "price"), [(2e11, 1e10, 3.5), (3e11, 1e10, 2.0), (2.5e10, 7e9, 0.37), (1e13, 5e12, 11.0)]
)
def test_changed_cells_give_what_a_new_run_gives(tokens_a: float, tokens_b: float, price: float) -> None:
    book = Book(xlsx(ramped()))
    tokens = row_of(book, "Phases", "Tokens")
    book.set("Phases", f"C{tokens}", tokens_a)
    book.set("Phases", f"F{tokens}", tokens_b)
    book.set("Summary", price_cell(book), price)
    again = ramped(phases(tokens_a, tokens_b), f"prices.usd_per_gpu_hour={price!r}").totals
    assert again.cost_usd is not None
    assert figures(book, "Cost") == pytest.approx(ends(again.cost_usd), rel=1e-9)
    assert figures(book, "GPU-hours") == pytest.approx(ends(again.gpu_hours), rel=1e-9)
    assert figures(book, "Wall clock") == pytest.approx([end / 86_400 for end in ends(again.wall_s)], rel=1e-9)
    assert figures(book, "Tokens")[0] == pytest.approx(tokens_a + tokens_b)


def test_everything_below_follows_the_price() -> None:
    book = Book(xlsx(MADE_UP))
    before = {place: book.value(*place) for place in book.formulas()}
    book.set("Summary", price_cell(book), 2 * before[("Summary", f"D{row_of(book, 'Summary', 'Price')}")])
    for sheet, words, column in (("Summary", "Cost of a trillion tokens", "E"), ("Phases", "Cost", "C")):
        cell = f"{column}{row_of(book, sheet, words)}"
        assert book.value(sheet, cell) == pytest.approx(2 * before[(sheet, cell)], rel=1e-9)
    for sheet, column in (("Breakdown", "F"), ("Assumptions", "K")):
        cell = f"{column}{6 if sheet == 'Breakdown' else 5}"
        assert book.value(sheet, cell) == pytest.approx(2 * before[(sheet, cell)], rel=1e-9)
        assert book.value(sheet, cell) != 0


def test_money_of_the_categories_sums_to_the_total() -> None:
    result = small_item().result
    book = Book(xlsx(result))
    count = len(result.step.by_category)
    assert result.totals.cost_usd is not None
    for column, total in (("E", result.totals.gpu_hours.value), ("F", result.totals.cost_usd.value)):
        found = [book.value("Breakdown", f"{column}{6 + place}") for place in range(count)]
        assert sum(found) == pytest.approx(total, rel=1e-6)


def test_fewer_tokens_than_the_ramp_has_are_not_available_and_say_why() -> None:
    book = Book(xlsx(ramped()))
    tokens = row_of(book, "Phases", "Tokens")
    book.set("Phases", f"C{tokens}", 1e10)
    with pytest.raises(NotAvailable):
        figures(book, "Cost")
    check = f"C{row_of(book, 'Phases', 'Cost') + 1}"
    assert "fewer tokens than the batch ramp: run moesim" in book.value("Phases", check)


def test_a_phase_that_ends_inside_its_ramp_has_no_tokens_to_change() -> None:
    result = ramped(phases(1e10, 1e10))
    content = xlsx(result)
    book = Book(content)
    tokens = f"C{row_of(book, 'Phases', 'Tokens')}"
    assert tokens not in inputs_of(content)["Phases"]
    words = " ".join(str(row[0].value) for row in book.book["Phases"].iter_rows(max_col=1))
    assert "a ends inside its batch ramp: its tokens cannot be changed here" in words
    assert figures(book, "GPU-hours") == pytest.approx(ends(result.totals.gpu_hours), rel=1e-9)


def test_a_price_outside_its_range_and_a_step_outside_its_interval_are_said() -> None:
    result = ramped("prices.sheet=market-2026-05")
    book = Book(xlsx(result))
    row = row_of(book, "Summary", "Cost of a trillion tokens") + 1
    assert book.value("Summary", f"C{row}") == ""
    book.set("Summary", price_cell(book), 99.0)
    assert "the price is outside its range" in book.value("Summary", f"C{row}")
    book = Book(xlsx(result))
    book.set("Phases", f"C{row_of(book, 'Phases', 'Time of a step at full batch')}", 99.0)
    assert "a step time is outside its interval" in book.value("Summary", f"C{row}")


def test_a_price_with_a_range_has_three_inputs_and_an_exact_one_a_single_one() -> None:
    ranged, exact = xlsx(ramped("prices.sheet=market-2026-05")), xlsx(ramped())
    row = row_of(Book(exact), "Summary", "Price")
    assert {f"{column}{row}" for column in "CDE"} <= inputs_of(ranged)["Summary"]
    assert {f"{column}{row}" for column in "CDE"} & inputs_of(exact)["Summary"] == {f"C{row}"}
    words = " ".join(str(row[0].value) for row in Book(exact).book["Summary"].iter_rows(max_col=1))
    assert "the price is taken as exact, no range of it is known" in words


def test_without_a_price_the_cost_is_words_until_one_is_written() -> None:
    book = Book(xlsx(without_price(MADE_UP)))
    assert figures(book, "Cost") == ["no price"] * 3
    book.set("Summary", price_cell(book), 2.0)
    assert MADE_UP.totals.cost_usd is not None
    assert figures(book, "Cost")[0] == pytest.approx(MADE_UP.totals.cost_usd.value, rel=1e-9)
    assert figures(book, "Cost of a trillion tokens")[0] == pytest.approx(
        MADE_UP.totals.cost_usd.value / MADE_UP.phases[0].tokens * 1e12, rel=1e-9
    )


def test_idle_gpus_that_are_paid_have_rows_of_their_own() -> None:
    rack = (
        "cluster.node=gb200-nvl72",
        "prices.sheet=market-2026-05",
        "cluster.num_gpus=112",
        "cluster.gpus_per_domain=56",
    )
    result = simulate_run(load_scenario("mixtral-8x22b", ["draws=1", *rack]))
    assert result.totals.gpu_hours_paid is not None
    book = Book(xlsx(result))
    paid = figures(book, "GPU-hours, with idle GPUs that are paid")
    assert paid == pytest.approx(ends(result.totals.gpu_hours_paid), rel=1e-9)
    share = result.totals.gpu_hours_paid.value / result.totals.gpu_hours.value
    assert figures(book, "Cost, with idle GPUs that are paid")[0] == pytest.approx(figures(book, "Cost")[0] * share)


def test_scenarios_stand_side_by_side_with_differences_to_the_first() -> None:
    book = Book(xlsx(MADE_UP, ramped()))
    first, second = figures(book, "Cost"), figures(book, "Cost", "FGH")
    assert figures(book, "Cost", "IJ") == pytest.approx([second[0] - first[0], second[0] / first[0] - 1])
    book.set("Summary", price_cell(book, "F"), 7.0)
    changed = figures(book, "Cost", "FGH")
    assert changed[0] == pytest.approx(second[0] * 3.5, rel=1e-9)
    assert figures(book, "Cost", "I")[0] == pytest.approx(changed[0] - first[0])
    assert figures(book, "Cost") == first


def test_equal_names_are_told_apart() -> None:
    book = Book(xlsx(MADE_UP, MADE_UP, MADE_UP))
    heads = [cell.value for cell in book.book["Summary"][4] if cell.value]
    assert [head.split("\n")[0] for head in heads] == ["scenario", "made-up", "made-up (2)", "made-up (3)"]


def inputs_of(content: bytes) -> dict[str, set[str]]:
    """Cells in the look of an input, by sheet."""
    book = load_workbook(BytesIO(content))
    return {
        sheet.title: {
            cell.coordinate
            for row in sheet.iter_rows()
            for cell in row
            if cell.fill.fgColor.rgb == f"FF{INPUT_FILL[1:]}"
        }
        for sheet in book.worksheets
    }


@pytest.mark.parametrize("case", ["ramped", "without a price"])
def test_every_input_is_marked_and_takes_no_negative_number(case: str) -> None:
    content = xlsx(*CASES[case]())
    book = load_workbook(BytesIO(content))
    for sheet in book.worksheets:
        rules = {str(rule.sqref): rule for rule in sheet.data_validations.dataValidation}
        assert set(rules) == inputs_of(content)[sheet.title]
        assert all(rule.type == "decimal" and rule.operator == "greaterThanOrEqual" for rule in rules.values())
        assert all(float(rule.formula1) >= 0 for rule in rules.values())
    assert {"Summary", "Phases"} == {name for name, cells in inputs_of(content).items() if cells}


def test_tokens_of_a_ramp_cannot_be_typed_lower() -> None:
    content = xlsx(ramped())
    tokens = f"C{row_of(Book(content), 'Phases', 'Tokens')}"
    (rule,) = (
        rule
        for rule in load_workbook(BytesIO(content))["Phases"].data_validations.dataValidation
        if str(rule.sqref) == tokens
    )
    assert float(rule.formula1) == pytest.approx(2e10)


def test_pages_are_set_up_for_print_and_heads_stay_in_sight() -> None:
    for sheet in load_workbook(BytesIO(xlsx(MADE_UP, ramped()))).worksheets:
        assert sheet.freeze_panes is not None
        assert sheet.page_setup.orientation == "landscape"
        assert sheet.sheet_properties.pageSetUpPr.fitToPage
        assert sheet.page_setup.fitToWidth in (None, 1)
        assert sheet.oddHeader.left.text
        assert "&P" in sheet.oddFooter.right.text or "Page" in sheet.oddFooter.right.text or sheet.oddFooter.right.text


def test_charts_are_native_and_have_words() -> None:
    with zipfile.ZipFile(BytesIO(xlsx(MADE_UP, ramped()))) as file:
        names = file.namelist()
        drawings = [file.read(name).decode() for name in names if name.startswith("xl/drawings/drawing")]
    assert sum(name.startswith("xl/charts/chart") for name in names) == 2
    assert all('descr="' in drawing for drawing in drawings)


def texts_of(content: bytes) -> list[str]:
    book = load_workbook(BytesIO(content))
    return [
        cell.value
        for sheet in book.worksheets
        for row in sheet.iter_rows()
        for cell in row
        if isinstance(cell.value, str) and cell.data_type != "f"
    ]


def with_texts(texts: Sequence[str]) -> RunResult:
    """A result with these in place of its free texts, in turn."""
    return from_json(json.dumps(poisoned(to_document(ramped()), cycle(texts))))


@pytest.mark.parametrize("turn", range(2))
def test_no_text_becomes_a_formula_a_link_or_a_number(turn: int) -> None:
    texts = FORMULA_STARTS[turn * 7 :] + FORMULA_STARTS[: turn * 7]
    words = [f"word {place}" for place in range(len(texts))]
    content, plain = (xlsx(*[with_texts(each)] * 2) for each in (texts, words))
    assert len(Book(content).formulas()) == len(Book(plain).formulas())
    found = texts_of(content)
    for text in FORMULA_STARTS:
        assert found.count(text.replace("\r", "\n")) >= 3, text
    with zipfile.ZipFile(BytesIO(content)) as file:
        parts = {name: file.read(name).decode() for name in file.namelist()}
    assert not any("<hyperlink" in part for part in parts.values())
    assert not any("hyperlink" in part for name, part in parts.items() if name.endswith(".rels"))


def test_text_stays_text_when_its_cell_is_edited() -> None:
    """A quote prefix: without it a program makes a formula of "=1+1" as soon as somebody enters the cell."""
    book = load_workbook(BytesIO(xlsx(with_texts(["=1+1"]))))
    found = [
        cell.quotePrefix
        for sheet in book.worksheets
        for row in sheet.iter_rows()
        for cell in row
        if cell.value == "=1+1"
    ]
    assert len(found) >= 10
    assert all(found)


def test_controls_are_shown_as_a_sign_and_long_texts_are_cut() -> None:
    result = MADE_UP.model_copy(update={"warnings": ("a\x00b\x1bc\ud800d", "x" * 40_000)})
    texts = texts_of(xlsx(result))
    assert "a\ufffdb\ufffdc\ufffdd" in texts
    assert max(map(len, texts)) <= 32_000


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_none_is_refused(value: float) -> None:
    phase = MADE_UP.phases[0].model_copy(update={"tokens": value})
    with pytest.raises(ValueError, match="is no JSON number"):
        xlsx(MADE_UP.model_copy(update={"phases": (phase,)}))


def test_the_bytes_depend_on_the_results_alone(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from simulator.results.run_result import from_json\n"
        "from simulator.report.formats import FORMATS, ReportItem\n"
        "items = [ReportItem(from_json(Path(sys.argv[1]).read_text()))] * 2\n"
        "sys.stdout.buffer.write(FORMATS['xlsx'].render(items))"
    )
    data = str(ROOT / "tests" / "results" / "data" / "made_up_run.json")
    command = [sys.executable, "-c", code, data]
    surroundings = {"PYTHONHASHSEED": "4242", "TZ": "Asia/Kathmandu", "LC_ALL": "C", "PYTHONPATH": str(ROOT)}
    other = subprocess.run(command, cwd=tmp_path, env=os.environ | surroundings, capture_output=True, check=True).stdout
    assert hashlib.sha256(xlsx(MADE_UP, MADE_UP)).digest() == hashlib.sha256(other).digest()


def test_no_person_and_no_clock_in_the_file() -> None:
    with zipfile.ZipFile(BytesIO(xlsx(MADE_UP))) as file:
        assert {info.date_time[0] for info in file.infolist()} == {1980}
        core = file.read("docProps/core.xml").decode()
    assert core.count("2000-01-01T00:00:00Z") == 2
    assert "<dc:creator>moesim</dc:creator>" in core


def test_sources_say_version_hashes_price_stack_and_what_is_left_out() -> None:
    result = ramped("prices={sheet: market-2025-03, commitment: on-demand}")
    rows = [
        tuple(str(cell.value) for cell in row)
        for row in load_workbook(BytesIO(xlsx(result)))["Sources"].iter_rows(min_row=5)
    ]
    about = {row[1] for row in rows}
    assert {"provenance", "price", "price offer", "total", "not modelled", "warning", "stack"} <= about
    values = json.dumps(rows)
    for words in (result.version, result.scenario_sha256, result.stack_sha256, *result.not_modelled):
        assert words in values
    assert sum(row[1] == "price offer" for row in rows) == 8
    assert "market-2025-03 is of 2025-03, 20 months old" in values


def test_categories_are_called_as_in_every_other_report() -> None:
    result = small_item().result
    book = Book(xlsx(result))
    words = {category_words(each.category) for each in result.step.by_category}
    found = {book.book["Breakdown"][f"A{6 + place}"].value for place in range(len(words))}
    assert found == words and "exposed comm., waits" in found


def test_a_long_legend_of_a_category_has_a_line_more() -> None:
    result = small_item().result
    page = Book(xlsx(result)).book["Breakdown"]
    heights = {
        CATEGORY_LEGENDS.get(each.category, ""): page.row_dimensions[6 + place].height or 0.0
        for place, each in enumerate(sorted(result.step.by_category, key=lambda each: -each.seconds))
    }
    longest = max(heights, key=len)
    assert len(longest) > (page.column_dimensions["B"].width or 0)
    assert heights[longest] >= 2 * LINE_POINTS
    assert heights[min(heights, key=len)] <= LINE_POINTS
