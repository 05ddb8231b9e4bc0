"""Faults of the command that measures a GPU: what a kill leaves, times that cannot be, hosts that are timed."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

_CALIBRATE = "hwprofiles/calibration/calibrate"

CALIBRATE = Room(
    "calibrate",
    (
        "tests/hwprofiles/test_calibrate.py",
        "tests/hwprofiles/test_calibrate_again.py",
        "tests/hwprofiles/test_calibrate_harness.py",
        "tests/hwprofiles/test_calibrate_plan.py",
    ),
    (
        Fault(
            f"{_CALIBRATE}/folder.py",
            "elif not anew and (foreign := [name for name in OWN if (folder / name).exists()]):",
            "elif not anew and (foreign := [name for name in (POINTS,) if (folder / name).exists()]):",
            "somebody's own kernels.csv is written over",
        ),
        Fault(
            f"{_CALIBRATE}/session.py",
            "before_s = self._spent_s if self.plan.limit_s else 0.0",
            "before_s = 0.0",
            "a limited call that goes on measures nothing",
        ),
        Fault(
            f"{_CALIBRATE}/session.py",
            "gpu = self._edited or gpu",
            "gpu = gpu or self._edited",
            "corrected figures of a device are written over",
        ),
        Fault(
            f"{_CALIBRATE}/store.py",
            'whole = data[: data.rfind(b"\\n") + 1]',
            "whole = data",
            "a line that a kill cut off is read",
        ),
        Fault(
            f"{_CALIBRATE}/session.py",
            'if rows[-1]["seconds"] and len(rows) < STATES:',
            "if False:",
            "a kernel of which a kill left one state is never finished",
        ),
        Fault(
            f"{_CALIBRATE}/harness.py",
            "if found.issued_s <= max(sleep_s, FASTER * sum(found.seconds)):",
            "if found.issued_s:",
            "a device that waited for the host is timed",
        ),
        Fault(
            f"{_CALIBRATE}/harness.py",
            "math.isfinite(time) and time > 0.0 for time in self.times",
            "time >= 0.0 for time in self.times",
            "a time of nothing is a number",
        ),
        Fault(
            f"{_CALIBRATE}/folder.py",
            "            if not (new / name).exists() or name == LAST:",
            "            if name == LAST:",
            "what only the old calibration had is mixed into the new one",
        ),
        Fault(
            f"{_CALIBRATE}/plan.py",
            "hopeless = not measured.logs and measured.failures >= FAILURES",
            "hopeless = False",
            "kernels that the GPU lacks take the time of the finer grid",
        ),
    ),
)
