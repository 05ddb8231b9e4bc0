"""The datasheets of the catalogue: what a GPU, a node and a fabric are.

A datasheet number is not an achieved number: what software achieves is a stack (stack_records.py). All records are frozen and
closed (an unknown key is an error); a bandwidth is one way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hwprofiles.fields import (
    Bytes,
    BytesPerS,
    Count,
    FlopPerS,
    Hertz,
    Name,
    NumberFormat,
    ScaledFormat,
    Seconds,
    Text,
    Watts,
)
from hwprofiles.provenance import Source
from hwprofiles.units import GIGA, TERA


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

    @property
    def memory_bytes(self) -> float:
        """What the driver reports; where that is not known, the datasheet's."""
        return self.device_bytes or self.hbm_bytes

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
