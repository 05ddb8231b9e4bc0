"""What would change a result: the strongest first, in words that need no manual."""

from __future__ import annotations

from hwprofiles.stack_choice import load_stack, stack_names
from simulator.report import levers, numbers
from simulator.report.accuracy import accuracy_of, read_accuracy, speeds
from simulator.report.lever_words import ACTIONS, ASSUMPTION_WORDS, RANGE_WORDS, range_words
from simulator.report.memory_words import keys_of, tensor_words
from simulator.results.explain import WHY
from simulator.results.run_result import GpuHourPrice
from simulator.scenario.assumptions import read_assumptions
from simulator.scenario.phase_assumptions import phase_assumptions
from simulator.scenario.run_ranges import all_run_ranges
from simulator.step.power import RANGED
from simulator.step.ranges import LOOP_SHARE
from tests.report.test_console import RESULT, changed


def test_every_assumption_and_every_limit_has_words() -> None:
    keys = {
        *read_assumptions(),
        *phase_assumptions(),
        *(key for name in stack_names() for key in load_stack(name).assumptions),
    }
    assert set(ASSUMPTION_WORDS) == keys
    assert set(ACTIONS) == set(WHY)


def test_every_part_of_an_interval_has_words() -> None:
    power = {f"power.{key}" for key in (*RANGED, LOOP_SHARE)}
    assert set(RANGE_WORDS) == power | {each.key for each in all_run_ranges()}
    assert range_words("host_speed") == f"{ASSUMPTION_WORDS['host_speed']} (host_speed)"
    assert range_words("expert_gemm") == "expert GEMM"


def test_the_strongest_limits_and_assumptions_come_first() -> None:
    known = RESULT.step.binding[0].model_copy(update={"what": "expert_gemm"})
    others = [each.model_copy(update={"seconds": 0.1}) for each in RESULT.step.binding[1:]]
    result = changed(step=RESULT.step.model_copy(update={"binding": (*others, known)}))
    found = levers.strongest(result)
    strongest = max(result.step.binding, key=lambda each: each.seconds)
    share = numbers.rough_percent(strongest.seconds / RESULT.step.step_s)
    assert f"({share})" in found[0]
    assert ACTIONS[strongest.what] in found[0]
    moving = [text for text in found if text.startswith("Not known for certain")]
    assert moving
    assert all("%" in text for text in moving)
    assert not any("Not known" in text for text in levers.strongest(changed(assumptions=())))


def test_where_memory_is_short_the_largest_tensors_and_their_keys_are_told() -> None:
    memory = RESULT.memory
    names = [each for each in memory.worst_stage.tensors or () if keys_of(each.name)]
    short = changed(memory=memory.model_copy(update={"verdict": "marginal"}))
    for each in names[: levers.NUM_TENSORS]:
        assert f"{tensor_words(each.name)} ({numbers.amount_of_bytes(each.bytes)})" in levers.room(short)
        assert all(key in levers.room(short) for key in keys_of(each.name))
    assert names and levers.room(short).startswith("Memory (marginal)")
    assert levers.room(changed(memory=memory.model_copy(update={"verdict": "fits"}))) == ""


def test_the_price_is_told_by_what_ten_cents_are() -> None:
    hours = RESULT.totals.gpu_hours.value
    price = GpuHourPrice(usd_per_gpu_hour=2.0, low=2.0, high=2.0, source="x")
    (text,) = [text for text in levers.strongest(changed(price=price)) if text.startswith("Price")]
    assert f" {hours / 1e4:.0f} K USD more" in text
    assert not any(text.startswith("Price") for text in levers.strongest(changed(price=None)))


def test_the_method_is_told_from_the_accuracy_file() -> None:
    found = accuracy_of(speeds(read_accuracy()))
    assert found is not None
    words = levers.method(RESULT)
    assert words[0].startswith(f"{found.n} measured runs: speed off by {numbers.rough_percent(found.median)}")
    assert len(words) == 2


def test_headline_numbers_have_no_digits_that_mean_nothing() -> None:
    assert [numbers.rough_change(x) for x in (-0.051, 0.113, 0.004, 0.0)] == ["-5 %", "+11 %", "+0.4 %", "0 %"]
