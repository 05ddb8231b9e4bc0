"""The records of the catalogue: what a GPU, a node, a fabric and a price sheet are, and what a software stack achieves.

A datasheet number is not an achieved number: Gpu, Node and Fabric hold datasheets, Stack holds measurements. All
records are frozen and closed (an unknown key is an error); numbers are SI, bounded and finite; a bandwidth is one way.
In YAML a number under a key that ends in its unit may be bare SI or text with a unit: `nic_bytes_per_s: 400 Gb/s`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from hwprofiles.assumption_units import SWITCH, bounds_problem, unit_problem
from hwprofiles.collectives.rows import CollectiveTable
from hwprofiles.provenance import Basis, Calibration, Date, LooseSource, Source, State
from hwprofiles.units import EXA, GIGA, KILO, MEGA, PETA, TERA, YOTTA, Dimension, quantity

if TYPE_CHECKING:
    from hwprofiles.kernels.rows import KernelTable

__all__ = [
    "Assumption",
    "Commitment",
    "Fabric",
    "Gpu",
    "Node",
    "NumberFormat",
    "Offer",
    "Parameter",
    "PriceEntry",
    "PriceSheet",
    "Stack",
    "StackProvenance",
]


def _read(dimension: Dimension) -> Callable[[Any], Any]:
    return lambda value: quantity(value, dimension)


def _read_whole(dimension: Dimension) -> Callable[[Any], Any]:
    """As `_read`; a whole float ("80 GB", 80e9) becomes the int that it is."""

    def read(value: Any) -> Any:
        number = quantity(value, dimension)
        return int(number) if isinstance(number, float) and number.is_integer() else number

    return read


_TEXT_OR_NUMBER: Any = float | str

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,63}$")]
"""Name of a catalogue entry, and of its file."""
Text = Annotated[str, Field(min_length=1, max_length=2000)]
FlopPerS = Annotated[
    float,
    BeforeValidator(_read("flop_per_s"), json_schema_input_type=_TEXT_OR_NUMBER),
    Field(strict=True, ge=GIGA, le=EXA, allow_inf_nan=False),
]
Bytes = Annotated[
    int,
    BeforeValidator(_read_whole("bytes"), json_schema_input_type=_TEXT_OR_NUMBER),
    Field(strict=True, ge=1, le=int(PETA)),
]
BytesPerS = Annotated[
    float,
    BeforeValidator(_read("bytes_per_s"), json_schema_input_type=_TEXT_OR_NUMBER),
    Field(strict=True, ge=MEGA, le=PETA, allow_inf_nan=False),
]
Hertz = Annotated[
    float,
    BeforeValidator(_read("hz"), json_schema_input_type=_TEXT_OR_NUMBER),
    Field(strict=True, ge=MEGA, le=10 * GIGA, allow_inf_nan=False),
]
Watts = Annotated[
    float,
    BeforeValidator(_read("w"), json_schema_input_type=_TEXT_OR_NUMBER),
    Field(strict=True, ge=1, le=100 * MEGA, allow_inf_nan=False),
]
Seconds = Annotated[
    float,
    BeforeValidator(_read("s"), json_schema_input_type=_TEXT_OR_NUMBER),
    Field(strict=True, gt=0, le=1.0, allow_inf_nan=False),
]
Count = Annotated[int, Field(strict=True, ge=1, le=int(MEGA))]
Months = Annotated[int, Field(strict=True, ge=1, le=1200)]
Usd = Annotated[float, Field(strict=True, ge=0, le=KILO * TERA, allow_inf_nan=False)]
Number = Annotated[float, Field(strict=True, ge=-YOTTA, le=YOTTA, allow_inf_nan=False)]

ScaledFormat = Literal["mxfp8", "nvfp4", "mxfp4"]
NumberFormat = Literal["tf32", "bf16", "fp16", "fp8", "fp4"]


class Record(BaseModel):
    """Base of all records: closed and frozen, with the source of each value."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    sources: dict[str, Source] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _sources_name_fields(self) -> Self:
        known = type(self).model_fields
        for key in self.sources:
            if key.split(".", 1)[0] not in known:
                raise ValueError(f"sources.{key}: no field of that name; allowed {', '.join(sorted(known))}")
        return self

    def unsourced(self) -> tuple[str, ...]:
        """Fields that hold numbers and have no source; a table of numbers may have one source, or one an entry."""
        missing: list[str] = []
        for key, value in self:
            if key in self.sources or isinstance(value, str) or value in (None, ()) or key == "sources":
                continue
            if isinstance(value, Mapping):
                missing += [f"{key}.{entry}" for entry in value if f"{key}.{entry}" not in self.sources]
            else:
                missing.append(key)
        return tuple(missing)


