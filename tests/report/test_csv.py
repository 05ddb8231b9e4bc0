"""The CSV: every figure of the document once, in a fixed order, in SI, and no cell that a spreadsheet runs."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.report.csv_text import guarded
from simulator.report.formats import FORMATS, ReportItem
from simulator.report.key_units import unit_of
from simulator.results.document import to_document
from simulator.results.run_result import RunResult, from_json
from tests.report.made import small_item
from tests.report.payloads import PAYLOADS, poisoned

TEXT = (Path(__file__).parents[1] / "results" / "data" / "made_up_run.json").read_text()
MADE_UP = from_json(TEXT)
HEADER = ["scenario", "section", "key", "value", "unit", "low", "high", "source"]
STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def table(*results: RunResult) -> str:
    return FORMATS["csv"].render([ReportItem(result) for result in results]).decode()


def rows(*results: RunResult) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table(*results), newline="")))


def by_key(*results: RunResult) -> dict[tuple[str, str], dict[str, str]]:
    return {(row["scenario"], row["key"]): row for row in rows(*results)}


def test_it_begins_with_its_header_and_the_totals() -> None:
    lines = table(MADE_UP).splitlines()
    assert next(csv.reader(lines)) == HEADER
    assert (
        lines[1]
        == '"made-up","totals","totals.gpu_hours",2745010.5819944446,"GPU-hours",2552859.8412548336,3046961.7460138337,""'
    )


def test_sections_stand_in_a_fixed_order() -> None:
    sections = list(dict.fromkeys(row["section"] for row in rows(MADE_UP)))
    assert sections == [
        "totals", "price", "steady_state", "phases", "step", "memory", "placement", "basis", "assumptions",
        "not_modelled", "provenance", "model", "scenario", "defaults_used",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "unit", "low", "high", "source"),
    [
        ("totals.cost_usd", 5490021.163989, "USD", 5105719.682509667, 6093923.492027667, ""),
        ("step.step_s", 20.4, "s", 18.9, 22.7, ""),
        ("step.by_rank.1.bubble_s", 2.12, "s", None, None, ""),
        ("step.by_category.grouped GEMM.share", 0.3872549019607844, "fraction", None, None, ""),
        ("memory.by_stage.2.peak_bytes", 66_500_000_000, "bytes", None, None, ""),
        ("memory.margin", 0.05, "fraction", -0.01, 0.25, ""),
        ("phases.pretrain.ramp.points.4096.step_s", 7.1, "s", None, None, ""),
        ("price.usd_per_gpu_hour", 2.0, "USD/GPU-hour", 2.0, 2.0, "scenario"),
        ("basis.measured", 0.46, "fraction", None, None, ""),
        ("host.launch_s", 4.5e-06, "s", 3e-06, 8e-06, "kernel gaps of the trace"),
        ("seed", 0, "", None, None, ""),
    ],
)
def test_a_figure_has_its_unit_ends_and_source(
    key: str, value: float, unit: str, low: float | None, high: float | None, source: str
) -> None:
    row = by_key(MADE_UP)["made-up", key]
    assert float(row["value"]) == value
    assert (row["unit"], row["source"]) == (unit, source)
    assert [float(row[end]) if row[end] else None for end in ("low", "high")] == [low, high]


def test_an_effect_without_a_value_of_its_own_has_ends() -> None:
    row = by_key(MADE_UP)["made-up", "overlap.gemm.ratio.effect_on_gpu_hours"]
    assert (row["value"], row["low"], row["high"], row["unit"]) == ("", "-81000.0", "120000.0", "GPU-hours")


def numbers_of(value: Any) -> Iterator[float]:
    """All numbers of a JSON value."""
    if isinstance(value, dict):
        for child in value.values():
            yield from numbers_of(child)
    elif isinstance(value, list):
        for child in value:
            yield from numbers_of(child)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)


def test_no_number_of_the_document_is_missing() -> None:
    """Bubble of rank 3, bytes of a tensor, an end of an interval: each stands in some row, as a number or in a key."""
    result = small_item().result
    found: set[float] = set()
    for row in rows(result):
        texts = [row["value"], row["low"], row["high"], *row["key"].split("."), *row["value"].split(", ")]
        for text in texts:
            try:
                found.add(float(text))
            except ValueError:
                continue
    document = to_document(result)
    assert set(numbers_of(document)) <= found


def test_keys_are_different_within_a_scenario() -> None:
    for result in (MADE_UP, small_item().result):
        keys = [row["key"] for row in rows(result)]
        assert len(keys) == len(set(keys))


def test_several_scenarios_follow_one_another_under_their_names() -> None:
    found = rows(MADE_UP, small_item().result, MADE_UP)
    assert list(dict.fromkeys(row["scenario"] for row in found)) == ["made-up", "mixtral-8x22b", "made-up (2)"]
    alone = rows(MADE_UP)
    assert [row["key"] for row in found[: len(alone)]] == [row["key"] for row in alone]


def test_the_same_result_gives_the_same_bytes_and_no_duration_of_the_computing() -> None:
    assert table(MADE_UP) == table(from_json(TEXT))
    assert not any("seconds_to" in row["key"] or "elapsed" in row["key"] for row in rows(MADE_UP))


def test_numbers_are_bare_and_texts_in_quotes() -> None:
    for line in table(MADE_UP).splitlines()[1:]:
        _, _, _, value, *_ = next(csv.reader([line]))
        if value and not line.count(f'"{value}"'):
            assert math.isfinite(float(value))


@pytest.mark.parametrize("start", STARTS, ids=ascii)
@pytest.mark.parametrize("before", ["", " ", "\u00a0 "], ids=["first", "space", "spaces"])
def test_no_text_begins_a_formula(start: str, before: str) -> None:
    text = f"{before}{start}1+1"
    assert guarded(text) == f"'{text}"


@pytest.mark.parametrize(
    ("text", "safe"),
    [("a;=1+1", "a;'=1+1"), ("a\n@x", "a\n'@x"), ("a\t-1", "a\t'-1"), ("a; +1;=2", "a;' +1;'=2"), ("", "")],
)
def test_another_separator_begins_no_formula_either(text: str, safe: str) -> None:
    assert guarded(text) == safe


@pytest.mark.parametrize("text", ["a=1", "a, -b", "1.5", "h100-x8", "–", "a (=b)"])
def test_plain_texts_stay_as_they_are(text: str) -> None:
    assert guarded(text) == text


@given(text=st.text(max_size=40))
def test_a_guarded_text_is_safe_and_loses_nothing(text: str) -> None:
    found = guarded(text)
    assert not found.lstrip().startswith(STARTS)
    assert found.replace("'", "") == text.replace("'", "")


def test_no_cell_of_a_poisoned_result_begins_a_formula() -> None:
    texts = [f"{start}1+1" for start in STARTS] + [f"  {start}x" for start in STARTS] + list(PAYLOADS[:5])
    result = from_json(json.dumps(poisoned(json.loads(TEXT), cycle(texts))))
    found = rows(result)
    for row in found:
        for name, cell in row.items():
            if name not in ("value", "low", "high") or not _is_number(cell):
                assert not cell.lstrip(" \u00a0").startswith(STARTS), row
    assert sum(cell.startswith("'") for row in found for cell in row.values()) > 50


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False


def test_a_negative_number_stays_a_number() -> None:
    assert by_key(MADE_UP)["made-up", "memory.margin"]["low"] == "-0.01"


def test_a_number_that_is_none_is_refused() -> None:
    phase = MADE_UP.phases[0].model_copy(update={"tokens": float("nan")})
    with pytest.raises(ValueError, match="no JSON number"):
        table(MADE_UP.model_copy(update={"phases": (phase,)}))


@pytest.mark.parametrize(
    ("key", "unit"),
    [
        ("step.step_s", "s"), ("memory.peak_bytes_per_gpu", "bytes"), ("step.collectives.x.gb_per_s", "1e9 bytes/s"),
        ("totals.gpu_hours", "GPU-hours"), ("step.tokens_per_s_per_gpu", "tokens/s"),
        ("step.mfu.bf16_dense_causal", "fraction"),
        ("scenario.training.seq_len", "tokens"), ("scenario.seed", ""), ("phases.a.steps", "steps"),
    ],
)  # fmt: skip
def test_units_follow_from_keys(key: str, unit: str) -> None:
    assert unit_of(key) == unit
