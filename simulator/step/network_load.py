"""What a step puts on each kind of link: its own messages, counted on the graph, with the bytes that they were priced by.

A message's bytes are those of one GPU, one direction (simulator/costs/cost.py); a pipeline rank sends each as often as its
operators stand in the graph. Bytes over NICs go on to the spine, and with three layers to the core, as far as the nodes of
its group lie under different leaves or in different pods (simulator/network/crossing.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hwprofiles.schema import Node
from simulator.assembly.chunks import NUM_STREAMS, Message
from simulator.assembly.step_graph import StepGraph
from simulator.assembly.unit_costs import ALL_TO_ALL, CP_COLLECTIVES, PP_TRANSFER, TP_COLLECTIVES
from simulator.errors import InputError, Problem
from simulator.network.picture import LinkKind, picture
from simulator.network.topology import Network
from simulator.results.network_view import (
    TRAFFICS,
    DrawnLink,
    DrawnNode,
    LinkLoad,
    NetworkView,
    Traffic,
    TrafficLoad,
)
from simulator.scenario.hardware import fabric_of, node_of
from simulator.step.crossing_shares import crossing_shares
from simulator.step.data_parallel import DATA_PARALLEL
from simulator.step.prepared import PreparedStep
from simulator.step.tail import OPTIMIZER

Floats = NDArray[np.float64]

TRAFFIC_OF: Mapping[str, Traffic] = {
    ALL_TO_ALL: "ep",
    PP_TRANSFER: "pp",
    DATA_PARALLEL: "dp",
    OPTIMIZER: "dp",
    TP_COLLECTIVES: "tp",
    CP_COLLECTIVES: "cp",
}
"""Kind of traffic by the category of a message's seconds; the optimizer's message is the gradients' norm."""
MAX_LAYERS: Final = 3
EVEN: Final = "Experts are counted as evenly loaded; with uneven loads some GPUs send and receive more."
BUSIEST: Final = "Where expert groups lie unevenly on domains, every GPU is counted as the busiest one of a group."
RINGS: Final = "Rings visit the nodes of a group in order; exchanges go between all pairs of nodes alike."
HASHED: Final = "Flows are hashed to uplinks: some of these carry more than the mean of a leaf that is told."


@dataclass(frozen=True, eq=False)
class SentBytes:
    """Bytes and seconds of a step's messages by pipeline rank: of one GPU, one direction.

    scale_up, nic: bytes over these links; leaf_up, pod_up: of the NIC's, those that leave a leaf, a pod. seconds_scale_up,
    seconds_nic: durations alone of the messages that use them. Each (pipeline ranks,) by traffic.
    """

    scale_up: Mapping[Traffic, Floats]
    nic: Mapping[Traffic, Floats]
    leaf_up: Mapping[Traffic, Floats]
    pod_up: Mapping[Traffic, Floats]
    seconds_scale_up: Mapping[Traffic, Floats]
    seconds_nic: Mapping[Traffic, Floats]


