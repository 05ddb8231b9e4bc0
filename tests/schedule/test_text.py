"""Law: what is printed parses back to the same actions; the JSON document holds every action."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.errors import InputError
from simulator.schedule import (
    SCHEDULES,
    Action,
    build_schedule,
    format_schedule,
    parse_action,
    parse_actions,
    schedule_document,
)

NUMBER = st.integers(0, 9999)


@given(st.sampled_from("FBIW"), NUMBER, NUMBER)
def test_single_actions_parse_back(kind, stage, micro_batch):
    action = Action(kind, stage, micro_batch)
    assert parse_action(str(action)) == action


@given(st.tuples(NUMBER, NUMBER, NUMBER, NUMBER))
def test_pairs_parse_back(numbers):
    action = Action("FB", *numbers)
    assert parse_action(str(action)) == action


@pytest.mark.parametrize("text", ["", "F3", "3X1", "3F1&", "3F1&2F1", "-1F0", "3F1 ", "3f1", "٣F1"])
def test_other_text_is_refused(text):
    with pytest.raises(InputError, match="is not an action; expected 3F17"):
        parse_action(text)


@pytest.mark.parametrize("name", SCHEDULES)
def test_grid_parses_back(name):
    schedule = build_schedule(name, 4, 12)
    rows = format_schedule(schedule).splitlines()[1:]
    assert tuple(parse_actions(row.split("|")[1]) for row in rows) == schedule.ranks


def test_grid_shows_time():
    assert format_schedule(build_schedule("1f1b", 2, 2)).splitlines()[1:] == [
        "rank 0 | 0F0 0F1 .   .   0B0---- .   0B1----",
        "rank 1 | .   1F0 1B0---- 1F1 1B1----",
    ]


@pytest.mark.parametrize("name", SCHEDULES)
def test_document_round_trip(name):
    schedule = build_schedule(name, 4, 12)
    document = json.loads(json.dumps(schedule_document(schedule)))
    assert list(document) == ["name", "pp", "vpp", "micro_batches", "ranks"]
    assert (document["name"], document["pp"], document["micro_batches"]) == (name, 4, 12)
    assert tuple(tuple(Action(**entry) for entry in rank) for rank in document["ranks"]) == schedule.ranks
