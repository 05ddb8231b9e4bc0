"""Faults of the engines, their certificate and their checks."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

ROOT = "simulator/engine"

ENGINE = Room(
    "engine",
    ("tests/engine",),
    (
        Fault(
            f"{ROOT}/compiled_links.py",
            "left[links[flow, at]] -= level * uses[flow, at]",
            "left[links[flow, at]] -= 0.0 * uses[flow, at]",
            "what stopped flows hold is shared out again",
        ),
        Fault(
            f"{ROOT}/compiled_links.py",
            "is_shared = hold(on[at], -1, links, on_link, is_marked) or is_shared",
            "hold(on[at], -1, links, on_link, is_marked)",
            "a flow that ends leaves its share to nobody",
        ),
        Fault(
            f"{ROOT}/compiled_links.py",
            "work_left[resource] = max(0.0, work_left[resource] - done)",
            "done = 0.0",
            "a flow whose rate changes begins anew",
        ),
        Fault(
            f"{ROOT}/compiled.py",
            "finish[op] = ready + (seconds[op_class[op]] if row < 0 else seconds[op_class[op]] * draws[row])",
            "finish[op] = ready + seconds[op_class[op]]",
            "one lane alone knows no draws",
        ),
        Fault(
            f"{ROOT}/compiled.py",
            "    for i in range(fours, len(values)):\n",
            "    for i in range(fours + 1, len(values)):\n",
            "the maximum over lanes leaves one out",
        ),
        Fault(
            f"{ROOT}/compiled.py",
            "for edge in range(first + 2, last):",
            "for edge in range(first + 3, last):",
            "the third predecessor is not waited for",
        ),
        Fault(
            f"{ROOT}/compiled.py",
            "makespan = max(makespan, latest(finish[own]))",
            "makespan = max(makespan, finish[own, 0])",
            "the step ends with the first lane",
        ),
        Fault(
            f"{ROOT}/compiled.py",
            "if num_uses[pred[edge]] == 0:",
            "if num_uses[pred[edge]] <= 1:",
            "a finish is forgotten before its last reader",
        ),
        Fault(
            f"{ROOT}/reference.py",
            "if self.num_arrived[op] == self.num_lanes:",
            "if self.num_arrived[op] == max(1, self.num_lanes - 1):",
            "a collective does not wait for its slowest rank",
        ),
        Fault(
            f"{ROOT}/certificate.py",
            '    _demand(finish, start + duration, first, "finish", "its start plus its duration")\n',
            "",
            "the certificate asks for starts alone",
        ),
        Fault(
            f"{ROOT}/certificate.py",
            "ready[joins] = ready[joins].max(axis=1, keepdims=True)",
            "ready[joins] = ready[joins].min(axis=1, keepdims=True)",
            "the certificate lets a collective start with its first rank",
        ),
        Fault(
            f"{ROOT}/inputs.py",
            "bad = ~(np.isfinite(values) & (values >= 0))",
            "bad = ~np.isfinite(values)",
            "negative durations pass",
        ),
        Fault(
            f"{ROOT}/critical_path.py",
            "            lane = int(np.argmax(timeline.finish_s[preds].max(axis=0)))\n",
            "            lane = 0\n",
            "the critical path goes on in the first lane behind a collective",
        ),
        Fault(
            "simulator/engine/bench.py",
            "reference_s / sweep_s,",
            "sweep_s / reference_s,",
            "the ratio of the engines is inverted",
        ),
        Fault(
            "simulator/engine/certificate.py",
            "last = min(last, first + max(1, MAX_GATHERED // lanes), dag.num_ops)",
            "last = min(last, first + max(1, MAX_GATHERED // lanes), dag.num_ops)\n"
            "        if last == dag.num_ops:\n            return",
            "the last operators are not certified",
        ),
        Fault(
            "simulator/engine/bench.py",
            "if reference.makespan_s != makespan_s or not",
            "if not",
            "makespans of the batch are not compared",
        ),
        Fault(
            "simulator/engine/bench.py",
            "np.array_equal(one.start_s, other.start_s) and ",
            "",
            "starts are not compared",
        ),
        Fault(
            "simulator/engine/critical_path.py",
            "int(np.argmax(timeline.finish_s)), timeline",
            "int(np.argmax(timeline.start_s)), timeline",
            "the critical path ends with the operator that starts last",
        ),
    ),
)
