"""The list of planted faults, a file a room."""

from __future__ import annotations

from tests.mutants.fault import Room
from tests.mutants.rooms.assembly import ASSEMBLY
from tests.mutants.rooms.costs import COSTS
from tests.mutants.rooms.engine import ENGINE
from tests.mutants.rooms.network import NETWORK
from tests.mutants.rooms.report import REPORT
from tests.mutants.rooms.run import RUN
from tests.mutants.rooms.schedule import SCHEDULE
from tests.mutants.rooms.validation import VALIDATION
from tests.mutants.rooms.workload import WORKLOAD

ROOMS: tuple[Room, ...] = (NETWORK, COSTS, WORKLOAD, ENGINE, SCHEDULE, ASSEMBLY, RUN, REPORT, VALIDATION)
"""From the bottom up."""
