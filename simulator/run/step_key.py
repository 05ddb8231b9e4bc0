"""What the steps of a scenario depend on: all but the lengths of its phases, its prices, its name and its date."""

from __future__ import annotations

import hashlib
import json
from typing import Final

from simulator.scenario.scenario import Scenario

NO_STEP_DEPENDS_ON: Final = ("name", "phases", "prices", "start_date", "currency")
"""Sections of a scenario that say how long a run is and what it costs. A step depends on all the others."""


def step_document(scenario: Scenario) -> str:
    """What the steps of a scenario depend on, as JSON that `load_scenario` takes once it is read: equal texts, equal steps."""
    document = {key: value for key, value in scenario.canonical().items() if key not in NO_STEP_DEPENDS_ON}
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)


def step_key(scenario: Scenario) -> str:
    """Hash of all that the steps of a scenario depend on."""
    return hashlib.sha256(step_document(scenario).encode()).hexdigest()
