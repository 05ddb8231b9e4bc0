"""A rank's sends and receives of one step, started in the order of all messages and waited for as late as they can be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.parallel.messages import Message, Unit
from hwprofiles.calibration.parallel.order import Action
from hwprofiles.problem import Problem


@dataclass(frozen=True, slots=True)
class MessageForm:
    """What every message is: outputs of stages and their gradients, (b, s, h)."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


class Mailbox:
    """The messages of one rank in one step.

    messages: this rank's, in the order of all. Gradients and outputs that stay on the rank are put in and taken out as well.
    Raises CalibrationError where a message does not come within timeout_s, the process at its other end is gone, or a value has
    another form.
    """

    def __init__(
        self, rank: int, messages: Sequence[Message], form: MessageForm, group: Any, timeout_s: float | None
    ) -> None:
        self._rank, self._form, self._group = rank, form, group
        self._timeout = None if timeout_s is None else timedelta(seconds=timeout_s)
        self._messages = messages
        self._of = {message.unit: message for message in messages}
        self._next = 0
        self._here: dict[Unit, Tensor] = {}
        self._received: dict[Unit, tuple[Any, Tensor]] = {}
        self._sent: dict[Message, tuple[Any, Tensor]] = {}

    def start(self, tag: int) -> None:
        """Starts this rank's messages of lower tags in their order, up to a send whose value is not there yet."""
        while self._next < len(self._messages) and self._messages[self._next].tag < tag:
            message = self._messages[self._next]
            if message.source == self._rank:
                if message.unit not in self._here:
                    return
                value = self._here.pop(message.unit).contiguous()
                work = dist.isend(value, group=self._group, group_dst=message.target, tag=message.tag)
                self._sent[message] = work, value
            else:
                value = torch.empty(self._form.shape, dtype=self._form.dtype, device=self._form.device)
                work = dist.irecv(value, group=self._group, group_src=message.source, tag=message.tag)
                self._received[message.unit] = work, value
            self._next += 1

    def put(self, unit: Unit, value: Tensor) -> None:
        """Hands over what a pass yields: sends it where another rank needs it."""
        self._here[unit] = value
        if unit in self._of:
            self._refuse_another_form(self._of[unit], value)
            self.start(self._of[unit].tag + 1)

    def take(self, unit: Unit, action: Action) -> Tensor:
        """What a pass needs, waited for; its receive has been started."""
        if unit not in self._of:
            return self._here.pop(unit)
        message = self._of[unit]
        work, value = self._received.pop(unit)
        self._wait(work, f"at {action} waits for {message} from rank {message.source}")
        return value

    def let_go(self, place: int | None) -> None:
        """Waits for the sends that the receivers have done with before the rank's action at `place`; None: for all."""
        done = [message for message in self._sent if place is None or message.last_use == place]
        for message in done:
            work, _ = self._sent.pop(message)
            self._wait(work, f"waits until rank {message.target} has {message}")

    def _refuse_another_form(self, message: Message, value: Tensor) -> None:
        if (tuple(value.shape), value.dtype) != (self._form.shape, self._form.dtype):
            told = (
                f"{message} is {value.dtype} {tuple(value.shape)}; messages are {self._form.dtype} {self._form.shape}"
            )
            raise CalibrationError([Problem("", "form", told)])

    def _wait(self, work: Any, words: str) -> None:
        try:
            if self._timeout is None:
                work.wait()
            else:
                work.wait(self._timeout)
        except RuntimeError as error:
            raise CalibrationError([Problem("", "pipeline", f"rank {self._rank} {words}: {error}")]) from error
