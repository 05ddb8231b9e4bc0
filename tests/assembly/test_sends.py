"""What is sent between stages: an output to the next, a gradient to the one before; nothing past the ends or on one rank."""

from __future__ import annotations

import numpy as np
import pytest

from simulator import load_scenario
from simulator.schedule import SCHEDULES
from simulator.step.graph import build_graph
from simulator.step.prepared import prepare


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_each_micro_batch_is_sent_once_over_each_boundary_and_direction(schedule: str) -> None:
    vpp = SCHEDULES[schedule].fewest_chunks
    options = [
        "parallel.pp=4",
        f"parallel.vpp={vpp}",
        f"parallel.schedule={schedule}",
        "training.global_batch_size=512",
        "phases.pretrain.batch_ramp=null",
    ]
    graph = build_graph(prepare(load_scenario("deepseek-v3", [*options, "cluster.num_gpus=256"])))
    times = np.bincount(graph.dag.op_class, minlength=graph.dag.num_classes)
    sent = {
        label: int(n)
        for label, n in zip(graph.labels, times, strict=True)
        if ".send_" in label and not label.endswith(".issue")
    }
    expected = [f"stage_{s}.send_f" for s in range(4 * vpp - 1)]
    expected += [f"stage_{s}.send_b" for s in range(1, 4 * vpp)]
    if SCHEDULES[schedule].placement == "folded":  # the turn of the V is on one rank
        expected = [label for label in expected if label not in ("stage_3.send_f", "stage_4.send_b")]
    assert sent == dict.fromkeys(expected, graph.num_micro_batches)
