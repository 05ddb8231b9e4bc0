"""The example as it is run by hand, and its router beside the simulated one.

Both must say the same: with the bias rule loads are more even, and how uneven they are, with it and without, comes out in the
same order and of the same size (within the factors that are stated). The simulated router takes how alike a sequence's tokens
are, and how fast the router drifts, from the simulator's stated assumptions, which know nothing of this model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, replace
from math import sqrt
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hwprofiles.calibration.model.config import Moe
from hwprofiles.calibration.train.figures import LAST, Record, figures
from hwprofiles.calibration.train.loop import train
from hwprofiles.calibration.train.settings import MODEL, RUNS, Training
from simulator.scenario.assumptions import read_assumptions
from simulator.workload.routing_model import RoutingStatistics, routing_statistics
from simulator.workload.routing_rule import Balance, RoutingRule

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

COMPARED = 60
"""Steps of which the losses and loads of the three runs are compared: what the rule, its lack and FP8 do is there by then. The
loads that the rule leaves in the end are those of the whole run.
"""
LASTING, OF_A_STEP = 2.0, 2.5
"""Factors by which the simulated spread of the mean load, and of one step's load, may differ from the trained one."""


def silent(*seen: Any) -> None:
    """Nobody is told."""


@pytest.fixture(scope="module")
def records() -> Mapping[str, Record]:
    steps = {name: Training().steps if name == "bias" else COMPARED for name in RUNS}
    return {
        name: train(MODEL, run, replace(Training(), steps=steps[name]), torch.device("cpu"), silent)
        for name, run in RUNS.items()
    }


def test_what_is_reached(records: Mapping[str, Record]) -> None:
    found = figures({name: Record(*(part[:COMPARED] for part in astuple(run))) for name, run in records.items()})
    print({key: value for key, value in found.items() if key != "loads"})
    assert found["loss_last"] < 0.7 * found["loss_first"]
    assert found["max_violation_bias"] < 0.6 * found["max_violation_none"]
    assert found["loss_last"] <= 1.01 * found["loss_last_none"]
    assert found["loss_last_fp8"] == pytest.approx(found["loss_last"], rel=0.01)
    assert found["mtp_loss_last"] < 0.7 * found["mtp_loss_first"]


def relative_loads(record: Record) -> NDArray[np.float64]:
    """(steps, layers, experts) of the last steps, over the mean load."""
    loads = np.array(record.loads[-LAST:], dtype=float)
    return loads / loads.mean(axis=2, keepdims=True)


def lasting_cv(record: Record) -> float:
    """Coefficient of variation over experts of the mean load of the last steps; root mean square of the layers."""
    return float(np.sqrt(relative_loads(record).mean(axis=0).var(axis=1).mean()))


def step_cv(record: Record) -> float:
    """The same of one step's loads, its noise included."""
    return float(np.sqrt(relative_loads(record).var(axis=2).mean()))


def simulated(balance: Balance, popularity_cv: float) -> RoutingStatistics:
    """The example's router, simulated; an expert a rank. popularity_cv: what the unbalanced run's loads show."""
    moe, training = MODEL.layers[-1].ffn, Training()
    assert isinstance(moe, Moe)
    sequences = training.sequences * training.micro_batches
    stated = read_assumptions()
    rule = RoutingRule(
        num_experts=moe.num_experts, top_k=moe.top_k, ep=moe.num_experts, nodes=moe.num_groups, sequences=sequences,
        seq_len=training.seq_len, groups=moe.num_groups, max_groups=moe.max_groups, group_top=moe.group_top,
        batch_sequences=sequences, score=moe.score, balance=balance, popularity_cv=popularity_cv,
        bias_update_rate=training.bias_rate, concentration=stated["routing_concentration"].value,
        popularity_drift_cv=stated["expert_popularity_drift_cv"].value,
    )  # fmt: skip
    return routing_statistics(rule, seed=0)


def test_the_simulated_router_says_the_same(records: Mapping[str, Record]) -> None:
    without, with_bias = lasting_cv(records["none"]), lasting_cv(records["bias"])
    natural, learned = (simulated(balance, without) for balance in ("natural", "learned"))  # type: ignore[arg-type]
    assert with_bias < 0.3 * without and learned.persistent_expert_cv < 0.3 * natural.persistent_expert_cv
    for trained, told in ((without, natural.persistent_expert_cv), (with_bias, learned.persistent_expert_cv)):
        print(f"mean load of the last {LAST} steps: trained {trained:.3f}, simulated {told:.3f}")
        assert trained / LASTING < told < trained * LASTING, (trained, told)


def test_a_step_s_loads_scatter_as_simulated(records: Mapping[str, Record]) -> None:
    training = Training()
    sequences = training.sequences * training.micro_batches
    popularity_cv = lasting_cv(records["none"])
    for name, balance in (("none", "natural"), ("bias", "learned")):
        told = sqrt(simulated(balance, popularity_cv).expert_variance(sequences, training.seq_len))  # type: ignore[arg-type]
        trained = step_cv(records[name])
        print(f"load of a step, run {name}: trained {trained:.3f}, simulated {told:.3f}")
        assert trained / OF_A_STEP < told < trained * OF_A_STEP, (name, trained, told)
