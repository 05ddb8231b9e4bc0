"""The scenario file: what it may say, how it is read, what follows from it by arithmetic.

`simulator.check` loads one for users: it knows the families whose names a scenario holds as plain text.
"""

from simulator.scenario.model import ModelSpec
from simulator.scenario.scenario import Scenario

__all__ = ["ModelSpec", "Scenario"]