def network_view(step: PreparedStep, graph: StepGraph, step_s: float) -> NetworkView:
    """The network of a step that takes `step_s` seconds. Raises InputError for more than three layers of switches."""
    scenario, network = step.scenario, step.hardware.network
    if network.wiring.num_layers > MAX_LAYERS:
        text = f"{network.wiring.num_layers} layers of switches, but loads of links are told for at most {MAX_LAYERS}"
        raise InputError([Problem("", "cluster.fabric", f"{text}; give a fabric with fewer layers")])
    node, drawn = node_of(scenario), picture(network)
    has_fabric = network.num_nodes > 1
    sent = sent_bytes(step, graph)
    switches = _Switches.of(network) if has_fabric else None
    return NetworkView(
        step_s=step_s,
        node=node.name,
        scale_up=node.scale_up_name,
        is_mesh=_is_mesh(node),
        fabric=fabric_of(scenario).name if has_fabric else None,
        topology=network.topology if has_fabric else None,
        num_gpus=network.num_gpus,
        gpus_per_domain=network.gpus_per_node,
        num_domains=network.num_nodes,
        hosts_per_domain=-(-min(network.gpus_per_node, network.num_gpus) // network.host_gpus),
        nics_per_host=network.wiring.rails,
        trees=switches.trees if switches else 0,
        leaves=len(switches.nics) if switches else 0,
        spines=switches.spines if switches else 0,
        cores=switches.cores if switches else 0,
        links=tuple(_links(network, sent, switches)),
        nodes=tuple(DrawnNode(key=each.key, kind=each.kind, of=each.of, times=each.times) for each in drawn.nodes),
        drawn=tuple(DrawnLink(kind=each.kind, lower=each.lower, upper=each.upper) for each in drawn.links),
        notes=tuple(_notes(step)),
    )


def sent_bytes(step: PreparedStep, graph: StepGraph) -> SentBytes:
    """What each pipeline rank sends, by kind of traffic. Raises KeyError for a message of an unknown category."""
    shares = crossing_shares(step, graph.num_ranks)
    tables = {
        name: {traffic: np.zeros(graph.num_ranks) for traffic in TRAFFICS}
        for name in ("scale_up", "nic", "leaf_up", "pod_up", "seconds_scale_up", "seconds_nic")
    }
    for message, counts in messages_of(graph):
        cost, traffic = message.cost, TRAFFIC_OF[message.category]
        leaf, pod = shares.of(message, traffic, np.flatnonzero(counts))
        tables["scale_up"][traffic] += counts * cost.bytes_scale_up
        tables["nic"][traffic] += counts * cost.bytes_nic
        tables["leaf_up"][traffic] += counts * cost.bytes_nic * leaf
        tables["pod_up"][traffic] += counts * cost.bytes_nic * pod
        tables["seconds_scale_up"][traffic] += counts * (cost.seconds if cost.bytes_scale_up else 0.0)
        tables["seconds_nic"][traffic] += counts * (cost.seconds if cost.bytes_nic else 0.0)
    return SentBytes(**tables)


def messages_of(graph: StepGraph) -> Iterator[tuple[Message, Floats]]:
    """Every message that the graph runs and how often each pipeline rank does; one that stands in several classes again."""
    ranks, classes = graph.num_ranks, len(graph.classes)
    place = graph.dag.op_class * ranks + graph.dag.resource // NUM_STREAMS
    counts = np.bincount(place, minlength=classes * ranks).reshape(classes, ranks).astype(np.float64)
    for segment, own in zip(graph.classes, counts, strict=True):
        for message in segment.messages:
            yield message, own


@dataclass(frozen=True, eq=False)
class _Switches:
    """Switches that the job reaches. nics: (tree, leaf) → NICs under it by GPU, for what its uplinks carry; trees, spines,
    cores: how many. pods: (tree, pod) → leaves.
    """

    nics: Mapping[tuple[int, int], Mapping[int, float]]
    pods: Mapping[tuple[int, int], int]
    trees: int
    spines: int
    cores: int

    @classmethod
    def of(cls, network: Network) -> _Switches:
        """Of the leaves that the job's NICs reach, NICs of GPUs without an own one counted for all that share it."""
        wiring, host_gpus = network.wiring, network.host_gpus
        nics: dict[tuple[int, int], Counter[int]] = {}
        for host in range(-(-network.num_gpus // host_gpus)):
            for nic in range(wiring.rails):
                leaf = network.kind.leaf(wiring, host * wiring.rails + nic)
                gpu = min(host * host_gpus + nic * host_gpus // wiring.rails, network.num_gpus - 1)
                nics.setdefault(leaf, Counter())[gpu] += 1
        pods = Counter((tree, wiring.pod(leaf, 2)) for tree, leaf in nics)
        trees = {tree for tree, _ in nics}
        spines = len(pods) * wiring.up_ports if wiring.num_layers > 1 else 0
        cores = len(trees) * wiring.up_ports * (wiring.switch_ports // 2) if wiring.num_layers > 2 else 0
        return cls(nics, pods, len(trees), spines, cores)


def _links(network: Network, sent: SentBytes, switches: _Switches | None) -> Iterator[LinkLoad]:
    """Bottom up; kinds of which there are none are left out."""
    if network.gpus_per_node > 1:
        yield _gpu_links(
            "scale_up", network.num_gpus, network.scale_up_bytes_per_s, 1.0, sent.scale_up, sent.seconds_scale_up
        )
    if switches is None:
        return
    rails, gpus = network.wiring.rails, network.host_gpus
    count = -(-network.num_gpus * rails // gpus)
    yield _gpu_links("nic", count, network.nic_bytes_per_s * gpus / rails, gpus / rails, sent.nic, sent.seconds_nic)
    if network.wiring.num_layers > 1:
        yield _leaf_links(network, sent, switches)
    if network.wiring.num_layers > 2:
        yield _core_links(network, sent, switches)


def _gpu_links(
    kind: LinkKind, count: int, bytes_per_s: float, per_link: float, loads: Mapping[Traffic, Floats],
    seconds: Mapping[Traffic, Floats],
) -> LinkLoad:  # fmt: skip
    """Links of GPUs. per_link: GPUs that share one, or its inverse."""
    total = np.sum([loads[traffic] for traffic in TRAFFICS], axis=0)
    rank = int(np.argmax(total))
    return LinkLoad(
        kind=kind,
        count=count,
        bytes_per_s=bytes_per_s,
        pp_rank=rank,
        by_traffic=tuple(
            TrafficLoad(
                traffic=traffic,
                bytes=float(loads[traffic][rank]) * per_link,
                mean_bytes=float(np.mean(loads[traffic])) * per_link,
                message_s=float(seconds[traffic][rank]),
            )
            for traffic in TRAFFICS
        ),
    )


def _leaf_links(network: Network, sent: SentBytes, switches: _Switches) -> LinkLoad:
    """Uplinks of leaves: what their NICs send beyond them, spread over all of them."""
    wiring, per_nic = network.wiring, network.host_gpus / network.wiring.rails
    stage_ranks = network.num_gpus // len(sent.nic["ep"])
    up = {
        traffic: np.array(
            [
                sum(count * float(sent.leaf_up[traffic][gpu // stage_ranks]) for gpu, count in nics.items()) * per_nic
                for nics in switches.nics.values()
            ]
        )
        / wiring.up_ports
        for traffic in TRAFFICS
    }
    return _switch_links("leaf_spine", len(switches.nics) * wiring.up_ports, wiring.port_bytes_per_s, up)


def _core_links(network: Network, sent: SentBytes, switches: _Switches) -> LinkLoad:
    """Links of spines into the core: what the NICs of a pod send beyond it, spread over all of them."""
    wiring, per_nic = network.wiring, network.host_gpus / network.wiring.rails
    stage_ranks = network.num_gpus // len(sent.nic["ep"])
    per_pod = wiring.up_ports * (wiring.switch_ports // 2)
    up = {traffic: dict.fromkeys(switches.pods, 0.0) for traffic in TRAFFICS}
    for (tree, leaf), nics in switches.nics.items():
        for traffic in TRAFFICS:
            beyond = sum(count * float(sent.pod_up[traffic][gpu // stage_ranks]) for gpu, count in nics.items())
            up[traffic][tree, wiring.pod(leaf, 2)] += beyond * per_nic / per_pod
    loads = {traffic: np.array(list(up[traffic].values())) for traffic in TRAFFICS}
    return _switch_links("spine_core", len(switches.pods) * per_pod, wiring.port_bytes_per_s, loads)


def _switch_links(kind: LinkKind, count: int, bytes_per_s: float, loads: Mapping[Traffic, Floats]) -> LinkLoad:
    fullest = int(np.argmax(np.sum([loads[traffic] for traffic in TRAFFICS], axis=0)))
    return LinkLoad(
        kind=kind,
        count=count,
        bytes_per_s=bytes_per_s,
        by_traffic=tuple(
            TrafficLoad(
                traffic=traffic,
                bytes=float(loads[traffic][fullest]),
                mean_bytes=float(np.mean(loads[traffic])),
                message_s=0.0,
            )
            for traffic in TRAFFICS
        ),
    )


def _is_mesh(node: Node) -> bool:
    """Whether a GPU reaches one peer at a part of its rate: a link of its own to each."""
    return node.scale_up_peer_bytes_per_s not in (None, node.scale_up_bytes_per_s)


def _notes(step: PreparedStep) -> Iterator[str]:
    lies = step.hardware.placement.expert_groups
    if step.scenario.parallel.ep > 1 and step.random.load is not None:
        yield EVEN
    if any(not lie.is_even for lie in lies) or len(lies) > 1:
        yield BUSIEST
    if step.hardware.network.num_nodes > 1:
        yield RINGS
        if step.hardware.network.routing == "ecmp":
            yield HASHED
