"""A result read back is the result; anything else is refused with its reason and a remedy, whatever it is."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator import load_scenario, simulate_run
from simulator.errors import InputError
from simulator.results import json_text
from simulator.results.consistency import scenario_digest
from simulator.results.document import to_json
from simulator.results.run_result import RunResult
from simulator.results.saved import read_result

DATA = (Path(__file__).parent / "data" / "made_up_run.json").read_bytes()
DOCUMENT: dict[str, Any] = json.loads(DATA)
MAKE_ONE = "moesim run SCENARIO --json --out FILE"


def refusal(source: Path | bytes, name: str = "r.json") -> str:
    with pytest.raises(InputError) as caught:
        read_result(source, name)
    assert all(str(problem).startswith("r.json") for problem in caught.value.problems)
    return str(caught.value)


def written(document: Any) -> bytes:
    return json.dumps(document).encode()


def with_value(path: str, value: Any) -> dict[str, Any]:
    """The document with one value changed, its scenario's hash kept right."""
    document = copy.deepcopy(DOCUMENT)
    *above, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place: Any = document
    for part in above:
        place = place[part]
    place[last] = value
    document["scenario_sha256"] = scenario_digest(document["scenario"])
    return document


def test_a_file_and_its_bytes_are_the_same_result(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(DATA)
    assert read_result(path, "r.json") == read_result(DATA, "r.json")
    assert to_json(read_result(path, "r.json")).encode() == DATA


def test_what_a_run_writes_is_read_back_equal() -> None:
    result = simulate_run(
        load_scenario("mixtral-8x22b", ["draws=1", "prices.sheet=market-2025-03", "prices.usd_per_gpu_hour=null"])
    )
    assert read_result(to_json(result).encode(), "r.json") == result


NAMES = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=20)
AMOUNTS = st.floats(1e-3, 1e9)


@st.composite
def results(draw: st.DrawFn) -> RunResult:
    """Variations of the made-up result: texts of any script, phases with and without ramp, cost, paid GPUs."""
    document = copy.deepcopy(DOCUMENT)
    phase = document["phases"][0]
    names = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    step_s = document["step"]["step_s"]
    with_price = draw(st.booleans())
    phases = []
    for name in names:
        steps, hours_each = draw(AMOUNTS), 2048 / 3600
        row = {"name": name, "kind": "pretrain", "tokens": draw(AMOUNTS), "steps": steps, "step_s": step_s}
        row |= {"wall_s": steps * step_s, "gpu_hours": steps * step_s * hours_each}
        phases.append(row | ({"cost_usd": 2.0 * row["gpu_hours"]} if with_price else {}))
    if draw(st.booleans()):
        phases[0] = {key: value for key, value in phase.items() if with_price or key != "cost_usd"}
    document["phases"] = phases
    totals: dict[str, Any] = {}
    for key, part in (("gpu_hours", "gpu_hours"), ("wall_s", "wall_s"), ("cost_usd", "cost_usd")):
        if key == "cost_usd" and not with_price:
            continue
        value = sum(row[part] for row in phases)
        totals[key] = {"value": value, "low": value * 0.9, "high": value * 1.2}
    document["totals"] = totals
    document |= {"warnings": draw(st.lists(NAMES, max_size=2)), "stack": draw(NAMES)}
    if not with_price:
        del document["price"]
        del document["steady_state"]["cost_usd"]
    if draw(st.booleans()):
        del document["step"]["exposed_comm_s"]
    document["scenario"]["name"] = draw(NAMES)
    document["scenario_sha256"] = scenario_digest(document["scenario"])
    return RunResult.model_validate_json(json.dumps(document))


@given(result=results())
@settings(max_examples=60)
def test_result_to_json_to_result_is_equal(result: RunResult) -> None:
    text = to_json(result)
    again = read_result(text.encode(), "r.json")
    assert again == result
    assert to_json(again) == text


