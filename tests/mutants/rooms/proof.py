"""Faults of the torch model's kernels as they are counted, of its measurement and of the comparison of both."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

PROOF = Room(
    "proof",
    (
        "tests/workload/test_torch_modules.py",
        "tests/workload/test_own_modules.py",
        "tests/validation/test_proof.py",
        "tests/hwprofiles/test_proof_tool.py",
    ),
    (
        Fault(
            "simulator/workload/modules/moesim_torch.py",
            "SWIGLU_BWD: Final = (96, 10)",
            "SWIGLU_BWD: Final = (86, 9)",
            "a function of the activation's backward is forgotten",
        ),
        Fault(
            "simulator/workload/modules/chains.py",
            "    if not share:",
            "    if share:",
            "gradients of later micro-batches are not added to earlier ones",
        ),
        Fault(
            "simulator/workload/modules/moesim_fp8.py",
            'yield widened(f"{layer}_grad_cast", numbers, "W")',
            "yield from ()",
            "BF16 gradients of weights are not cast",
        ),
        Fault(
            "simulator/workload/modules/moesim_own.py",
            "return by_rows(op.name, op.shape.m, op.shape.n, op.phase)",
            "return op",
            "gradients are turned though weights are frozen",
        ),
        Fault(
            "simulator/workload/modules/moesim_fp8.py",
            'elif not (is_gated and (layer.endswith("_up") or layer == "expert_down")):',
            'elif not (is_gated and layer == "expert_down"):',
            "what an activation has quantised is quantised again",
        ),
        Fault(
            "validation/proof/predict.py",
            'elif op.phase == phase or (phase == "B" and op.phase != "F"):',
            "elif op.phase == phase:",
            "a backward has nothing in it",
        ),
        Fault(
            "hwprofiles/calibration/proof/store.py",
            'rows = [row for row in rows if row["name"] != cut]',
            "rows = list(rows)",
            "a case that was cut off is taken for measured",
        ),
    ),
)
