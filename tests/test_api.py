"""The Python functions name an argument that is none of theirs, where a program would otherwise meet an AttributeError."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from simulator import load_scenario, simulate_run, simulate_step
from simulator.errors import InputError


@pytest.mark.parametrize(("source", "shown"), [(3, "3"), (None, "null"), (b"deepseek-v3", "b'deepseek-v3'")])
def test_a_source_is_a_name_a_path_or_a_mapping(source: Any, shown: str) -> None:
    with pytest.raises(InputError) as caught:
        load_scenario(source)
    assert str(caught.value) == f"source: is neither a preset's name, a path nor a mapping ({shown})"


@pytest.mark.parametrize("simulate", [simulate_run, simulate_step])
@pytest.mark.parametrize("scenario", ["deepseek-v3", None, {"name": "own"}], ids=["name", "none", "mapping"])
def test_what_is_simulated_is_a_loaded_scenario(simulate: Callable[[Any], object], scenario: Any) -> None:
    with pytest.raises(InputError, match=r"^scenario: is no scenario \(.*\); give what load_scenario returns$"):
        simulate(scenario)
