"""Faults of the kernels whose rates calibration measures."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

RATES = Room(
    "rates",
    ("tests/hwprofiles/test_rate_cases.py",),
    (
        Fault(
            "hwprofiles/calibration/rates/norms.py",
            "return weight * (wide * inverse).to(x.dtype)",
            "return weight * wide.to(x.dtype) * inverse.to(x.dtype)",
            "a norm of plain modules multiplies in BF16, and moves fewer bytes",
        ),
        Fault(
            "hwprofiles/calibration/counting/traffic.py",
            "count *= size if stride or size == 0 else 1",
            "count *= size",
            "what is repeated over a dimension counts as often as it is repeated",
        ),
        Fault(
            "hwprofiles/calibration/rates/dense.py",
            'return gemm_case("dgrad", "bf16", "cublas", (rows, k, n), 2.0, partial(_dgrad, device, rows, k, n))',
            'return gemm_case("dgrad", "bf16", "cublas", (rows, n, k), 2.0, partial(_dgrad, device, rows, k, n))',
            "the cells of an input gradient are those of the forward",
        ),
        Fault(
            "hwprofiles/calibration/rates/grouped.py",
            "return (counts[0] + total - sum(counts), *counts[1:])",
            "return tuple(counts)",
            "uneven loads lose rows",
        ),
        Fault(
            "hwprofiles/calibration/rates/few_sms.py",
            "made = replace(_on(case, max(all_sms - num_sms, 1)), around=partial(held, num_sms))",
            "made = _on(case, max(all_sms - num_sms, 1))",
            "nothing holds the SMs that a row says are held",
        ),
    ),
)