class Gpu(Record):
    """A GPU's datasheet.

    family: its architecture; what is measured on one GPU serves others of its family first.
    peak_flop_per_s: number format → dense tensor-core FLOP/s (no sparsity); bf16 is always there.
    hbm_bytes, hbm_bytes_per_s: as the datasheet prints them; device_bytes: what the driver reports, None where unknown.
    scaled_formats: operands with a scale for a block of 32 or 16 elements that tensor cores read; None: none, or not known.
    fp8_layouts: how FP8 operands lie: "tn", along the reduced dimension only, or in any way.
    num_sms: streaming multiprocessors, or compute units (AMD). l2_bytes: level-2 cache. boost_clock_hz: highest clock.
    tdp_w: power limit of the GPU (of GPU and memory; not of a superchip's CPU).
    usual_tdp_w: of the chip's usual board, on which its kernels were measured, where this one is set lower; None: tdp_w.
    device_names: what drivers and torch call it; (): not known.
    """

    vendor: Text
    family: Name
    peak_flop_per_s: dict[NumberFormat, FlopPerS]
    scaled_formats: tuple[ScaledFormat, ...] | None = None
    fp8_layouts: Literal["tn", "any"] = "any"
    hbm_bytes: Annotated[Bytes, Field(ge=int(GIGA))]
    device_bytes: Annotated[Bytes, Field(ge=int(GIGA))] | None = None
    hbm_bytes_per_s: Annotated[BytesPerS, Field(ge=GIGA)]
    num_sms: Count
    l2_bytes: Bytes | None = None
    boost_clock_hz: Hertz | None = None
    tdp_w: Watts
    usual_tdp_w: Watts | None = None
    device_names: tuple[Text, ...] = ()

    @model_validator(mode="after")
    def _limit_is_below_the_usual(self) -> Self:
        if self.usual_tdp_w is not None and self.usual_tdp_w < self.tdp_w:
            raise ValueError("usual_tdp_w: below tdp_w; leave it out where the board's limit is not set lower")
        return self

    @model_validator(mode="after")
    def _peaks_are_ordered(self) -> Self:
        if "bf16" not in self.peak_flop_per_s:
            raise ValueError("peak_flop_per_s: bf16 is missing")
        order = [self.peak_flop_per_s[name] for name in ("tf32", "bf16", "fp8", "fp4") if name in self.peak_flop_per_s]
        if order != sorted(order):
            raise ValueError("peak_flop_per_s: a narrower format is slower than a wider one (tf32, bf16, fp8, fp4)")
        return self


