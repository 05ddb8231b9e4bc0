"""Faults of the fits: what they see, what they judge, which range they give."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

ROOT = "hwprofiles/calibration"

FITS = Room(
    "fits",
    (
        "tests/hwprofiles/test_fits.py",
        "tests/hwprofiles/test_fits_judged.py",
        "tests/hwprofiles/test_memory_forms.py",
        "tests/hwprofiles/test_streaming_ends.py",
    ),
    (
        Fault(
            f"{ROOT}/gemm_fit.py",
            "seen = [point for point in points if point.weight_shape != shape]",
            "seen = list(points)",
            "a weight shape is judged by a fit that has seen it",
        ),
        Fault(
            f"{ROOT}/gemm_fit.py",
            "kept = np.abs(residuals - np.median(residuals)) <= wild",
            "kept = np.abs(residuals - np.median(residuals)) <= 10.0 + wild",
            "a call of a wrong kernel bends the constants",
        ),
        Fault(
            f"{ROOT}/fits/gemm.py",
            "nearest.blind.get(shape, nearest.constants)",
            "nearest.constants",
            "priors of a pass have seen the layer that is judged",
        ),
        Fault(
            f"{ROOT}/fits/points.py",
            "min(seconds, found.get(key, seconds))",
            "max(seconds, found.get(key, seconds))",
            "of two states the slower counts",
        ),
        Fault(
            f"{ROOT}/fits/points.py",
            """== num_sms and not row.get("beside")""",
            """== num_sms""",
            "calls beside another kernel are taken as lone ones",
        ),
        Fault(
            f"{ROOT}/fits/judged.py",
            "low, high = spread(others, len(set(groups)) - 1, share)",
            "low, high = spread(others, len(set(groups)) - 1, share / 2.0)",
            "a range that holds half of what it says",
        ),
        Fault(
            f"{ROOT}/fits/memory_forms.py",
            "and other.rows >= point.rows",
            "",
            "a call of narrow rows is taken for one that waited for the host",
        ),
        Fault(
            f"{ROOT}/fits/memory_forms.py",
            "moving = np.maximum(moving, at.rows / constants.rows_per_s)",
            "moving = np.maximum(moving, at.elements / constants.rows_per_s)",
            "a fit counts elements as rows",
        ),
        Fault(
            f"{ROOT}/fits/points.py",
            "point.library == HEADS_WEIGHT and point.rows <= FEW_ROWS",
            "False",
            "two kernels of torch are fitted as one",
        ),
        Fault(
            "hwprofiles/kernels/memory_bound.py",
            "reckoning = max(reckoning, shape.m / constants.rows_per_s)",
            "reckoning = max(reckoning, shape.m * shape.n / constants.rows_per_s)",
            "numbers of a row are taken for rows",
        ),
        Fault(
            "hwprofiles/kernels/memory_bound.py",
            "moving = max(grown, shape.bytes / bytes_per_s)",
            "moving = grown",
            "a kernel that grows more parallel passes the bandwidth",
        ),
        Fault(
            "hwprofiles/kernels/rows.py",
            "return self._exact.get(of_bytes) if shape.width else self._of_any_width.get(of_bytes)",
            "return self._exact.get(of_bytes) or self._of_any_width.get(of_bytes)",
            "a row of one width answers for another",
        ),
        Fault(
            f"{ROOT}/fits/memory.py",
            "wait = max(0.0, self.constants.latency_s - launched)",
            "wait = max(0.0, self.constants.latency_s)",
            "the launch is counted twice",
        ),
        Fault(
            "hwprofiles/kernels/gemm_formula.py",
            "np.where(is_split, np.ceil(steps), steps)",
            "np.where(is_split, 1.0, steps)",
            "a split K costs one step",
        ),
        Fault(
            "hwprofiles/kernels/gemm_formula.py",
            "step = np.maximum(step, constants.t_step_s)",
            "step = step + 0.0 * constants.t_step_s",
            "a step of a small tile takes no time",
        ),
        Fault(
            "hwprofiles/kernels/memory_bound.py",
            "max(moving, reckoning)",
            "moving",
            "addresses of elements are reckoned at once",
        ),
        Fault(
            f"{ROOT}/fits/judged.py",
            "return min(low, 0.0) * wider, max(high, 0.0) * wider",
            "return low * wider, high * wider",
            "a range of errors on one side does not hold the value",
        ),
        Fault(
            f"{ROOT}/fits/attention.py",
            "return 2.0 * self.whole.residuals[i]",
            "return self.whole.residuals[i]",
            "what could not be left out counts as well predicted",
        ),
        Fault(
            f"{ROOT}/fits/overlap.py",
            "return known[places[-1]] * place / places[-1]",
            "return known[places[-1]]",
            "more held SMs than measured slow no kernel further",
        ),
        Fault(
            "hwprofiles/kernels/memory_bound.py",
            "MemoryConstants(share.low, wait.high, rate.low, p,",
            "MemoryConstants(share.low, wait.low, rate.low, p,",
            "the slowest call waits as the fastest does",
        ),
    ),
)
