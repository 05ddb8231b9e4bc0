"""Faults of what torch counts, and of what the simulator counts beside it."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

COUNTING = "hwprofiles/calibration/counting"
MODEL = "hwprofiles/calibration/model"

TORCH_COUNTS = Room(
    "torch-counts",
    (
        "tests/hwprofiles/model/test_flop_counting.py",
        "tests/hwprofiles/model/test_kept_bytes.py",
        "tests/hwprofiles/model/test_counting_check.py",
    ),
    (
        Fault(
            f"{COUNTING}/flop.py",
            "(torch.is_grad_enabled() or recompute.is_again())",
            "torch.is_grad_enabled()",
            "projections made again count as input gradients",
        ),
        Fault(
            f"{COUNTING}/flop.py",
            "return (self.k, self.m, self.n) if",
            "return (self.k, self.n, self.m) if",
            "a weight's gradient is that of the transposed layer",
        ),
        Fault(
            f"{COUNTING}/formulas.py",
            "return (a[0], b[-1], a[1], b[0] if len(b) == 3 else 1)",
            "return (a[0], b[-1], a[1] * (b[0] if len(b) == 3 else 1), 1)",
            "every row of a grouped product meets every expert",
        ),
        Fault(
            f"{COUNTING}/origins.py",
            'origin: Origin = "data" if "data" in origins else',
            'origin: Origin = "data" if "data" in origins or "constant" in origins else',
            "a weight that is scaled is no weight",
        ),
        Fault(
            f"{COUNTING}/kept.py",
            "result.setdefault(storage._cdata, entry)",
            "result.setdefault(packed.number, entry)",
            "a storage counts as often as it is saved",
        ),
        Fault(
            f"{COUNTING}/kept.py",
            "tensor.detach(), module, number",
            "tensor, module, number",
            "a saved output holds its own graph",
        ),
        Fault(
            f"{MODEL}/mtp.py",
            '"rmsnorm" in recompute, "layer" in recompute',
            '"rmsnorm" in recompute, False',
            "a multi-token-prediction module keeps its projection under recompute of whole layers",
        ),
        Fault(
            f"{MODEL}/mla.py",
            "if is_up_again and not has_latent:",
            "if False:",
            "direct queries stay in memory though they are computed again",
        ),
        Fault(
            f"{MODEL}/gqa.py",
            'keeps_input="attention" not in recompute',
            "keeps_input=False",
            "attention's output stays in FP8 beside itself",
        ),
        Fault(
            f"{MODEL}/experts.py",
            "counts, keeps_input=is_again)",
            "counts, keeps_input=False)",
            "the experts' product stays in FP8 though it is made again",
        ),
        Fault(
            "simulator/workload/stages.py",
            '(before.is_behind_head or before is PARTS["L"])',
            "before.is_behind_head",
            "the main head's input is kept a second time for the module behind it",
        ),
        Fault(
            "simulator/workload/layers/mla.py",
            "if recompute and not a.q_lora_rank:",
            "if False:",
            "direct queries are computed again without their product",
        ),
    ),
)
