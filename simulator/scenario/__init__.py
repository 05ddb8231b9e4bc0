"""The scenario file: what it may say, how it is read, what follows from it by arithmetic."""

from simulator.scenario.load import load_scenario
from simulator.scenario.model import ModelSpec
from simulator.scenario.scenario import Scenario

__all__ = ["ModelSpec", "Scenario", "load_scenario"]
