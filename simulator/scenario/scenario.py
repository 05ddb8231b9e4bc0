"""The scenario: everything that a prediction depends on, resolved, frozen and comparable."""

from __future__ import annotations

import datetime
import hashlib
import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PrivateAttr

from hwprofiles.stack_choice import StackKind
from simulator.scenario.cluster import Cluster
from simulator.scenario.host import Host
from simulator.scenario.model import ModelSpec
from simulator.scenario.offload import Offload
from simulator.scenario.parallel import DataParallel, Parallel, ParallelOrAuto
from simulator.scenario.phase import Phase
from simulator.scenario.plan import (
    AssumptionOverride,
    Device,
    Head,
    Kernels,
    Mechanisms,
    Moe,
    Precision,
    Prices,
    Recompute,
    Training,
)
from simulator.scenario.releases import SetSwitch
from simulator.scenario.section import AsTuple, Section, named

SCHEMA_VERSION = 1


def _iso_date(value: Any) -> Any:
    """An ISO date text of this century as a date; anything else is left for the schema to refuse."""
    if isinstance(value, str) and len(value) == len("2026-01-31") and value.startswith("20"):
        try:
            return datetime.date.fromisoformat(value)
        except ValueError:
            return value
    return value


IsoDate = Annotated[datetime.date, BeforeValidator(_iso_date, json_schema_input_type=datetime.date)]


@dataclass(frozen=True, slots=True)
class Base:
    """What a scenario was before its GPU was changed: what `moesim run` takes to get it, its GPU, its stack.

    stack_kind: what the stack rests on, "measured" or "transferred".
    """

    name: str
    gpu: str
    stack: str
    stack_kind: StackKind


class Scenario(Section):
    """One training run to predict. Made by `load_scenario`; the keys are those of the scenario file.

    Invariants (scenario/rules.py): the degrees divide the GPUs, the experts and the batch; layers fit the stages;
    nothing stands in it whose mechanism does not exist. Two scenarios are equal where every field is, whatever files
    they came from.
    """

    schema_version: Literal[1]
    name: Annotated[str, Field(min_length=1, max_length=200)] = "scenario"
    """Text for people; it is part of no path and no formula."""
    model: ModelSpec
    cluster: Cluster
    stack: Annotated[str, Field(min_length=1, max_length=200)]
    """Kernel and collective measurements: a name of `moesim list stacks`, or the path of a folder, relative to this file, as
    `moesim calibrate` writes it; default: those of the node's GPU."""
    framework: Annotated[str, named("framework release")] | None = None
    """name@release: its switches (`moesim list frameworks`) are the defaults of all other keys; null: not known."""
    kernels: Kernels = Kernels()
    parallel: ParallelOrAuto = Parallel()
    data_parallel: DataParallel = DataParallel()
    training: Training = Training()
    precision: Precision = Precision()
    moe: Moe = Moe()
    recompute: Recompute = Recompute()
    offload: Offload = Offload()
    head: Head = Head()
    host: Host = Host()
    device: Device = Device()
    phases: Annotated[tuple[Phase, ...], Field(min_length=1, max_length=100), AsTuple] = (
        Phase(name="pretrain", steps=1),
    )
    """Parts of the run, in order; default: a single step."""
    prices: Prices | None = None
    """null: no cost is computed."""
    assumptions: dict[str, AssumptionOverride] = Field(default_factory=dict)
    """Overrides of stated assumptions by key."""
    mechanisms: Mechanisms = Mechanisms()
    draws: Annotated[int, Field(ge=1, le=10_000)] = 32
    """Random draws that a prediction is the mean of."""
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    start_date: IsoDate | None = None
    currency: Literal["USD"] = "USD"

    _origins: dict[str, tuple[float, str]] = PrivateAttr(default_factory=dict)
    _defaults_used: tuple[str, ...] = PrivateAttr(default=())
    _switches: tuple[SetSwitch, ...] = PrivateAttr(default=())
    _warnings: tuple[str, ...] = PrivateAttr(default=())
    _base: Base | None = PrivateAttr(default=None)
    _dropped: tuple[str, ...] = PrivateAttr(default=())
    _own: tuple[Scenario, tuple[Scenario, ...]] | None = PrivateAttr(default=None)
    """(this scenario, what each of its phases trains): simulator/scenario/phase_scenarios.py; a copy makes its own."""

    @property
    def defaults_used(self) -> tuple[str, ...]:
        """Dotted paths of the keys that no file and no option gave."""
        return self._defaults_used

    @property
    def framework_switches(self) -> tuple[SetSwitch, ...]:
        """What the framework's release says of keys that no file and no option gave, each with its source."""
        return self._switches

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the loader found odd and kept, one line each."""
        return self._warnings

    @property
    def dropped(self) -> tuple[str, ...]:
        """Inherited values that fell because the key that they were chosen for changed, one text each."""
        return self._dropped

    @property
    def base(self) -> Base | None:
        """The preset or file whose GPU was changed; None where the scenario stands on its own GPU."""
        return self._base

    def where(self, *fields: str) -> str:
        """Position of the dotted key that was given last of several: "FILE:LINE", or the option.

        A key that was not given stands for its nearest parent that was; "" where there is none.
        """
        return self.origin(self.given_last(*fields))[1]

    def given_last(self, *fields: str) -> str:
        """The dotted key that was given last of several; of those of one file the first one named."""
        return max(fields, key=lambda field: self.origin(field)[0])

    def is_given(self, field: str) -> bool:
        """Whether a file or an option gave the key, or something below it."""
        return any(known == field or known.startswith(f"{field}.") for known in self._origins)

    def origin(self, field: str) -> tuple[float, str]:
        """(number that grows with later layers and options, position) of a dotted key or of its nearest parent; (0, "")
        where there is none.
        """
        while field:
            if field in self._origins:
                return self._origins[field]
            field = field.rpartition(".")[0]
        return 0, ""

    def canonical(self) -> dict[str, Any]:
        """The scenario as plain JSON values, every key present; loading it again gives an equal scenario."""
        return self.model_dump(mode="json")

    @property
    def scenario_sha256(self) -> str:
        """Hash of the canonical JSON: keys sorted, no spaces."""
        text = json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Scenario) and self.canonical() == other.canonical()

    def __hash__(self) -> int:
        return hash(self.scenario_sha256)
