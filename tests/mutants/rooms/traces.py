"""Faults of what is read from a profiler's trace, and of what stands beside it."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

TRACES = Room(
    "traces",
    ("tests/traces", "tests/cli/test_compare_trace.py", "tests/cli/test_calibrate_trace.py"),
    (
        Fault(
            "hwprofiles/traces/device_time.py",
            "is_on[COMMUNICATION] & ~is_on[COMPUTE]",
            "is_on[COMMUNICATION]",
            "communication that compute hides is exposed",
        ),
        Fault(
            "hwprofiles/traces/device_time.py",
            "is_late = (start > free) & (launch > free)",
            "is_late = start > free",
            "a gap before a kernel that was launched long ago is the host's",
        ),
        Fault(
            "hwprofiles/traces/device_time.py",
            "np.maximum.accumulate(end)[:-1]",
            "end[:-1]",
            "a device is idle when the last kernel that began has ended, though another runs",
        ),
        Fault(
            "hwprofiles/traces/steps.py",
            "moment = np.where(np.isnan(activity.launch_s), activity.start_s, activity.launch_s)",
            "moment = activity.start_s",
            "a kernel belongs to the step in which it ran, not in which it was launched",
        ),
        Fault(
            "hwprofiles/traces/steps.py",
            "return found if len(found) == 1 else tuple(each for each in found if not each.is_open)",
            "return found",
            "the last step ends with its last kernel and shortens the mean",
        ),
        Fault(
            "hwprofiles/traces/reading.py",
            "is_found = (number[found] == wanted) & ~is_shared[found]",
            "is_found = ~is_shared[found]",
            "a kernel without a launch gets another one's",
        ),
        Fault(
            "hwprofiles/traces/sizes.py",
            "if k == rows != columns and (m == columns or n == columns):",
            "if k == columns:",
            "a gradient of the input is taken for one of the weight",
        ),
        Fault(
            "hwprofiles/traces/calls.py",
            "seconds = float(activity.seconds[rows].sum())",
            "seconds = float(activity.seconds[rows].max())",
            "of an operator of several kernels only the longest counts",
        ),
        Fault(
            "hwprofiles/traces/rows.py",
            'regime: Regime = "alone" if call.beside <= ALONE else "overlapped"',
            'regime: Regime = "alone"',
            "a kernel beside a collective counts as one that ran alone",
        ),
        Fault(
            "hwprofiles/traces/stack_files.py",
            "activity.launch_s[1:] < activity.end_s[:-1] - QUEUED_S",
            "activity.launch_s[1:] > 0",
            "gaps in which the host was late count as the device's",
        ),
        Fault(
            "simulator/results/stream_time.py",
            "behind = float(inside(begin[is_end], end[is_end], moved).sum())",
            "behind = 0.0",
            "waits for the reduction of gradients at the step's end are idle time",
        ),
        Fault(
            "simulator/cli/compare_trace.py",
            "each.rank * pp // num_gpus",
            "each.rank % pp",
            "ranks of one stage stand beside other stages",
        ),
    ),
)