class Node(Record):
    """A server: the GPUs that share one host. What its scale-up network joins may be wider: scale_up_domain_gpus.

    scale_up_bytes_per_s: one direction of one GPU into the scale-up network (NVLink, xGMI), to all its peers together.
    scale_up_peer_bytes_per_s: to a single peer; None: the same (a switch); a mesh has a link for each peer.
    scale_up_domain_gpus: GPUs that the scale-up network joins; 72 where a rack of 18 hosts is one domain.
    nic_bytes_per_s: one direction of one NIC; a host has nics_per_node of them. max_power_w: highest power of the whole node.
    host_link_bytes_per_s: one direction of the link between a host and host_link_gpus GPUs (PCIe, NVLink-C2C; None: one GPU);
    host_memory_bytes, host_memory_bytes_per_s: of the whole host. None: not known, nothing can be offloaded.
    host_cpu: the host's processor (hwprofiles.hosts); None: not known, it is taken as the one that the costs of calls are of.
    """

    gpu: Name
    gpus_per_node: Annotated[Count, Field(le=1024)]
    scale_up_name: Text
    scale_up_bytes_per_s: BytesPerS
    scale_up_peer_bytes_per_s: BytesPerS | None = None
    scale_up_domain_gpus: Annotated[Count, Field(le=65536)]
    nic_bytes_per_s: Annotated[BytesPerS, Field(le=10 * TERA / 8)]
    nics_per_node: Annotated[Count, Field(le=1024)]
    max_power_w: Watts | None = None
    host_link_name: Text | None = None
    host_link_bytes_per_s: BytesPerS | None = None
    host_link_gpus: Annotated[Count, Field(le=1024)] | None = None
    host_memory_bytes: Bytes | None = None
    host_memory_bytes_per_s: BytesPerS | None = None
    host_cpu: Name | None = None

    @model_validator(mode="after")
    def _host_is_whole(self) -> Self:
        host = (
            self.host_link_name, self.host_link_bytes_per_s, self.host_memory_bytes, self.host_memory_bytes_per_s
        )  # fmt: skip
        if any(each is None for each in host) and any(each is not None for each in host):
            raise ValueError(
                "host_link_bytes_per_s: a host has a link (host_link_name, host_link_bytes_per_s) and a memory "
                "(host_memory_bytes, host_memory_bytes_per_s), or none of the four is known"
            )
        if self.gpus_per_node % (self.host_link_gpus or 1):
            raise ValueError(f"host_link_gpus: does not divide gpus_per_node ({self.gpus_per_node})")
        return self

    @model_validator(mode="after")
    def _domain_holds_nodes(self) -> Self:
        if self.scale_up_domain_gpus % self.gpus_per_node:
            raise ValueError(f"scale_up_domain_gpus: no multiple of gpus_per_node ({self.gpus_per_node})")
        if (self.scale_up_peer_bytes_per_s or 0) > self.scale_up_bytes_per_s:
            raise ValueError(
                "scale_up_peer_bytes_per_s: more than scale_up_bytes_per_s, the rate to all peers together"
            )
        return self


Routing = Literal["adaptive", "ecmp", "static"]


class Fabric(Record):
    """The network between nodes.

    topology: how it is wired: a name of the simulator's family of topologies, which this package does not know.
    num_planes: separate networks, one for each NIC of a node; 1 where the topology has one network.
    switch_ports: of port_bytes_per_s each; num_layers: of switches.
    oversubscription: capacity of a leaf down / up; 1 = none.
    latency_same_leaf_s, latency_cross_leaf_s, latency_cross_pod_s: end to end for a small message, software included, over
    one, three and five switches; the last of a third layer, None: as across leaves.
    routing: adaptive, flows spread evenly over the uplinks; static, so do routes that an operator has laid; ecmp, each flow
    keeps a hashed path.
    """

    technology: Literal["infiniband", "roce"]
    topology: Annotated[str, Field(min_length=1, max_length=200)]
    num_planes: Annotated[Count, Field(le=64)]
    port_bytes_per_s: Annotated[BytesPerS, Field(le=10 * TERA / 8)]
    switch_ports: Annotated[Count, Field(ge=2, le=4096)]
    num_layers: Annotated[Count, Field(le=5)]
    oversubscription: Annotated[float, Field(strict=True, ge=1, le=64, allow_inf_nan=False)]
    latency_same_leaf_s: Seconds
    latency_cross_leaf_s: Seconds
    latency_cross_pod_s: Seconds | None = None
    routing: Routing

    @model_validator(mode="after")
    def _latencies_agree(self) -> Self:
        if self.latency_cross_leaf_s < self.latency_same_leaf_s:
            raise ValueError("latency_cross_leaf_s: shorter than latency_same_leaf_s")
        if self.latency_cross_pod_s is not None and self.latency_cross_pod_s < self.latency_cross_leaf_s:
            raise ValueError("latency_cross_pod_s: shorter than latency_cross_leaf_s")
        return self


