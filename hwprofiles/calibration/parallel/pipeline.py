"""Executes a pipeline schedule: each rank its own actions, in their order, with one process a pipeline rank.

What comes out is what plain training on one process gives: the mean loss over the micro-batches, and its gradients. Gradients
are divided by the number of micro-batches at the end, those of the balance losses with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hwprofiles.calibration.errors import CalibrationError, refuse
from hwprofiles.calibration.parallel.copies import holders_of, named_tensors, summed
from hwprofiles.calibration.parallel.mailbox import Mailbox, MessageForm
from hwprofiles.calibration.parallel.messages import needs_of, traffic_of
from hwprofiles.calibration.parallel.order import Action, Order, Pass
from hwprofiles.problem import Problem


@dataclass(frozen=True, slots=True)
class StepLoss:
    """losses: of each micro-batch, the same on every rank. most_in_flight: micro-batches of a stage whose graphs were kept at
    once on this rank, at most."""

    losses: tuple[float, ...]
    most_in_flight: int

    @property
    def loss(self) -> float:
        """The mean over the micro-batches."""
        return sum(self.losses) / len(self.losses)


class Pipeline:
    """One rank of a pipeline.

    stages: those that the order places on this rank, by number. A stage is called as stage(x, tokens), x being the output of
    the stage in front (None in the first), tokens the micro-batch's; it gives a tensor of the messages' form, the last one its
    loss (a scalar). Parameters of one name are one parameter: its copies on several ranks must start equal (buffers too), and
    get equal gradients. form: of the messages. group: a process group of as many ranks as the order has (None: all); a group
    of one rank need not exist. timeout_s: longest wait for a message (None: the group's own).
    Raises CalibrationError: an order that deadlocks, another number of processes or other stages than the order's, copies that
    differ.
    """

    def __init__(
        self, order: Order, stages: Mapping[int, nn.Module], form: MessageForm, *, group: Any = None,
        timeout_s: float | None = None,
    ) -> None:  # fmt: skip
        self.order, self.stages, self._form, self._group, self._timeout_s = order, stages, form, group, timeout_s
        traffic = traffic_of(order)
        size: int = dist.get_world_size(group) if dist.is_initialized() else 1
        self.rank: int = dist.get_rank(group) if dist.is_initialized() else 0
        refuse(_problems(order, size, self.rank, stages))
        self._messages = [each for each in traffic.messages if self.rank in (each.source, each.target)]
        self._due = traffic.due[self.rank]
        tensors = named_tensors(stages[stage] for stage in sorted(stages))
        self._holders = holders_of(tensors, group) if size > 1 else {}
        self._parameters = {name: tensor for name, tensor in tensors.items() if isinstance(tensor, nn.Parameter)}

    def step(self, micro_batches: Sequence[Tensor]) -> StepLoss:
        """One step: every parameter's `grad` becomes that of the mean loss (what it held before is dropped).

        micro_batches: tokens of each, the same on every rank. Raises CalibrationError: another number than the order has, some
        longer than others (the mean of their losses is not that of their tokens), a message that does not come.
        """
        if len(micro_batches) != self.order.num_micro_batches:
            message = f"{len(micro_batches)} given; the schedule {self.order.name} has {self.order.num_micro_batches}"
            raise CalibrationError([Problem("", "micro_batches", message)])
        shapes = sorted({tuple(tokens.shape) for tokens in micro_batches})
        if len(shapes) > 1:
            message = f"are of shapes {', '.join(map(str, shapes))}; all have to be alike"
            raise CalibrationError([Problem("", "micro_batches", message)])
        for parameter in self._parameters.values():
            parameter.grad = None
        mailbox = Mailbox(self.rank, self._messages, self._form, self._group, self._timeout_s)
        passes = _Passes(self.order, self.stages, micro_batches, mailbox)
        due = self._due
        for place, action in enumerate(self.order.ranks[self.rank]):
            mailbox.start(due[place])
            mailbox.let_go(place)
            mailbox.start(due[min(place + 1, len(due) - 1)])  # the next action's receives are under way during this one
            for p in action.passes:
                passes.run(p, action)
        mailbox.let_go(None)
        losses = self._everyones(passes.losses)
        self._finish_gradients()
        return StepLoss(losses, passes.most_in_flight)

    def summed(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Values of this rank by the name of a parameter or buffer; of those with copies on other ranks the sum over them.

        Every rank calls it, with a value of each name that it holds of those that any rank gives.
        """
        return summed(values, self._holders, self.rank, self._group)

    def _finish_gradients(self) -> None:
        """Sums those of copies (none counts as zero), and divides all by the number of micro-batches."""
        gradients = {
            name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            for name, parameter in self._parameters.items()
            if parameter.grad is not None or name in self._holders
        }
        for name, gradient in self.summed(gradients).items():
            self._parameters[name].grad = gradient.div_(self.order.num_micro_batches)

    def _everyones(self, losses: Mapping[int, Tensor]) -> tuple[float, ...]:
        """The losses of all micro-batches, each known to the rank that had it: summed with the others' zeros."""
        table = torch.zeros(self.order.num_micro_batches, dtype=torch.float64, device=self._form.device)
        for micro_batch, loss in losses.items():
            table[micro_batch] = loss
        if self.order.num_ranks > 1:
            dist.all_reduce(table, group=self._group)
        return tuple(table.tolist())


class _Passes:
    """The passes of one rank in one step, and what is kept between those of a micro-batch.

    _kept: (stage, micro-batch) → input, output with its graph, from F until B or W. _late: the output's gradient, from I to W.
    """

    def __init__(
        self, order: Order, stages: Mapping[int, nn.Module], micro_batches: Sequence[Tensor], mailbox: Mailbox
    ) -> None:
        self._order, self._stages, self._micro_batches, self._mailbox = order, stages, micro_batches, mailbox
        self._kept: dict[tuple[int, int], tuple[Tensor | None, Tensor]] = {}
        self._late: dict[tuple[int, int], Tensor | None] = {}
        self.losses: dict[int, Tensor] = {}
        self.most_in_flight = 0

    def run(self, p: Pass, action: Action) -> None:
        """Runs one pass; action: the entry that it belongs to, for messages."""
        need = needs_of(self._order, p)
        given = None if need is None else self._mailbox.take(need, action)
        key = p.stage, p.micro_batch
        if p.kind == "F":
            self._forward(p, given)
        elif p.kind == "B":
            x, y = self._kept.pop(key)
            if y.requires_grad:  # else the first stage has no weight that is trained
                torch.autograd.backward(y, given)
            self._pass_on(p, x)
        elif p.kind == "I":
            x, y = self._kept[key]
            self._late[key] = given
            if x is not None:
                torch.autograd.backward(y, given, inputs=[x], retain_graph=True)
            self._pass_on(p, x)
        else:
            _, y = self._kept.pop(key)
            late, weights = self._late.pop(key), [w for w in self._stages[p.stage].parameters() if w.requires_grad]
            if weights:
                # Walks the gradients of the activations once more: what W alone would need of them, torch does not keep.
                torch.autograd.backward(y, late, inputs=weights)

    def _forward(self, p: Pass, x: Tensor | None) -> None:
        if x is not None:
            x = x.requires_grad_()
        y = self._stages[p.stage](x, self._micro_batches[p.micro_batch])
        self._kept[p.stage, p.micro_batch] = x, y
        self.most_in_flight = max(self.most_in_flight, len(self._kept))
        if p.stage == self._order.num_stages - 1:
            self.losses[p.micro_batch] = y.detach()
        else:
            self._mailbox.put(("output", p.stage, p.micro_batch), y.detach())

    def _pass_on(self, p: Pass, x: Tensor | None) -> None:
        if x is not None:
            assert x.grad is not None
            self._mailbox.put(("gradient", p.stage, p.micro_batch), x.grad)


def _problems(order: Order, size: int, rank: int, stages: Mapping[int, nn.Module]) -> list[Problem]:
    if size != order.num_ranks:
        message = f"the schedule has {order.num_ranks} ranks, the group {size}; start {order.num_ranks} processes"
        return [Problem("", "pp", message)]
    if tuple(sorted(stages)) != order.placement[rank]:
        held, given = (", ".join(map(str, which)) for which in (order.placement[rank], sorted(stages)))
        return [Problem("", "stages", f"rank {rank} holds {held} in the schedule; given {given}")]
    return []
