"""Faults of what is said of this project's FP8 kernels: in a step, at scale, by their bench and its page."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

BENCH = "hwprofiles/calibration/kernel_bench"
OWN_KERNELS = Room(
    "own_kernels",
    (
        "tests/step/test_own_gemms.py",
        "tests/validation/test_at_scale.py",
        "tests/hwprofiles/kernels/test_kernel_bench.py",
        "tests/hwprofiles/kernels/test_kernel_page.py",
    ),
    (
        Fault(
            "simulator/workload/own_kernels.py",
            'if shape.bound == "gemm" and shape.dtype == DTYPE:',
            'if shape.bound == "gemm":',
            "products in BF16 run by kernels that have none",
        ),
        Fault(
            "hwprofiles/kernels/shape.py",
            'return self.library if self.library == OWN_GEMMS else ""',
            'return ""',
            "own products take the library's rows",
        ),
        Fault(
            "validation/at_scale/stacks.py",
            "rows = [row for row in _rows_of(base) if",
            "rows = [row for row in _rows_of(base) if True or",
            "the library's products stand beside those of the training",
        ),
        Fault(
            f"{BENCH}/turns.py",
            "order = names[turn % len(names) :] + names[: turn % len(names)]",
            "order = names",
            "the same one begins every round",
        ),
        Fault(
            f"{BENCH}/correct.py",
            "return self.written and self.error <= self.bound and not self.note",
            "return self.error <= self.bound and not self.note",
            "a kernel that writes beside its result passes",
        ),
        Fault(
            f"{BENCH}/summary.py",
            'name: of[other]["seconds"] / of[OWN]["seconds"]',
            'name: of[OWN]["seconds"] / of[other]["seconds"]',
            "a slower kernel is told as a faster one",
        ),
        Fault(
            f"{BENCH}/save.py",
            'most = max(rows, key=lambda row: float(row["error"]))',
            "most = rows[0]",
            "the first error stands for the worst",
        ),
    ),
)
