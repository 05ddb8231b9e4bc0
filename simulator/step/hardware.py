"""The machines of a scenario, looked up in the catalogue: what every price of a step starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from hwprofiles.schema import Gpu
from hwprofiles.stack_choice import load_stack
from hwprofiles.stack_records import Assumption, Stack
from simulator.errors import InputError, Problem
from simulator.network.domains import DomainUse, domain_use_of
from simulator.network.placement import Mesh, Placement, place
from simulator.network.topology import Network, build_network
from simulator.scenario import derived
from simulator.scenario.hardware import fabric_of, gpu_of, node_of
from simulator.scenario.scenario import Scenario


@dataclass(frozen=True)
class Hardware:
    """One GPU, what software achieves on it (the stack), the network of all of them, where the ranks' groups lie, and how
    many GPUs of each scale-up domain they take.
    """

    gpu: Gpu
    stack: Stack
    network: Network
    placement: Placement
    domains: DomainUse


def look_up(scenario: Scenario, stack: Stack | None = None) -> Hardware:
    """The scenario's hardware, with another stack of its GPU in place of the one that it names.

    Raises InputError for a cluster that the fabric cannot hold, and for a stack of another GPU.
    """
    gpu, stack = gpu_of(scenario), stack or load_stack(scenario.stack)
    if stack.gpu != gpu.name:
        raise InputError([Problem("", "stack", f"{stack.name} is of GPU {stack.gpu}, but cluster.node has {gpu.name}")])
    num_gpus = scenario.cluster.num_gpus
    domains = domain_use_of(scenario)
    network = build_network(node_of(scenario), fabric_of(scenario), num_gpus, domains.gpus_per_domain)
    mesh = Mesh(num_gpus, **derived.degrees(scenario))
    placement = place(mesh, network.gpus_per_node, network.host_gpus, shard_ranks=scenario.data_parallel.hsdp_group)
    return Hardware(gpu, stack, network, placement, domains)


def with_assumptions(hardware: Hardware, assumptions: Mapping[str, Assumption]) -> Hardware:
    """The hardware whose stack states these values of its own assumptions."""
    stack = hardware.stack
    own = {key: assumptions[key] for key in stack.assumptions}
    return replace(hardware, stack=replace(stack, assumptions=own)) if own != stack.assumptions else hardware
