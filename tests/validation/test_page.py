"""The page of accuracy: written from people's text and documents, again and again, by one command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from simulator.errors import InputError
from tests.validation.instrument.made_up import run
from validation.instrument.document import document
from validation.page.__main__ import PAGE, PICTURE, main
from validation.page.blocks import BY_PART
from validation.page.compose import TEXT, blocks_of, by_hand, check, composed, marks
from validation.page.explained import UNKNOWN, explanations, why
from validation.page.peers import peers
from validation.page.runs import PARTS
from validation.page.scatter import Axis, scatter
from validation.published.eligible import eligible

ROWS = [
    run("A-1"), run("B-1", 5.0, 4.0, 6.0, kind="dense"),
    run("C-1", 50.0, 40.0, 100.0, quantity="tokens_per_s_per_gpu", measured=100.0),
]  # fmt: skip


def mechanism(name: str) -> dict[str, Any]:
    return {"name": name, "moved": 1, "mape": 0.1, "bias": -0.1, "deepseek_v3_step_s": 18.0}


def save(folder: Path) -> dict[str, dict[str, Any]]:
    """A document of every part, as the command saves them."""
    told: dict[str, dict[str, Any]] = {}
    for name, part in PARTS.items():
        told[name] = document(ROWS, part.leave_out)
        if part.names:
            told[name] |= {"deepseek_v3_step_s": 20.0, "mechanisms": [mechanism("power")]}
        (folder / f"{name}.json").write_text(json.dumps(told[name]))
    return told


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "saved"
    folder.mkdir()
    save(folder)
    return folder


def test_one_command_writes_the_page_and_its_picture_and_the_same_bytes_again(saved: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    assert main(["--saved", str(saved), "--page", str(page)]) == 0
    first, picture = page.read_text(), (tmp_path / PICTURE).read_bytes()
    assert by_hand(first) == TEXT.read_text(encoding="utf-8")
    found = blocks_of(first)
    assert list(found) == marks(first)
    assert "| all | 3 | 73.3 % |" in found["tables"]
    assert "Half as fast is as wrong" in found["furthest"]
    assert f"]({PICTURE})" in found["scatter"]
    assert "| power | 1 |" in found["mechanisms"]
    assert "without anything that was measured on the row's GPU" in found["tables without gpu"]
    assert main(["--saved", str(saved), "--page", str(page)]) == 0
    assert (page.read_text(), (tmp_path / PICTURE).read_bytes()) == (first, picture)


def test_parts_that_are_not_asked_for_stay_as_they_are(saved: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    assert main(["--saved", str(saved), "--page", str(page)]) == 0
    before = blocks_of(page.read_text())
    (saved / "all.json").write_text(json.dumps(document(ROWS[:1])))
    (saved / "gpu.json").write_text(json.dumps(document(ROWS[:1], "gpu")))
    assert main(["all", "--saved", str(saved), "--page", str(page)]) == 0
    now = blocks_of(page.read_text())
    assert {name for name in now if now[name] != before[name]} == set(BY_PART["all"])


def test_bad_parts_documents_and_pages_are_refused_before_anything_is_predicted(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("validation.page.runs.run_table", lambda *_: pytest.fail("predicted"))
    page = tmp_path / "page.md"
    assert main(["chips", "--page", str(page)]) == 2
    assert "no part is called chips; allowed all, gpu" in capsys.readouterr().err
    assert main(["all", "--page", str(page)]) == 2
    assert "nothing is predicted for the block" in capsys.readouterr().err
    for text, said in (
        ("{", "cannot be read"),
        ("[]", "is no document"),
        (json.dumps(document(ROWS, "family")), "is of another run than gpu"),
    ):
        (saved / "gpu.json").write_text(text)
        assert main(["--saved", str(saved), "--page", str(page)]) == 2
        assert said in capsys.readouterr().err
    assert not page.exists()


def test_marks_and_blocks_have_to_be_the_same() -> None:
    text = "a\n\n<!-- block: one -->\n\n<!-- block: two -->\n"
    check(text, ["one", "two"])
    page = composed(text, {"one": "1 <!-- x -->", "two": "| 2 |"})
    assert by_hand(page) == text
    assert blocks_of(page) == {"one": "1 <!-- x -->", "two": "| 2 |"}
    for broken, names in ((text, ["one"]), (text, ["one", "two", "three"]), (text + text, ["one", "two"])):
        with pytest.raises(InputError, match=r"text\.md"):
            check(broken, names)


def test_the_committed_page_is_what_people_wrote_with_every_block() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert by_hand(page) == TEXT.read_text(encoding="utf-8")
    assert set(blocks_of(page)) == {block for names in BY_PART.values() for block in names}
    assert blocks_of(page)["peers"].count("\n") == len(peers()) + 1
    assert (PAGE.parent / PICTURE).is_file()


def test_explanations_are_of_rows_that_are_there() -> None:
    assert why("GB200-3P-007") != UNKNOWN
    assert why("X-1") == UNKNOWN
    named = {case for each in explanations() for case in each.cases if "*" not in case}
    assert named <= eligible()


def test_the_picture_has_every_row_where_it_belongs() -> None:
    """Two circles and two bars a row; hollow where the measurement is outside; no place beyond the frame."""
    cases = document(ROWS)["cases"]
    root = ElementTree.fromstring(scatter(cases))
    name = "{http://www.w3.org/2000/svg}"
    groups = root.findall(f"{name}g")
    assert [group[0].text.split(":")[0] for group in groups if group[0].text] == ["A-1", "B-1", "C-1"]
    fills = [[circle.get("fill") for circle in group.findall(f"{name}circle")] for group in groups]
    assert [set(each) == {"#fff"} for each in fills] == [False, True, False]
    assert len({group.get("stroke") for group in groups}) == 2
    tops = [float(group.findall(f"{name}circle")[0].get("cy", "")) for group in groups]
    assert tops[1] < tops[0], "5 s predicted is above 2 s"
    assert tops[2] < tops[1], "a speed's step is placed by its seconds, 50 of the row that is made up"
    assert scatter(cases) == scatter(list(reversed(cases)))
    assert scatter([]).startswith("<svg")


def test_an_axis_is_logarithmic_and_ends_where_it_ends() -> None:
    axis = Axis(0.1, 1000.0, 0.0, 400.0)
    assert [axis.at(value) for value in (0.1, 1.0, 10.0, 1000.0)] == pytest.approx([0.0, 100.0, 200.0, 400.0])
    assert (axis.at(1e-9), axis.at(1e9)) == (0.0, 400.0)
    assert axis.seconds()[:4] == pytest.approx([0.1, 0.2, 0.5, 1.0])