class _Ranged(BaseModel):
    """A value with its range; low and high default to the value."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: Number
    low: Number
    high: Number
    unit: Annotated[str, Field(min_length=1, max_length=64)]

    @model_validator(mode="before")
    @classmethod
    def _point_range(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        value = data.get("value")
        return {"low": value, "high": value, **{key: entry for key, entry in data.items() if entry is not None}}

    @model_validator(mode="after")
    def _range_holds_value(self) -> Self:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"needs low <= value <= high, got {self.low}, {self.value}, {self.high}")
        return self


class Parameter(_Ranged):
    """A fitted or measured constant of a stack, SI. basis: how it was obtained; one of the unit "switch" is 0 or 1.

    state: of the chip when it was measured; None: that of the stack's rows.
    """

    basis: Basis = "assumed"
    state: State | None = None
    source: LooseSource

    @model_validator(mode="after")
    def _switch_is_on_or_off(self) -> Self:
        if self.unit == SWITCH:
            _check_bounds(self)
        return self


class Assumption(_Ranged):
    """A stated assumption: what nobody published, with the range that is believed.

    unit: one of ASSUMPTION_UNITS, whose bounds hold value, low and high; reason: why this value and range.
    """

    key: Annotated[str, Field(min_length=1, max_length=200)]
    source: LooseSource
    reason: Text

    @model_validator(mode="after")
    def _unit_allows_numbers(self) -> Self:
        problem = unit_problem(self.unit)
        if problem is not None:
            raise ValueError(f"unit: {problem}")
        _check_bounds(self)
        return self


def _check_bounds(entry: _Ranged) -> None:
    """Raise ValueError where value, low or high is out of the bounds of the unit."""
    for name, number in (("value", entry.value), ("low", entry.low), ("high", entry.high)):
        problem = bounds_problem(number, entry.unit)
        if problem is not None:
            raise ValueError(f"{name}: {problem}")


Commitment = Literal["on-demand", "spot", "1-month", "3-month", "6-month", "1-year", "2-year", "3-year"]
"""For how long a rental is promised; spot: for as long as nobody pays more."""


class _Usd(BaseModel):
    """A price with a range."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    usd_per_gpu_hour: Usd
    low: Usd
    high: Usd
    source: Source

    @model_validator(mode="after")
    def _range_holds_value(self) -> Self:
        if not self.low <= self.usd_per_gpu_hour <= self.high:
            raise ValueError(
                f"needs low <= usd_per_gpu_hour <= high, got {self.low}, {self.usd_per_gpu_hour}, {self.high}"
            )
        return self


class Offer(_Usd):
    """What a provider asks for a GPU and hour. region: as the provider names it, None where the source names none; low,
    high: where the source gives a range, else the price itself; the source is dated.
    """

    provider: Name
    region: Name | None = None
    commitment: Commitment

    @model_validator(mode="before")
    @classmethod
    def _ends_are_the_price(cls, value: Any) -> Any:
        if isinstance(value, dict) and "usd_per_gpu_hour" in value:
            return {"low": value["usd_per_gpu_hour"], "high": value["usd_per_gpu_hour"]} | value
        return value

    @model_validator(mode="after")
    def _dated(self) -> Self:
        if not self.source.date:
            raise ValueError(f"the source of an offer of {self.provider} has no date")
        return self

    def __str__(self) -> str:
        where = f" {self.region}" if self.region else ""
        return f"{self.provider}{where}, {self.commitment}: {self.usd_per_gpu_hour:.2f} USD"


class PriceEntry(_Usd):
    """A rental price: USD for one GPU for one hour, host and network included; low, high: range of offers.

    offers: single ones, to choose among; the entry's own figures are what a scenario gets that chooses none.
    """

    offers: tuple[Offer, ...] = ()


