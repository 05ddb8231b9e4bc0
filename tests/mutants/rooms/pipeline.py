"""Faults of the runner of pipeline schedules: its orders, messages, stages and gradients."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

_PARALLEL = "hwprofiles/calibration/parallel"

PIPELINE = Room(
    "pipeline",
    ("tests/hwprofiles/model/test_pipeline_order.py", "tests/hwprofiles/model/test_pipeline.py"),
    (
        Fault(f"{_PARALLEL}/order.py", '"W": "I"', '"W": "F"', "a W may stand before its I"),
        Fault(
            f"{_PARALLEL}/messages.py",
            "if start >= used",
            "if start >= 0",
            "sends are waited for before anyone receives",
        ),
        Fault(
            f"{_PARALLEL}/messages.py",
            "found.sort(key=lambda pair: pair[0])",
            "found.sort(key=lambda pair: pair[0][1:])",
            "ranks start their messages by sender, not by time",
        ),
        Fault(
            f"{_PARALLEL}/messages.py",
            "bisect_right(sent, start) for",
            "0 for",
            "a rank waits for its sends before it has started receives that others wait for",
        ),
        Fault(
            f"{_PARALLEL}/pipeline.py",
            "gradient.div_(self.order.num_micro_batches)",
            "gradient",
            "gradients are of the sum of the micro-batches' losses",
        ),
        Fault(
            f"{_PARALLEL}/pipeline.py",
            "given, inputs=[x], retain_graph=True",
            "given, retain_graph=True",
            "I computes the weights' gradients too, and W once more",
        ),
        Fault(
            f"{_PARALLEL}/pipeline.py",
            "x, y = self._kept.pop(key)",
            "x, y = self._kept[key]",
            "graphs are never let go",
        ),
        Fault(
            f"{_PARALLEL}/copies.py",
            "total += parts[other]",
            "total = parts[other]",
            "one copy's gradient counts for all",
        ),
        Fault(
            f"{_PARALLEL}/stages.py",
            "(config.num_mtp > 0 or config.tied_embeddings)",
            "config.num_mtp > 0",
            "tied embeddings are apart on the last rank",
        ),
        Fault(
            f"{_PARALLEL}/pipeline.py",
            "if len(shapes) > 1:",
            "if False:",
            "the mean loss of unlike micro-batches is taken for that of their tokens",
        ),
        Fault(
            f"{_PARALLEL}/pipeline.py",
            "            if weights:\n",
            "            if True:\n",
            "a stage without layers ends the step",
        ),
    ),
)