REFUSED: dict[str, tuple[bytes, str]] = {
    "empty": (b" \n", "is empty"),
    "cut off in a text": (DATA[: DATA.index(b"h800-x8") + 3], "was cut off"),
    "cut off between values": (DATA[: len(DATA) // 2], "was cut off"),
    "cut off before the last bracket": (DATA.rstrip()[:-1], "was cut off"),
    "no JSON": (b"step time 20.4 s\n", "not JSON"),
    "two documents": (DATA + DATA, "not JSON"),
    "not UTF-8": (DATA.replace(b"made-up", b"made\xffup"), "r.json:5: the file is not UTF-8"),
    "UTF-16": (DATA.decode().encode("utf-16"), "UTF-16"),
    "byte order mark": (b"\xef\xbb\xbf" + DATA, "UTF-8 with a mark"),
    "NaN": (DATA.replace(b'"seed": 0', b'"seed": NaN'), "NaN is no JSON number"),
    "Infinity": (DATA.replace(b'"seed": 0', b'"seed": -Infinity'), "-Infinity is no JSON number"),
    "a float beyond floats": (DATA.replace(b'"tp": 1,', b'"tp": 1e999,'), "too large for a number"),
    "a huge whole number": (DATA.replace(b'"seed": 0', b'"seed": 1' + b"0" * 5000), "too large for a number"),
    "a key twice": (DATA.replace(b'"seed": 0', b'"seed": 0, "seed": 1'), "the key seed stands twice"),
    "deep lists": (b"[" * 100_000, "deeper"),
    "deep mappings": (b'{"a":' * 70 + b"1" + b"}" * 70, "deeper"),
    "turned text": (DATA.replace(b'"made-up"', b'"\\u202emade-up"'), "U+202E"),
    "half a character": (DATA.replace(b'"made-up"', b'"\\ud800made-up"'), "U+D800"),
    "a terminal's escape": (DATA.replace(b'"made-up"', b'"\\u001b[2Jmade-up"'), "U+001B"),
    "a list": (b'[{"name": "h100"}]', "is no result (a list of 1)"),
    "a scenario": (written(DOCUMENT["scenario"]), "no result but a scenario"),
    "a validate document": (b'{"cases": [], "summary": {}}', "no result but what `moesim validate` wrote"),
    "a schedule": (b'{"name": "1f1b", "pp": 2, "micro_batches": 4, "ranks": []}', "`moesim schedule` wrote"),
    "some mapping": (b'{"a": 1}', "no phases, scenario, step, totals"),
    "a later schema": (written(DOCUMENT | {"schema_version": 2}), "is 2 (made by moesim 0.1.0); this version reads 1"),
    "a schema of true": (written(DOCUMENT | {"schema_version": True}), "schema_version: is true"),
    "no schema": (written({k: v for k, v in DOCUMENT.items() if k != "schema_version"}), "schema_version: is missing"),
    "an unknown key": (written(DOCUMENT | {"sead": 1}), "sead: unknown key"),
    "a missing key": (written({k: v for k, v in DOCUMENT.items() if k != "basis"}), "basis: is missing"),
    "a text for a number": (written(with_value("step.step_s", "20.4")), "step.step_s: is not a number"),
    "a negative price": (written(with_value("price.low", -1.0)), "price.low: is too small (-1.0)"),
    "an edited scenario": (DATA.replace(b'"tp": 1,', b'"tp": 2,'), "scenario_sha256"),
    "another currency": (written(with_value("scenario.currency", "EUR")), 'scenario.currency: is "EUR"; amounts'),
    "a name of no text": (written(with_value("scenario.name", ["x"])), "scenario.name"),
    "no count of GPUs": (written(with_value("scenario.cluster", {"node": "h800-x8"})), "scenario.cluster.num_gpus"),
    "a section of another type": (written(with_value("scenario.training", [1, 2])), "scenario.training"),
    "a rank's parts": (written(with_value("step.by_rank.0.bubble_s", 9.0)), "the parts of pipeline rank 0 sum to"),
    "order of ranks": (written(with_value("step.by_rank.0.pp_rank", 3)), "pipeline ranks are not"),
    "a summary of ranks": (written(with_value("step.parts.mean.bubble_s", 1.0)), "step.parts.mean"),
    "a share": (written(with_value("step.by_category.0.share", 0.5)), "step.by_category.0.share"),
    "the peak": (written(with_value("memory.peak_bytes_per_gpu", 66_500_000_001)), "memory.peak_bytes_per_gpu"),
    "whether it fits": (written(with_value("memory.fits", False)), "memory.fits"),
    "shares of the basis": (written(with_value("basis.measured", 0.9)), "not to 1"),
    "a phase's seconds": (written(with_value("phases.0.steps", 1e6)), "phases.0.wall_s"),
    "a ramp beyond its phase": (written(with_value("phases.0.ramp.tokens", 1e14)), "phases.0.ramp.tokens"),
    "the first phase's step": (written(with_value("phases.0.step_s", 20.5)), "phases.0.step_s"),
    "GPUs of a phase": (written(with_value("scenario.cluster.num_gpus", 1024)), "phases.0.gpu_hours"),
    "GPU-hours": (written(with_value("totals.gpu_hours.value", 2.8e6)), "totals.gpu_hours: 2.8e+06"),
    "the cost": (written(with_value("totals.cost_usd.value", 5.6e6)), "totals.cost_usd"),
    "the cost's end": (written(with_value("totals.cost_usd.high", 7e6)), "totals.cost_usd.high"),
    "an interval upside down": (written(with_value("totals.wall_s.low", 9e9)), "is not between"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_result_is_refused_with_its_reason(case: str) -> None:
    data, reason = REFUSED[case]
    message = refusal(data)
    assert reason in message
    assert len(message.splitlines()) <= 10
    assert max(map(len, message.splitlines())) < 500


@pytest.mark.parametrize(
    "case", ["cut off between values", "empty", "UTF-16", "a scenario", "GPU-hours", "some mapping"]
)
def test_the_message_says_how_to_get_one(case: str) -> None:
    message = refusal(REFUSED[case][0])
    assert MAKE_ONE in message or "--json --out FILE" in message


def test_a_price_that_the_cost_was_not_made_with_is_seen() -> None:
    document = with_value("price", {"usd_per_gpu_hour": 2.1, "low": 2.0, "high": 2.2, "source": "scenario"})
    assert "totals.cost_usd.value" in refusal(written(document))


def test_size_and_number_of_values_are_bounded_before_anything_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    def untouched(*arguments: object, **options: object) -> None:
        raise AssertionError("parsed")

    monkeypatch.setattr(json_text.json, "loads", untouched)
    assert "larger than 50,000,000 bytes" in refusal(b" " * 50_000_001)
    assert "more than 2,000,000 values" in refusal(b"[" + b"[]," * 1_100_000 + b"1]")


def _directory(path: Path) -> None:
    path.mkdir()


def _fifo(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "reason"),
    [(lambda path: None, "No such file"), (_directory, "a directory"), (_fifo, "not a regular file")],
    ids=["missing", "directory", "fifo"],
)
def test_a_path_that_is_no_file_is_refused(tmp_path: Path, make: Callable[[Path], None], reason: str) -> None:
    make(tmp_path / "r.json")
    assert reason in refusal(tmp_path / "r.json")


@given(data=st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
@settings(max_examples=150)
def test_any_bytes_end_in_a_reason(data: bytes) -> None:
    refusal(data)


@given(where=st.integers(0, len(DATA) - 1), byte=st.integers(0, 255))
@settings(max_examples=150)
def test_one_byte_changed_is_refused_or_still_a_result(where: int, byte: int) -> None:
    changed = DATA[:where] + bytes([byte]) + DATA[where + 1 :]
    try:
        read_result(changed, "r.json")
    except InputError as error:
        assert str(error).startswith("r.json")
