"""Two NCCL collectives at a time on NVLink, as measured on 4 H200: each takes about 1.8 times as long, and so predicted."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import hwprofiles
from hwprofiles import catalog
from hwprofiles.stack_choice import load_stack
from simulator.costs.collectives.exchange import exchange_cost
from simulator.costs.collectives.ring import RingOp, ring_cost
from simulator.costs.cost import CollectiveCost
from simulator.engine.event_loop import Flows, event_loop
from simulator.network.placement import GroupShape
from simulator.network.topology import build_network
from tests.engine.graphs import make_dag

FILE = Path(hwprofiles.__file__).parent / "measurements" / "h200x4-together-2026-11-27.csv"
RINGS: dict[str, RingOp] = {"all_gather": "all_gather", "reduce_scatter": "reduce_scatter", "all_reduce": "all_reduce"}
SENT = 0.75
"""Of a message's bytes, by each of four ranks; an all-reduce twice (the switch, which can add up, was kept out)."""


def cost_of(kind: str, sent: float) -> CollectiveCost:
    network = build_network(catalog.load_node("h200-x8"), catalog.load_fabric("ib-400g-rail"), 8)
    stack, group = load_stack("h200-public"), GroupShape(4, 1, 4)
    stack = replace(stack, parameters={key: one for key, one in stack.parameters.items() if not key.startswith("nvls")})
    if kind in RINGS:
        return ring_cost(RINGS[kind], sent / SENT / (2 if kind == "all_reduce" else 1), group, network, stack)
    return exchange_cost(sent / SENT, group, network, stack)


def stretched(first: CollectiveCost, second: CollectiveCost) -> float:
    """How many times as long the first takes with the second beside it all the time."""
    loads = np.array([[each.scale_up_s / each.seconds] for each in (first, second)])
    flows = Flows(np.array([0, 1], dtype=np.int32), np.zeros((2, 1), dtype=np.int32), loads, 1, np.ones((2, 2)))
    dag = make_dag([(0, 0, set(), -1, False), (1, 1, set(), -1, False)], num_classes=2)
    seconds = np.array([first.seconds, first.seconds * 10])
    return float(event_loop(dag, seconds, flows).timeline.finish_s[0, 0] / first.seconds)


def test_two_collectives_on_nvlink() -> None:
    with FILE.open(encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if "send_recv" not in (row["first"], row["second"])]
    alone = {row["first"]: float(row["first_s"]) for row in rows if not row["second"]}
    errors = []
    for row in rows:
        if row["second"]:
            costs = [cost_of(row[of], float(row[f"{of}_sent_bytes"])) for of in ("first", "second")]
            for of, pair in (("first", costs), ("second", costs[::-1])):
                errors.append(stretched(*pair) / (float(row[f"{of}_s"]) / alone[row[of]]) - 1.0)
    assert len(errors) == 20
    assert float(np.mean(np.abs(errors))) < 0.06 and abs(float(np.mean(errors))) < 0.05, errors
    assert max(errors, key=abs) == pytest.approx(0.0, abs=0.25), "an all-to-all beside an all-reduce"
