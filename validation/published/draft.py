"""A scenario in the making: keys that the row gives, keys that are assumed, and why it cannot be stated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

REASONS: Final[dict[str, str]] = {
    "no precision given": "input",
    "no GPU count given": "input",
    "no model dimensions given": "input",
    "no vocabulary size given": "input",
    "no layout given": "input",
    "no sequence length given": "input",
    "no global batch size given": "input",
    "recompute modules not named": "input",
    "schedule not known": "input",
    "kind of attention not known": "input",
    "documents of packed sequences not given": "input",
    "precision not resolved": "input",
    "columns contradict each other": "input",
    "bad value": "input",
    "case_id is there twice": "input",
    "cannot be read": "input",
    "unknown GPU": "mechanism",
    "per-tensor FP8": "mechanism",
    "row-wise FP8": "mechanism",
    "MXFP8": "mechanism",
    "NVFP4": "mechanism",
    "FP16": "mechanism",
    "INT8": "mechanism",
    "Mamba layers": "mechanism",
    "sparse attention": "mechanism",
    "LoRA": "mechanism",
    "zero-bubble schedules": "mechanism",
    "refused by moesim": "mechanism",
}
"""Why a row cannot be stated → whether an input or a mechanism is missing. Closed: nothing else is said."""


@dataclass(frozen=True)
class Assumed:
    """A key that the row does not give: its dotted path, the value taken, and where that comes from.

    is_sourced: whether the framework release's file says it, with its source.
    """

    key: str
    value: Any
    why: str
    is_sourced: bool = False


@dataclass
class Draft:
    """What has been found out about a row. release: the framework's, None where it is not known; read: keys from columns that
    its source fills; missing: reasons with a detail; beside: what was run and no key can say.
    """

    release: str | None = None
    scenario: dict[str, Any] = field(default_factory=dict)
    assumed: list[Assumed] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    beside: list[str] = field(default_factory=list)

    def give(self, key: str, value: Any) -> None:
        """A key that the row, or its source, gives."""
        *path, last = key.split(".")
        section = self.scenario
        for name in path:
            section = section.setdefault(name, {})
        section[last] = value

    def gives(self, key: str) -> bool:
        """Whether the key was given or assumed."""
        node: Any = self.scenario
        for name in key.split("."):
            if not isinstance(node, dict) or name not in node:
                return False
            node = node[name]
        return True

    def assume(self, key: str, value: Any, why: str) -> None:
        """A key that it does not give."""
        self.give(key, value)
        self.assumed.append(Assumed(key, value, why))

    def lack(self, reason: str, detail: str = "") -> None:
        """A reason why the row cannot be stated. Raises KeyError for one that is not in the closed list."""
        REASONS[reason]
        self.missing.setdefault(reason, detail)
