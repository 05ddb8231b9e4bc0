"""Tables of a validation inside a page: put between the marks, again and again, and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.validation.instrument.made_up import run
from validation.instrument.document import document
from validation.instrument.page import END, MECHANISMS, main, mark

ACCURACY = Path(__file__).parents[3] / "docs" / "accuracy.md"
MODES = (None, "gpu", "family")


@pytest.mark.parametrize("mode", MODES)
def test_tables_are_written_between_their_marks(mode: str | None, tmp_path: Path) -> None:
    result, page = tmp_path / "now.json", tmp_path / "page.md"
    told = document([run("a"), run("b", 5.0, 4.0, 6.0)], mode)
    result.write_text(json.dumps(told))
    around = [f"{mark(document([], other))}\n{END}\n" for other in MODES]
    page.write_text("# Page\n" + "\n".join(around) + "the end\n")
    assert main([str(result), str(page)]) == 0
    text = page.read_text()
    assert text.count("| all | 2 | 60.0 % |") == 1
    assert text.index(mark(told)) < text.index("| all | 2 |") < text.index(END, text.index(mark(told)))
    assert text.startswith("# Page\n")
    assert text.endswith("the end\n")
    assert main([str(result), str(page)]) == 0
    assert page.read_text() == text


def test_the_page_of_accuracy_has_a_place_for_every_table() -> None:
    text = ACCURACY.read_text(encoding="utf-8")
    for mode in MODES:
        assert text.count(mark(document([], mode))) == 1
    assert text.count(MECHANISMS) == 1
    assert text.count(END) == len(MODES) + 1


def test_what_is_no_document_or_page_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result, page = tmp_path / "now.json", tmp_path / "page.md"
    page.write_text("no marks\n")
    for text, said in (
        ("{", "cannot be read"),
        ("[]", "no document"),
        (json.dumps(document([run("a")])), "has no line"),
    ):
        result.write_text(text)
        assert main([str(result), str(page)]) == 2
        assert said in capsys.readouterr().err
    assert page.read_text() == "no marks\n"
