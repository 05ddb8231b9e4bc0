"""Schedules whose name in a table leaves out what the release's recipe adds: dispatch and combine beside another micro-batch.

A table that prints "interleaved 1F1B" names the order of the stages; whether its forwards run inside backwards of other
micro-batches is a switch of the software, as are its dispatcher and its graphs.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Final

from hwprofiles import catalog
from simulator.scenario.nested import find
from simulator.scenario.releases import set_switches

KEY: Final = ("parallel", "schedule")
ADDED: Final = "_ep_overlap"
"""Behind the name of the schedule that is meant."""


def refined(source: Mapping[str, Any], release: str) -> dict[str, Any]:
    """The scenario without its schedule where the release sets the same one with the overlap, so that the release says it; else
    as it is.
    """
    given, node = find(source, KEY), find(source, ("cluster", "node"))
    if given is None or node is None:
        return dict(source)
    bare = deepcopy(dict(source))
    del bare["parallel"]["schedule"]
    switches = set_switches(release, deepcopy(bare), catalog.load_node(node).gpu)
    told = {each.key: each.value for each in switches if each.is_modelled}
    return bare if told.get(".".join(KEY)) == f"{given}{ADDED}" else dict(source)
