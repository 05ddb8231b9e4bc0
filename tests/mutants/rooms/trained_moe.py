"""Faults of the router that is trained, its balancing and its experts."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

TRAINED_MOE = Room(
    "trained_moe",
    (
        "tests/hwprofiles/model/test_router.py",
        "tests/hwprofiles/model/test_router_balance.py",
        "tests/hwprofiles/model/test_experts.py",
        "tests/hwprofiles/model/test_moe_layer.py",
    ),
    (
        Fault(
            "hwprofiles/calibration/model/router.py",
            "experts = select(biased, self.config)",
            "experts = select(scores.detach(), self.config)",
            "the bias does not steer the choice",
        ),
        Fault(
            "hwprofiles/calibration/model/router.py",
            "best(grouped.topk(top, dim=2).values.sum(2), config.max_groups)",
            "best(grouped.amax(2), config.max_groups)",
            "a group counts by its best expert alone",
        ),
        Fault(
            "hwprofiles/calibration/model/router.py",
            "self.bias += rate * below.sign().to(self.bias)",
            "self.bias -= rate * below.sign().to(self.bias)",
            "the bias moves with the load",
        ),
        Fault(
            "hwprofiles/calibration/model/balance.py",
            "balancing.sequence_weight, num_sequences)",
            "balancing.sequence_weight, 1)",
            "the sequence-wise loss looks at all sequences together",
        ),
        Fault(
            "hwprofiles/calibration/model/balance.py",
            "grad * ctx.weight / (num_groups * tokens) *",
            "grad * ctx.weight / tokens *",
            "the balance loss pulls with every sequence's whole weight",
        ),
        Fault(
            "hwprofiles/calibration/model/dispatch.py",
            "row_weights = permute(routing.weights.reshape(-1, 1), order, 1).flatten()",
            "row_weights = routing.weights.flatten()",
            "a row bears another row's weight",
        ),
        Fault(
            "hwprofiles/calibration/model/experts.py",
            "_AddBias.apply(result, self.down_bias, counts, row_weights)",
            "_AddBias.apply(result, self.down_bias, counts, None)",
            "an expert's output bias comes in without the row's weight",
        ),
        Fault(
            "hwprofiles/calibration/model/activation.py",
            "return _input_grad(x, grad * row_weights.unsqueeze(1), ctx.kind), weights_grad, None",
            "return _input_grad(x, grad, ctx.kind), weights_grad, None",
            "a row's gradient is without its weight",
        ),
        Fault(
            "hwprofiles/calibration/model/attached.py",
            "torch.full((), ctx.scale,",
            "torch.full((), 1.0,",
            "the balance loss of a micro-batch weighs as much as a step's",
        ),
        Fault(
            "hwprofiles/calibration/model/moe.py",
            "if not is_again():",
            "if self.training:",
            "a recomputed layer counts its loads twice",
        ),
    ),
)
