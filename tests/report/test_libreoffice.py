"""The spreadsheet in LibreOffice: recomputed there, it says what the result says, and what a new run says of other inputs."""

from __future__ import annotations

import shutil
import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from openpyxl import load_workbook

from simulator.results.run_result import RunResult
from tests.report.sheet_maths import Book
from tests.report.test_xlsx import (
    FORMULA_STARTS,
    MADE_UP,
    ends,
    phases,
    price_cell,
    ramped,
    row_of,
    texts_of,
    with_texts,
    without_price,
    xlsx,
)

pytestmark = pytest.mark.browser
TIMEOUT_S = 180


def recomputed(content: bytes, folder: Path, suffix: str = "xlsx") -> bytes:
    """The file as LibreOffice saves it once it has computed everything; skipped where there is none."""
    office = shutil.which("soffice") or shutil.which("libreoffice")
    if office is None:
        pytest.skip("no LibreOffice on this system: install the package libreoffice-calc-nogui to run these tests")
    source, out = folder / "report.xlsx", folder / "out"
    source.write_bytes(content)
    command = [office, f"-env:UserInstallation={(folder / 'profile').as_uri()}", "--headless", "--convert-to", suffix]
    subprocess.run([*command, "--outdir", str(out), str(source)], check=True, capture_output=True, timeout=TIMEOUT_S)
    return (out / f"report.{suffix.partition(':')[0]}").read_bytes()


def without_cached_values(book: Book) -> bytes:
    """The file as openpyxl saves it: formulas without the values that they had, so that these must be computed."""
    buffer = BytesIO()
    book.book.save(buffer)
    return buffer.getvalue()


def shown(content: bytes, words: str, columns: str = "CDE") -> list[Any]:
    """Figures of a row of Summary, as they are saved."""
    sheet = load_workbook(BytesIO(content), data_only=True)["Summary"]
    row = next(each[0].row for each in sheet.iter_rows(max_col=1) if each[0].value == words)
    return [sheet[f"{column}{row}"].value for column in columns]


def assert_totals(content: bytes, result: RunResult, relative: float) -> None:
    totals = result.totals
    assert totals.cost_usd is not None
    assert shown(content, "Cost") == pytest.approx(ends(totals.cost_usd), rel=relative)
    assert shown(content, "GPU-hours") == pytest.approx(ends(totals.gpu_hours), rel=relative)
    assert shown(content, "Wall clock") == pytest.approx([end / 86_400 for end in ends(totals.wall_s)], rel=relative)


def test_as_it_is_it_shows_the_totals_of_the_document(tmp_path: Path) -> None:
    result = ramped()
    assert_totals(recomputed(without_cached_values(Book(xlsx(result))), tmp_path), result, 1e-9)


def test_a_changed_price_and_token_count_give_what_a_new_run_gives(tmp_path: Path) -> None:
    book = Book(xlsx(ramped()))
    book.set("Summary", price_cell(book), 3.25)
    book.set("Phases", f"C{row_of(book, 'Phases', 'Tokens')}", 7e11)
    again = ramped(phases(7e11, 1e10), "prices.usd_per_gpu_hour=3.25")
    assert_totals(recomputed(without_cached_values(book), tmp_path), again, 1e-6)


def test_a_price_is_written_where_there_was_none(tmp_path: Path) -> None:
    book = Book(xlsx(without_price(MADE_UP)))
    book.set("Summary", price_cell(book), 2.0)
    assert_totals(recomputed(without_cached_values(book), tmp_path), MADE_UP, 1e-9)


def test_text_stays_text_and_nothing_is_an_error(tmp_path: Path) -> None:
    content = xlsx(with_texts(FORMULA_STARTS), with_texts(FORMULA_STARTS[5:] + FORMULA_STARTS[:5]))
    saved = recomputed(content, tmp_path)
    found = texts_of(saved)
    for text in FORMULA_STARTS:
        assert found.count(text.replace("\r", "\n")) >= 3, text
    assert len(Book(saved).formulas()) == len(Book(content).formulas())
    assert not any(str(text).startswith(("#", "Err:")) for text in found)


def test_its_pages_can_be_printed(tmp_path: Path) -> None:
    content = recomputed(xlsx(MADE_UP, ramped()), tmp_path, "pdf")
    assert content.startswith(b"%PDF")
    assert content.count(b"/Type/Page") > 5
