"""What a control offers is what the type, the family or the catalogue holds, and all of it is taken by the schema."""

from __future__ import annotations

from typing import Any

import pytest

from hwprofiles.catalog import list_names
from simulator.check import scenario_schema
from simulator.choices import bounds, choices, field_of, is_optional
from simulator.scenario.recipes import RECIPES
from simulator.schedule import SCHEDULES


def test_names_come_from_the_families_and_the_catalogue() -> None:
    assert choices("parallel.schedule") == SCHEDULES.names()
    assert choices("precision.recipe") == RECIPES.names()
    assert choices("cluster.node") == list_names("nodes")
    assert choices("prices.sheet") == list_names("prices")
    assert choices("phases.a.b.batch_ramp.schedule_below") == (None, *SCHEDULES.names())


def test_small_whole_numbers_and_switches_are_choices_and_large_ones_are_not() -> None:
    assert choices("parallel.zero_stage") == (0, 1, 2, 3)
    assert choices("parallel.sequence_parallel") == (False, True)
    assert choices("cluster.num_gpus") == choices("training.seq_len") == ()


def test_enumerations_are_those_of_the_schema() -> None:
    definitions: dict[str, Any] = scenario_schema()["definitions"]
    for section, name in (("Recompute", "granularity"), ("Overlap", "tp"), ("Saved", "attn_out"), ("Device", "clock")):
        path = {"Overlap": "parallel.overlap", "Saved": "recompute.saved"}.get(section, section.lower())
        key = f"{path}.{name}"
        assert list(choices(key)) == definitions[section]["properties"][name]["enum"]


def test_bounds_are_those_of_the_type() -> None:
    assert bounds("parallel.pp") == (1, 1024)
    assert bounds("cluster.num_gpus") == (1, 10_000_000)
    assert bounds("phases.p.tokens")[0] == 1
    assert bounds("prices.usd_per_gpu_hour") == (0, 1_000_000)
    assert bounds("parallel.schedule") == (None, None)


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(KeyError):
        field_of("parallel.none_such")
    assert is_optional("moe.max_nodes_per_token")
    assert not is_optional("parallel.pp")
