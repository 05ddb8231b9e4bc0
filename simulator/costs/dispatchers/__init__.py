"""Libraries of dispatch and combine: one file each, named as in simulator/scenario/dispatchers.py."""

from __future__ import annotations

from simulator.costs.dispatchers import kind
from simulator.registry import register_members

register_members(__name__, __path__)

DISPATCHERS = kind.DISPATCHERS
