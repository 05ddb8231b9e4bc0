"""Faults of experts on several processes."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

ROOT = "hwprofiles/calibration/parallel"

EXPERT_PARALLEL = Room(
    "expert_parallel",
    ("tests/hwprofiles/model/test_expert_parallel.py",),
    (
        Fault(
            f"{ROOT}/layout.py",
            "return Spread.of(order // k, (local < num_experts).sum(1)), counts, order % k",
            "return Spread.of(order // k, (local < num_experts).sum(1)), counts, order * 0",
            "a row bears the weight of its token's first expert",
        ),
        Fault(
            f"{ROOT}/layout.py",
            "sum(self.splits.send) - self.splits.send[self.rank]",
            "sum(self.splits.send)",
            "what a rank keeps counts as sent",
        ),
        Fault(
            f"{ROOT}/layout.py",
            "num_copies.cumsum(0) - num_copies",
            "num_copies.cumsum(0)",
            "a row's sum is that of the next row's copies",
        ),
        Fault(
            f"{ROOT}/expert_dispatch.py",
            'thin = torch.bfloat16 if self._wire != "as_is" else rows.dtype',
            'thin = torch.bfloat16 if self._wire == "fp8" else rows.dtype',
            "a combine travels in FP32 where BF16 was asked for",
        ),
        Fault(
            f"{ROOT}/wire.py",
            "quantise(x, _ROW, power_of_two=True)",
            "quantise(x, _ROW, power_of_two=False)",
            "scales of a dispatch are no powers of two",
        ),
        Fault(
            f"{ROOT}/overlap.py",
            "_, losses = in_turn(backward, forward(model, tokens, tape))",
            "losses, _ = in_turn(forward(model, tokens, tape), backward)",
            "a dispatch goes before the combine that the other micro-batch waits for",
        ),
        Fault(
            f"{ROOT}/groups.py",
            "_group_of(ranks[index::ranks_per_node], me, timeout_s)",
            "_group_of(ranks[index :: size // ranks_per_node], me, timeout_s)",
            "ranks of one index are found by the number of nodes, not by their size",
        ),
        Fault(
            f"{ROOT}/step_end.py",
            "if weight.requires_grad and id(weight) not in own]",
            "if weight.requires_grad]",
            "experts' gradients are added up, though each rank has others",
        ),
        Fault(
            f"{ROOT}/step_end.py",
            "    sum_over(loads, group.whole)\n",
            "",
            "a bias is moved by the loads of one rank's tokens",
        ),
        Fault(
            f"{ROOT}/expert_dispatch.py",
            "if routing.scores.shape[1] != self.group.num_experts:",
            "if False:",
            "experts that the group does not know are dropped",
        ),
    ),
)