class PriceSheet(BaseModel):
    """Prices of one date. entries: GPU name → rental; ownership: key → what owning costs (USD, W, share …).

    good_for_months: how long after its date the sheet holds. sources: short name → Source, for what the offers' `source`
    abbreviates.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    currency: Literal["USD"]
    date: Annotated[Date, Field(min_length=4)]
    good_for_months: Months
    description: Text
    sources: dict[str, Source] = Field(default_factory=dict)
    entries: dict[Name, PriceEntry]
    ownership: dict[str, Parameter] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _sources_by_name(cls, value: Any) -> Any:
        """The sources in place of their short names, in a copy."""
        entries, sources = (value.get("entries"), value.get("sources", {})) if isinstance(value, dict) else (None, None)
        if not isinstance(entries, dict) or not isinstance(sources, dict):
            return value
        return value | {"entries": {gpu: _with_sources(entry, sources) for gpu, entry in entries.items()}}


def _with_sources(entry: Any, sources: Mapping[str, Any]) -> Any:
    """A sheet's entry with its offers' sources; raises ValueError where a short name is not known."""
    offers = entry.get("offers") if isinstance(entry, dict) else None
    if not isinstance(offers, list):
        return entry
    named = []
    for offer in offers:
        name = offer.get("source") if isinstance(offer, dict) else None
        if isinstance(name, str) and name not in sources:
            raise ValueError(f"the source {name!a} of an offer is not among the sheet's sources")
        named.append(offer | {"source": sources[name]} if isinstance(name, str) else offer)
    return entry | {"offers": named}


CALIBRATION_HOLDS_MONTHS = 12
"""After a year drivers and libraries are others, and a cluster should be measured again."""


class StackProvenance(BaseModel):
    """provenance.yaml of a stack: what was measured, on what.

    is_default: the stack that a scenario on this GPU takes when it names none.
    casts: generation of the software's kernels around GEMMs that quantise; empty where it is of no one generation.
    state: of the chip when the rows were measured, and the parameters that say nothing else.
    good_for_months: how long after its newest source the stack holds; None: a calibration for CALIBRATION_HOLDS_MONTHS, others
    as long as their software is used.
    is_whole: what the stack lacks is an error; else it comes from what is public of the GPU (stack_completion.py).
    calibration: what was measured on, where `moesim calibrate` made the stack.
    host_cpu: the processor of the machine that the stack was measured on, as Linux names it; empty where it is not known.
    caveat: what whoever uses the stack should be told; empty where nothing stands out.
    sources: short name → Source, for what the rows' `source` column abbreviates.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    gpu: Name
    description: Text
    software: Text
    state: State
    is_default: Annotated[bool, Field(strict=True)] = False
    casts: Annotated[str, Field(max_length=200)] = ""
    good_for_months: Months | None = None
    caveat: Annotated[str, Field(max_length=2000)] = ""
    is_whole: Annotated[bool, Field(strict=True)] = False
    calibration: Calibration | None = None
    host_cpu: Annotated[str, Field(max_length=200)] = ""
    sources: dict[str, Source] = Field(min_length=1)

    @property
    def holds_months(self) -> int | None:
        """How long the stack holds, in months; None: it does not say."""
        usual = CALIBRATION_HOLDS_MONTHS if self.calibration is not None else None
        return self.good_for_months or usual


@dataclass(frozen=True)
class Stack:
    """What one software stack achieves on one GPU.

    kernels, collectives: measured rows; parameters: fitted constants by key; assumptions: by key, in hardware's units.
    """

    name: str
    gpu: str
    description: str
    kernels: KernelTable
    provenance: StackProvenance
    collectives: CollectiveTable = field(default_factory=CollectiveTable)
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    assumptions: Mapping[str, Assumption] = field(default_factory=dict)

    @cached_property
    def sha256(self) -> str:
        """Hash of every value of the stack, in hexadecimal: equal values, equal hash, whatever the files' layout."""
        content = {
            "name": self.name,
            "gpu": self.gpu,
            "description": self.description,
            "kernels": [asdict(row) for row in self.kernels.rows],
            "collectives": [row.model_dump() for row in self.collectives.rows],
            "parameters": {key: entry.model_dump() for key, entry in self.parameters.items()},
            "assumptions": {key: entry.model_dump() for key, entry in self.assumptions.items()},
            "provenance": self.provenance.model_dump(),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()
