"""Faults of the small model that trains: which steps count, what a bias follows, order of the text."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

ROOT = "hwprofiles/calibration/train"

TRAIN = Room(
    "train",
    ("tests/hwprofiles/model/test_train_data.py", "tests/hwprofiles/model/test_train.py"),
    (
        Fault(
            f"{ROOT}/figures.py",
            '"loss_last_fp8": fmean(fp8.main[-LAST:])',
            '"loss_last_fp8": fmean(bias.main[-LAST:])',
            "the loss of the FP8 run is that of the run it is compared with",
        ),
        Fault(
            f"{ROOT}/figures.py",
            "return max(max(layer) / fmean(layer) - 1.0 for layer in loads)",
            "return min(max(layer) / fmean(layer) - 1.0 for layer in loads)",
            "the violation is of the most even layer",
        ),
        Fault(
            f"{ROOT}/loop.py",
            "        moe.update_bias(loads)\n",
            "        pass\n",
            "no bias moves",
        ),
        Fault(
            f"{ROOT}/loop.py",
            "(losses.total(training.mtp_weight) / training.micro_batches).backward()",
            "losses.total(training.mtp_weight).backward()\n        model.zero_grad(set_to_none=False)",
            "gradients of all micro-batches are lost",
        ),
        Fault(
            f"{ROOT}/loop.py",
            "        optimizer.zero_grad()\n",
            "",
            "gradients of earlier steps are trained again",
        ),
        Fault(
            f"{ROOT}/text.py",
            "chosen, self._left = self._left[:count], self._left[count:]",
            "chosen = self._left[:count]",
            "every step reads the same text",
        ),
    ),
)
"""Fast ones; what must be reached is in test_train_whole.py."""
