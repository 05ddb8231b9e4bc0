"""Faults of placement, topologies, traffic and fair shares."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

ROOT = "simulator/network"

NETWORK = Room(
    "network",
    ("tests/network",),
    (
        Fault(
            "simulator/network/topology.py",
            "if _max_gpus(node, fabric) >= num_gpus]",
            "if _max_gpus(node, fabric) < num_gpus]",
            "fabrics are offered that are too small",
        ),
        Fault(
            f"{ROOT}/placement.py",
            "dense.reshape(mesh.pp, mesh.edp, mesh.ep, mesh.etp)",
            "dense.reshape(mesh.pp, mesh.ep, mesh.edp, mesh.etp).swapaxes(1, 2)",
            "expert groups stand ep*etp ranks apart, their holders side by side",
        ),
        Fault(
            f"{ROOT}/placement.py",
            "int(members.min())",
            "int(members.max())",
            "a group's NICs are those of its fullest node",
        ),
        Fault(
            f"{ROOT}/placement.py",
            "groups[::-1][:half]], axis=2)",
            "groups[:half]], axis=2)",
            "a stage's second holder is the first one again",
        ),
        Fault(
            f"{ROOT}/topology.py",
            "min(node.nic_bytes_per_s, fabric.port_bytes_per_s) * nics_per_gpu",
            "max(node.nic_bytes_per_s, fabric.port_bytes_per_s) * nics_per_gpu",
            "a link runs at the faster of NIC and port",
        ),
        Fault(
            f"{ROOT}/topology.py",
            "nics_per_gpu = node.nics_per_node / node.gpus_per_node",
            "nics_per_gpu = node.nics_per_node",
            "every GPU has all NICs of its node",
        ),
        Fault(
            f"{ROOT}/topology.py",
            "node.scale_up_peer_bytes_per_s or node.scale_up_bytes_per_s",
            "node.scale_up_bytes_per_s",
            "a mesh of links gives one peer the rate of all",
        ),
        Fault(
            f"{ROOT}/topology.py",
            "(nodes - under_one_leaf) + rest * (nodes - rest)",
            "(nodes - under_one_leaf)",
            "nodes of a leaf filled in part send nothing across",
        ),
        Fault(
            f"{ROOT}/topology.py",
            "crossing_pairs / (nodes * (nodes - 1))",
            "crossing_pairs / (nodes * nodes)",
            "a node is its own partner",
        ),
        Fault(
            f"{ROOT}/topology.py",
            "self.latency_cross_pod_s if is_far else self.latency_cross_leaf_s",
            "self.latency_cross_leaf_s if is_far else self.latency_cross_pod_s",
            "latencies of near and far nodes swapped",
        ),
        Fault(
            f"{ROOT}/topologies/fat_tree.py",
            "max(1, wiring.down_ports // wiring.rails)",
            "max(1, wiring.down_ports)",
            "a plain leaf holds one NIC of a host, not all",
        ),
        Fault(
            f"{ROOT}/topologies/multi_plane_fat_tree.py",
            "wiring.tree_endpoints // rails_per_plane * wiring.rails",
            "wiring.tree_endpoints * wiring.rails",
            "a plane that carries several rails connects as many hosts as with one",
        ),
        Fault(
            f"{ROOT}/topologies/rail_fat_tree.py",
            "return max(1, wiring.down_ports)",
            "return max(1, wiring.down_ports // wiring.rails)",
            "a rail's leaf holds whole hosts",
        ),
        Fault(
            f"{ROOT}/wiring.py",
            "self.switch_ports * self.oversubscription / (1.0 + self.oversubscription)",
            "self.switch_ports / (1.0 + self.oversubscription)",
            "an oversubscribed leaf has more ports up than down",
        ),
        Fault(
            f"{ROOT}/hashing.py",
            "left = 1.0 - math.pow(min(1.0, below), uplinks)",
            "left = 1.0 - min(1.0, below)",
            "the mean uplink holds a collective, not the fullest",
        ),
        Fault(
            f"{ROOT}/traffic.py",
            "exchange.nodes_per_token * (exchange.num_nodes - 1) / exchange.num_nodes",
            "exchange.nodes_per_token - 1.0",
            "the own node is always among a token's nodes",
        ),
        Fault(
            f"{ROOT}/traffic.py",
            "exchange.ranks_per_token * (local_ranks - 1.0) / local_ranks",
            "exchange.ranks_per_token",
            "copies that arrive on the right rail are forwarded too",
        ),
        Fault(
            f"{ROOT}/placement.py",
            "Hop(same_node=not hop.any(),",
            "Hop(same_node=not hop.all(),",
            "one pair of pipeline neighbours in a node is enough",
        ),
        Fault(
            f"{ROOT}/placement.py",
            "key=lambda shape: shape.node_stride)",
            "key=lambda shape: -shape.node_stride)",
            "of equal groups the nearest one stands for all",
        ),
        Fault(
            f"{ROOT}/placement.py",
            "int(np.median(strides))",
            "int(strides.max())",
            "the widest gap of a group stands for its stride",
        ),
        Fault(
            f"{ROOT}/placement.py",
            "min(count, 256)",
            "min(count, 1)",
            "only the first of the widest groups is looked at",
        ),
        Fault(
            f"{ROOT}/topology.py",
            "-(-self.num_gpus // self.gpus_per_node)",
            "self.num_gpus // self.gpus_per_node",
            "a node filled in part does not count",
        ),
        Fault(
            f"{ROOT}/topology.py",
            "max(1, hosts * self.host_gpus // self.gpus_per_node)",
            "max(1, hosts)",
            "a rack of many hosts is one host under its leaf",
        ),
        Fault(
            f"{ROOT}/topology.py",
            "max(1, -(-self.nodes_per_leaf // node_stride))",
            "max(1, self.nodes_per_leaf // node_stride)",
            "nodes of a group under one leaf are rounded down",
        ),
        Fault(
            f"{ROOT}/wiring.py",
            "        if self.num_layers == 1:\n            return self.switch_ports\n        return int(",
            "        return int(",
            "an only layer keeps half of its ports for a spine",
        ),
        Fault(
            f"{ROOT}/wiring.py",
            "** (layer - 1))",
            "** layer)",
            "pods are a layer too wide",
        ),
        Fault(
            f"{ROOT}/topology.py",
            "if num_gpus > max(limit, domain):",
            "if num_gpus > limit:",
            "one rack needs a fabric as large as itself",
        ),
        Fault(
            f"{ROOT}/traffic.py",
            "(local_ranks - 1.0) / local_ranks",
            "(exchange.ranks - 1.0) / exchange.ranks",
            "only the own copy stays off NVLink",
        ),
        Fault(
            f"{ROOT}/topologies/multi_plane_fat_tree.py",
            "return rail % wiring.num_planes, block",
            "return rail // rails_per_plane, block",
            "neighbouring rails share a plane",
        ),
        Fault(
            f"{ROOT}/topology.py",
            "bytes_per_s=network.scale_up_bytes_per_s)\n    if",
            "bytes_per_s=network.nic_bytes_per_s)\n    if",
            "the graph's NVLink is as slow as a NIC",
        ),
        Fault(
            "simulator/network/topology.py",
            "reached = -(-senders * nics // gpus)",
            "reached = nics",
            "a lone GPU reaches the NICs of all others",
        ),
        Fault(
            "simulator/network/topology.py",
            "min(max(1.0, nics / gpus), reached / senders)",
            "reached / senders",
            "a GPU has more than its own NICs",
        ),
        Fault(
            "simulator/network/domains.py",
            "if num_gpus % size == 0), None)",
            "if size), None)",
            "the largest multiple, whether it divides the job or not",
        ),
        Fault(
            "simulator/network/domains.py",
            "paid = num_domains * domain if num_domains > 1",
            "paid = num_domains * used if num_domains > 1",
            "idle GPUs of a rack are not paid for",
        ),
        Fault(
            "simulator/network/domains.py",
            "if groups % size == 0)",
            "if groups % size)",
            "the part of a group is no divisor of it",
        ),
        Fault(
            "simulator/network/placement.py",
            "ends = (ranks[crosses], np.roll(ranks, -1, axis=0)[crosses])",
            "ends = (ranks[:hops][crosses][:1], np.roll(ranks, -1, axis=0)[:hops][crosses][:1])",
            "one GPU of a host sends at a time",
        ),
        Fault(
            "simulator/network/topology.py",
            "(nodes - 1) * node_stride >= self.nodes_per_pod",
            "nodes * node_stride >= self.nodes_per_pod",
            "a group that fills a pod leaves it",
        ),
        Fault(
            "simulator/network/placement.py",
            "_fewest_members(starts[several])",
            "starts[several].sum(axis=1)",
            "the group on fewest nodes stands for all",
        ),
        Fault(
            "simulator/network/placement.py",
            "found[key] = found.get(key, 0) + count",
            "found[key] = count",
            "groups that lie alike are counted once",
        ),
    ),
)
