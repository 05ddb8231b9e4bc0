"""The mixture-of-experts layer: router, routed experts, shared experts. No token is dropped.

y = sum of the token's experts' outputs, each times its weight, plus the shared experts' output (DeepSeek-V3 report 2.1.2,
equation 12, without the residual, which the transformer layer adds).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from hwprofiles.calibration.errors import CalibrationError, refuse
from hwprofiles.calibration.model.attached import attach_loss
from hwprofiles.calibration.model.balance import Balancing, balance_loss
from hwprofiles.calibration.model.config import Moe, moe_problems
from hwprofiles.calibration.model.dispatch import Dispatcher, LocalDispatch, expert_counts
from hwprofiles.calibration.model.experts import Experts, experts_per_rank
from hwprofiles.calibration.model.ffn import Ffn
from hwprofiles.calibration.model.recompute import checkpointed, is_again
from hwprofiles.calibration.model.router import Router, Routing
from hwprofiles.calibration.numerics.numerics import Numerics
from hwprofiles.problem import Problem


class MoeLayer(nn.Module):
    """Router and experts; `dispatcher` says on which process an expert is.

    loss_scale: factor of the balance loss; who cuts a step into n micro-batches and divides their losses by n sets 1 / n.
    loads: (e,) int64, rows of each expert since `take_loads`, from this process's tokens; a recomputed pass counts once.
    recompute: names of `recompute.MODULES`; swiglu and shared_expert are this layer's.
    Raises CalibrationError: sizes that contradict one another; experts that the dispatcher's ranks cannot share evenly; a bias
    rule on a router without bias.
    """

    def __init__(
        self,
        config: Moe,
        hidden: int,
        numerics: Numerics,
        balancing: Balancing | None = None,
        dispatcher: Dispatcher | None = None,
        *,
        recompute: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__()
        self.config, self.hidden, self.numerics, self.recompute = config, hidden, numerics, recompute
        self.balancing = Balancing.of(config) if balancing is None else balancing
        self.dispatcher: Dispatcher = LocalDispatch() if dispatcher is None else dispatcher
        self.loss_scale = 1.0
        refuse([Problem("", field, message) for field, message in _problems(config, hidden, self.balancing)])
        local = experts_per_rank(config.num_experts, self.dispatcher.ranks)
        self.router = Router(config, hidden, numerics)
        self.experts = Experts(
            config, hidden, numerics, local, first_expert=self.dispatcher.rank * local, recompute=recompute
        )
        self.shared = _shared(config, hidden, numerics, recompute) if config.num_shared else None
        self.loads: Tensor
        self.register_buffer("loads", torch.zeros(config.num_experts, dtype=torch.int64), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (b, s, h): (b, s, h)."""
        flat, num_sequences = self.flat(x), x.shape[0]
        routing = self.route(flat, num_sequences)
        if isinstance(self.dispatcher, LocalDispatch) and self.experts.is_gated(flat.device):
            combined = self.experts.of_tokens(flat, self.dispatcher.place(routing))
        else:
            received = self.dispatcher.dispatch(flat, routing)
            rows = self.experts(received.rows, received.counts, received.row_weights)
            combined = self.dispatcher.combine(rows, received)
        return self.finish(combined, self.share(flat)).unflatten(0, (num_sequences, -1))

    def flat(self, x: Tensor) -> Tensor:
        """(t, h) of x (b, s, h), in the activations' format."""
        if x.dim() != 3 or x.shape[2] != self.hidden or not x.numel() or not x.is_floating_point():
            message = (
                f"tokens of shape {tuple(x.shape)}; allowed (sequences, tokens, {self.hidden}), at least one token; "
                f"of {x.dtype}; allowed a floating-point format"
            )
            raise CalibrationError([Problem("", "hidden_size", message)])
        return self.numerics.rounded(x).flatten(0, 1)

    def route(self, x: Tensor, num_sequences: int) -> Routing:
        """x: (t, h). Counts the loads, and attaches the balance loss to the weights, whose gradient always comes back."""
        routing: Routing = self.router(x)
        if not is_again():
            self.loads += expert_counts(routing.experts, self.config.num_experts)
        loss = balance_loss(routing, self.config, self.balancing, num_sequences)
        if loss is None:
            return routing
        return replace(routing, weights=attach_loss(routing.weights, loss, self.loss_scale))

    def share(self, x: Tensor) -> Tensor | None:
        """(t, h): what the shared experts make of x (t, h); None where there are none."""
        if self.shared is None:
            return None
        shared: Tensor = checkpointed(self.shared, x) if "shared_expert" in self.recompute else self.shared(x)
        return shared

    def finish(self, combined: Tensor, shared: Tensor | None) -> Tensor:
        """(t, h): the sums of the routed experts' rows, and what the shared experts gave."""
        routed = self.numerics.rounded(combined)
        return routed if shared is None else self.numerics.rounded(routed + shared)

    def take_loads(self) -> Tensor:
        """The loads since the last call."""
        taken = self.loads.clone()
        self.loads.zero_()
        return taken

    def update_bias(self, loads: Tensor) -> None:
        """Moves the bias after a step by its loads (e,), all ranks together; nothing where the rule is another."""
        if self.balancing.rule == "bias":
            self.router.update_bias(loads, self.balancing.bias_rate)


def _problems(config: Moe, hidden: int, balancing: Balancing) -> Iterator[tuple[str, str]]:
    """(key, message) of what cannot be."""
    if not isinstance(hidden, int) or hidden < 1:
        yield "hidden_size", f"is {hidden!r}; a whole number of at least 1"
    yield from moe_problems(config)
    if balancing.rule == "bias" and not config.has_bias:
        yield (
            "balancing.rule",
            "is 'bias', and the model's router has none; allowed aux_loss, none, or set moe.router_bias",
        )


def _shared(config: Moe, hidden: int, numerics: Numerics, recompute: frozenset[str]) -> Ffn:
    """The shared experts together: one network as wide as all of them."""
    return Ffn(replace(config.expert, width=config.num_shared * config.expert.width), hidden, numerics, recompute)
