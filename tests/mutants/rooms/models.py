"""Faults of kinds of models and of what is recomputed or dropped."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

ROOT = "simulator/workload"

MODELS = Room(
    "models",
    ("tests/workload", "tests/assembly", "tests/scenario"),
    (
        Fault(
            f"{ROOT}/capacity.py",
            "return self.limit if self.is_padded else self.kept",
            "return self.kept",
            "padded experts run only the rows that they received",
        ),
        Fault(
            f"{ROOT}/capacity.py",
            "left = np.minimum(x, limit)",
            "left = np.minimum(x, 1.0)",
            "every capacity is the even share",
        ),
        Fault(
            f"{ROOT}/capacity.py",
            "dropped ** (top_k / places_per_token)",
            "dropped",
            "a node is missed as soon as one of a token's experts there drops it",
        ),
        Fault(
            f"{ROOT}/expert_load.py",
            "return np.asarray(cut + room *",
            "return np.asarray(cut + 0.0 * room *",
            "what is cut of the fullest rank is lost a second time",
        ),
        Fault(
            "simulator/step/routing.py",
            "limit=capacity.limit / capacity.kept,",
            "limit=capacity.limit,",
            "the limit of a rank's load is over the even share, its load over what is kept",
        ),
        Fault(
            f"{ROOT}/layers/experts.py",
            "(r.capacity.kept / r.capacity.rows)",
            "(r.capacity.rows / r.capacity.rows)",
            "rows of zeros are the model's work",
        ),
        Fault(
            "hwprofiles/kernels/attention.py",
            "inside = min(share * mean + 2.0 * edge + fixed, most)",
            "inside = min(share * mean, most)",
            "a window's queries cost no more than their keys",
        ),
        Fault(
            f"{ROOT}/layers/embedding.py",
            "return Params(dense=matrix + positions, gemm=0, replicated=positions)",
            "return Params(dense=matrix, gemm=0)",
            "learned positions are no parameters",
        ),
        Fault(
            "simulator/workload/layers/expert_parts.py",
            "return m.clamp is not None and not r.fuses_experts",
            "return m.clamp is not None",
            "a limit takes functions of its own in software that fuses it",
        ),
        Fault(
            "simulator/workload/layers/expert_parts.py",
            "1 + (launches - 1) * local",
            "launches",
            "biases of all experts are added by one launch",
        ),
        Fault(
            "simulator/workload/layers/expert_parts.py",
            "if r.pads_by_copy and r.row_padding > 1:",
            "if r.pads_by_copy:",
            "rows that need no padding are copied",
        ),
        Fault(
            "simulator/workload/layers/gqa.py",
            "if a.rope_scale == 1.0 or r.fuses_scaled_rope else",
            "if r.fuses_scaled_rope else",
            "a rotation without a factor is no kernel",
        ),
        Fault(
            "simulator/workload/layers/gqa.py",
            "if r.groups_heads and a.rope and 1 < a.num_kv_heads < a.num_heads:",
            "if r.groups_heads and a.rope:",
            "queries of one key head are copied",
        ),
    ),
)
