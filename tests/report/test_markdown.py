"""Markdown for a pull request: short, and no text of a scenario becomes anything but itself."""

from __future__ import annotations

import json
import re
from itertools import cycle

import pytest

from hwprofiles.stack_choice import STACK_KINDS
from simulator.report.formats import ReportItem
from simulator.report.markdown import MAX_LINES, document
from simulator.report.markdown_text import code, prose, table
from simulator.results.comparison import compare
from simulator.results.document import to_json
from simulator.results.run_result import RunResult, from_json
from tests.report.payloads import PAYLOADS, poisoned
from tests.report.test_console import RESULT, changed

MARKDOWN = (
    "[a](https://example.com)", "![a](https://example.com/a.png)", "https://example.com", "www.example.com", "a@example.com",
    "@somebody", "#1", "org/repository#1", "`code`", "``two``", "a | b", "*a* _b_ ~~c~~", "a\n\n# heading", "- item",
    "1. first", "> quote", ":smile:", "a\\|b", "$x$", "***", "===", "    indented",
)  # fmt: skip


def lines(*results: RunResult) -> list[str]:
    return document([ReportItem(result) for result in results]).splitlines()


def of_texts(*texts: str) -> RunResult:
    return from_json(json.dumps(poisoned(json.loads(to_json(RESULT)), cycle(texts))))


def crowded() -> RunResult:
    """A result with more of everything than anybody has."""
    many = tuple(f"warning {number}: " + "word " * 100 for number in range(50))
    assumptions = RESULT.assumptions * 30
    return changed(warnings=many, dropped=many, not_modelled=many, assumptions=assumptions)


@pytest.mark.parametrize("count", [1, 2, 4, 5, 20, 100])
def test_it_has_at_most_sixty_lines(count: int) -> None:
    assert len(lines(*[crowded()] * count)) <= MAX_LINES == 60
    assert document([ReportItem(RESULT)] * count).endswith("\n")


def test_it_begins_with_the_figures_and_their_ranges() -> None:
    text = "\n".join(lines(RESULT))
    assert text.startswith("### Training run: `made-up`\n")
    assert "| Cost | **5.49 M USD** | 5.11 to 6.09 M USD | at 2.00 USD per GPU-hour |" in text
    assert "| Wall clock | **55.8 d** | 51.9 to 62.0 d |  |" in text
    assert f"scenario `{RESULT.scenario_sha256[:12]}`" in text
    assert text.count("<details>") == text.count("</details>") >= 2


def test_several_scenarios_stand_side_by_side_and_many_below_each_other() -> None:
    other = changed(scenario=RESULT.scenario | {"name": "other"})
    two = lines(RESULT, other)
    assert "|  | `made-up` | `other` |" in two
    assert "| Cost | **5.49 M USD** (5.11 to 6.09 M USD) | **5.49 M USD** (5.11 to 6.09 M USD) |" in two
    five = lines(RESULT, *[other] * 4)
    assert sum(line.startswith("| `other") and "` | 5.49 M USD" in line for line in five) == 4


def test_what_changed_and_what_makes_runs_unlike_in_kind_are_told() -> None:
    unlike = next(kind for kind in STACK_KINDS if kind != RESULT.stack_kind)
    other = changed(stack="guessed", stack_kind=unlike, scenario=RESULT.scenario | {"name": "other", "seed": 7})
    warnings = compare(RESULT, [other]).others[0].warnings
    two = lines(RESULT, other)
    assert warnings and f"> {prose('; '.join(warnings))}" in two
    assert any(line.startswith("`other` against `made-up`: ") and "`seed` `not set` → `7`" in line for line in two)
    assert f"> {prose('; '.join(warnings))}" in lines(RESULT, *[other] * 4)
    assert "`made-up (2)` against `made-up`: nothing" in lines(RESULT, RESULT)


def test_scenarios_of_one_name_are_told_apart() -> None:
    assert "|  | `made-up` | `made-up (2)` |" in lines(RESULT, RESULT)
    more = changed(scenario=RESULT.scenario | {"seed": 7})
    assert lines(RESULT, more)[0] == "### Training run: `made-up`, `made-up: seed 7`"
    many = lines(RESULT, more, *[RESULT] * 4)
    assert [line.split("`")[1] for line in many if line.startswith("| `")] == [
        "made-up", "made-up: seed 7", *(f"made-up ({number})" for number in range(2, 6))
    ]  # fmt: skip


@pytest.mark.parametrize("texts", [PAYLOADS, MARKDOWN])
def test_a_text_is_no_tag_no_link_and_no_cell(texts: tuple[str, ...]) -> None:
    for turn in range(0, len(texts), 5):
        found = lines(of_texts(*texts[turn:], *texts[:turn]))
        clean = lines(of_texts("word"))
        assert len(found) == len(clean)
        for line, plain in zip(found, clean, strict=True):
            bare = outside_code(line)
            assert tags(bare) == tags(plain), line
            assert unescaped_pipes(line) == unescaped_pipes(plain), line
            assert not re.search(r"(?<!\\)\[|https?://|www\.|@\w|#\d", bare), line


def outside_code(line: str) -> str:
    return re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", line)


def tags(line: str) -> list[str]:
    return re.findall(r"(?<!\\)</?[a-zA-Z!][^>]*>?", outside_code(line))


def unescaped_pipes(line: str) -> int:
    return len(re.findall(r"(?<!\\)\|", line))


@pytest.mark.parametrize("text", [*PAYLOADS, *MARKDOWN])
def test_a_name_is_a_span_of_code_that_it_cannot_leave(text: str) -> None:
    shown = code(text)
    fence = re.match(r"`+", shown)
    assert fence is not None
    inner = shown[len(fence[0]) : -len(fence[0])]
    assert fence[0] not in re.findall(r"`+", inner)
    assert "\n" not in shown
    assert unescaped_pipes(shown) == 0


def test_a_sentence_keeps_its_words() -> None:
    assert prose("a plain sentence: 1.5 GB (2 %), really.") == "a plain sentence: 1.5 GB (2 %), really."
    assert prose("1. first") == r"1\. first"
    assert prose("<b>|`x`") == r"\<b\>\|\`x\`"
    assert table(["a", "b"], [["x", "y"]]) == ["| a | b |", "| :-- | --: |", "| x | y |"]
