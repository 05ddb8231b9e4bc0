"""Faults of collectives: dispatch and combine, rings, sends, trees."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

ROOT = "simulator/costs"
DISPATCHERS = f"{ROOT}/dispatchers"
ALL_TO_ALL, RING, P2P, TREE = (f"{ROOT}/collectives/{name}.py" for name in ("all_to_all", "ring", "p2p", "tree"))

COSTS = Room(
    "costs",
    ("tests/costs",),
    (
        Fault(
            f"{DISPATCHERS}/alltoall.py",
            "rows = message.tokens * message.rows_per_token",
            "rows = message.tokens * message.ranks_per_token",
            "an all-to-all sends one copy for each GPU",
        ),
        Fault(
            f"{DISPATCHERS}/alltoall.py",
            "min(1.0, cost.latency_s / cost.seconds), by_rows=True",
            "min(1.0, cost.latency_s / cost.seconds)",
            "an all-to-all follows the distinct tokens of a rank",
        ),
        Fault(
            f"{DISPATCHERS}/hybridep.py",
            "by_sms = max(by_sms, told * time_at",
            "by_sms = max(by_sms, 0.0 * time_at",
            "scales cost Hybrid-EP's SMs nothing",
        ),
        Fault(
            f"{DISPATCHERS}/hybridep.py",
            "told = message.ranks * message.tokens * message.num_experts",
            "told = message.tokens * message.num_experts",
            "the map of one rank is gathered",
        ),
        Fault(
            f"{DISPATCHERS}/hybridep.py",
            'if message.num_nodes == 1 else "hybridep.nvlink_between"',
            'if message.num_nodes else "hybridep.nvlink_between"',
            "NVLink behind NICs is as fast as in one domain",
        ),
        Fault(
            f"{DISPATCHERS}/allgather.py",
            "alone = ring_cost(op, message.ranks * own_bytes,",
            "alone = ring_cost(op, own_bytes,",
            "an all-gather is as large as one rank's tokens",
        ),
        Fault(
            RING,
            "inside_s=_faster_s(wires[0].scale_up_s, hops, stack)",
            'inside_s=value if bound_by == "scale_up" else 0.0',
            "beside kernels a faster NIC makes a collective longer where links inside nodes bind it then",
        ),
        Fault(
            f"{ROOT}/cost.py",
            "(stretch - 1.0) * max(0.0, self.inside_s - self.latency_s)",
            "(stretch - 1.0) * self.inside_s",
            "latency is stretched beside kernels too",
        ),
        Fault(
            ALL_TO_ALL,
            "copies += time_at(model.sm_cost_per_remote_node, corner) * traffic.remote_nodes_per_token",
            "copies += time_at(model.sm_cost_per_remote_node, corner)",
            "SMs copy once, whatever the nodes of a token",
        ),
        Fault(
            ALL_TO_ALL,
            "copies *= message.ranks_per_token / _distinct(ONE_NODE_RANKS, ONE_NODE_TOP_K)",
            "copies *= 1.0",
            "SMs copy as often, whatever the GPUs of a token in its node",
        ),
        Fault(
            ALL_TO_ALL,
            "if message.num_nodes == 1:\n        copies *=",
            "if message.num_nodes == 1 and message.ranks <= 8:\n        copies *=",
            "kernels of a rack pay for the copies of eight GPUs alone",
        ),
        Fault(
            ALL_TO_ALL,
            "message.tokens * message.bytes_per_token * copies / sms",
            "message.tokens * message.bytes_per_token * copies / 20",
            "the kernel always holds 20 SMs",
        ),
        Fault(
            ALL_TO_ALL,
            "ratios.append(here / there)",
            "ratios.append(there / here)",
            "a row is scaled the wrong way",
        ),
        Fault(
            ALL_TO_ALL,
            "low = min(value, (row.low or row.seconds) * min(ratios)) * (1.0 - error)",
            "low = min(value, (row.low or row.seconds) * max(ratios))",
            "the low end of a scaled row knows no error of the formula",
        ),
        Fault(
            ALL_TO_ALL,
            'return ("combine_backward", "combine") if message.direction == "B" else ("combine",)',
            'return ("combine",)',
            "combine in the backward takes the forward's row",
        ),
        Fault(
            ALL_TO_ALL,
            'if message.op == "dispatch" and not message.cached_layout:',
            'if message.op == "dispatch":',
            "a dispatch with a known layout computes it again",
        ),
        Fault(
            ALL_TO_ALL,
            "(message.num_nodes, row.nodes), (message.ranks, row.ranks), (message.tokens, row.tokens))",
            "(message.tokens, row.tokens), (message.ranks, row.ranks), (message.num_nodes, row.nodes))",
            "the nearest row is the nearest in tokens, not in nodes",
        ),
        Fault(
            ALL_TO_ALL,
            "return t0_s + terms[bound_by], bound_by",
            "return terms[bound_by], bound_by",
            "the fixed latency of a dispatch is left out",
        ),
        Fault(
            ALL_TO_ALL,
            "candidates = math.ceil(row.nodes_per_token) * row.ranks / row.nodes",
            "candidates = row.ranks",
            "ranks of a row's token are spread over all nodes, not over those it reaches",
        ),
        Fault(
            RING,
            "rounds * bytes_total * (group.ranks - 1) / group.ranks",
            "rounds * bytes_total",
            "a ring sends its own part too",
        ),
        Fault(RING, "rounds = 2 if op == ", "rounds = 1 if op == ", "an all-reduce passes the ring once"),
        Fault(
            RING,
            "nic.seconds(sent / group.ranks_per_node, network.nic_bytes_per_s, corner)",
            "nic.seconds(sent / group.ranks * group.nodes, network.nic_bytes_per_s, corner)",
            "NICs that carry a ring are the mean over nodes, not those of the emptiest",
        ),
        Fault(
            RING,
            "filled_seconds(time_at(base, corner) + latency, wire, time_at(fill, corner))",
            "filled_seconds(time_at(base, corner) + latency, wire, 0.0)",
            "filling the pipeline of chunks takes no time",
        ),
        Fault(
            RING,
            "each = time_at(over_nics, corner) + self.fabric_s",
            "each = time_at(over_nics, corner)",
            "a ring's hops know no switches",
        ),
        Fault(
            P2P,
            "time_at(base, corner) + time_at(hop, corner) + fabric_s + wire",
            "time_at(base, corner) + time_at(hop, corner) + wire",
            "a send knows no switches",
        ),
        Fault(
            P2P,
            "fabric_s = 0.0 if same_node else network.latency_s(2, node_stride)",
            "fabric_s = 0.0 if same_node else network.latency_s(2)",
            "a distant neighbour is as near as the next node",
        ),
        Fault(
            P2P,
            "rate_at(share, corner) * network.scale_up_peer_bytes_per_s",
            "rate_at(share, corner) * network.scale_up_bytes_per_s",
            "one peer has the links of all",
        ),
        Fault(
            TREE, "steps = 2 * ceil(log2(ranks))", "steps = ceil(log2(ranks))", "the norm goes up the tree, not down"
        ),
        Fault(
            TREE,
            "b + steps * (h + fabric) for",
            "b + steps * h for",
            "the norm's hops know no switches",
        ),
        Fault(
            f"{ROOT}/links.py",
            "return max(num_bytes / rate, num_bytes * self.crossing_frac / uplinks)",
            "return max(num_bytes / rate, num_bytes / uplinks)",
            "all bytes leave the leaf",
        ),
        Fault(
            f"{ROOT}/links.py",
            "share = Range(share.value, share.low, share.high, weakest(share.basis, routing.basis), share.source)",
            "share = Range(share.value, share.low, share.high, share.basis, share.source)",
            "assumed routing counts as measured",
        ),
        Fault(
            f"{ROOT}/cost.py",
            "basis=weakest(self.basis, factor.basis)",
            "basis=self.basis",
            "a measured time by an assumed factor counts as measured",
        ),
        Fault(
            f"{ROOT}/cost.py",
            "return max(bases, key=order.index)",
            "return min(bases, key=order.index)",
            "the basis of a sum is its best one",
        ),
        Fault(
            f"{ROOT}/links.py",
            "routing.high / over",
            "routing.high",
            "oversubscription leaves the fast end alone",
        ),
        Fault(
            f"{ROOT}/collectives/all_to_all.py",
            'is_stretched = is_inside and alone.bound_by in ("scale_up", "sms")',
            "is_stretched = True",
            "kernels of a full grid hold up a dispatch over NICs as one over scale-up links",
        ),
        Fault(
            f"{ROOT}/collectives/all_to_all.py",
            "SAME_SIZE = 0.01",
            "SAME_SIZE = 0.1",
            "a tenth more tokens is the same call",
        ),
        Fault(
            f"{ROOT}/collectives/all_to_all.py",
            "INTERPOLATED_WITHIN = 2.0",
            "INTERPOLATED_WITHIN = 4.0",
            "four times the row's time is near",
        ),
        Fault(
            f"{ROOT}/collectives/all_to_all.py",
            "row_sms = row.sms or comm_sms",
            "row_sms = comm_sms",
            "a row had the SMs that are asked for",
        ),
        Fault(
            f"{ROOT}/collectives/all_to_all.py",
            'bound_by if terms[bound_by] >= t0_s else "latency"',
            "bound_by",
            "short messages are bound by a link",
        ),
        Fault(
            f"{ROOT}/collectives/all_to_all.py",
            "abs(math.log(mine / its))",
            "abs(mine - its)",
            "distances of rows are differences, not ratios",
        ),
        Fault(
            f"{ROOT}/collectives/all_to_all.py",
            "same_links and row_sms == comm_sms)",
            "same_links)",
            "other SMs are the row's own call",
        ),
        Fault(
            f"{ROOT}/collectives/all_to_all.py",
            "        (message.nodes_per_token, row.nodes_per_token),\n",
            "",
            "a row of other destinations is the row's own call",
        ),
        Fault(
            f"{ROOT}/collectives/ring.py",
            "steps = rounds * (group.ranks - 1)",
            "steps = group.ranks - 1",
            "an all-reduce has the hops of one round",
        ),
        Fault(
            f"{ROOT}/collectives/ring.py",
            "basis = weakest(share.basis, *faster.bases)",
            "basis = share.basis",
            "assumed hops of a ring leave no mark",
        ),
        Fault(
            f"{ROOT}/collectives/ring.py",
            "return _Wire(over_nics, 0.0 if group.ranks == group.nodes else scale_up)",
            "return _Wire(over_nics, scale_up)",
            "one rank a node is bound by NVLink that it does not use",
        ),
        Fault(
            f"{ROOT}/collectives/all_to_all.py",
            'f"notify_in_rows.{regime}"',
            '"notify_in_rows.alone"',
            "what rows hold is asked of the wrong regime",
        ),
        Fault(
            f"{ROOT}/collectives/p2p.py",
            '"link.nic.p2p", network, 2, node_stride)',
            '"link.nic.p2p", network, 2)',
            "a send to a far node uses no uplink",
        ),
        Fault(
            f"{ROOT}/collectives/ring.py",
            "hops = _Hops(steps - over_nics, over_nics,",
            "hops = _Hops(steps, over_nics,",
            "hops over the NIC count as NVLink hops too",
        ),
        Fault(
            f"{ROOT}/collectives/all_to_all.py",
            "weakest(*(part.basis for part in parts)),",
            "parts[0].basis,",
            "a layout kernel's basis is lost",
        ),
        Fault(
            f"{ROOT}/collectives/all_to_all.py",
            'if row.basis not in ("measured", "interpolated"):\n        return row.basis',
            'if row.basis not in ("measured", "interpolated"):\n        return "interpolated"',
            "a transferred row scaled counts as interpolated",
        ),
        Fault(
            f"{ROOT}/collectives/ring.py",
            '(corner == "value" and latency > moving)',
            '(corner == "slow" and latency > moving)',
            "whether latency binds is asked of the slow end",
        ),
        Fault(
            "simulator/costs/collectives/ring.py",
            "network.scale_up_peer_bytes_per_s < network.scale_up_bytes_per_s",
            "network.scale_up_peer_bytes_per_s < 0.0",
            "links that meet in no switch are added up by one",
        ),
        Fault(
            "simulator/costs/collectives/ring.py",
            "high=max(ring.high, seconds[0]),",
            "high=seconds[2],",
            "no software keeps the switch out of an all-reduce",
        ),
        Fault(
            "hwprofiles/collectives/ring_formula.py",
            "return sent / rate * (steps + own_step) / steps",
            "return sent / rate",
            "a ring takes no step that stays on the GPU",
        ),
        Fault(
            "hwprofiles/collectives/ring_formula.py",
            "num_bytes * (1.0 + 1.0 / ranks) / rate",
            "num_bytes / rate",
            "the sum goes up for nothing",
        ),
        Fault(
            "simulator/costs/collectives/ring.py",
            "moving = hops.seconds(inside, over, corner), wire / rate_at(share, corner)",
            "moving = hops.seconds(inside, over, corner), wire",
            "flags beside every word cost nothing",
        ),
        Fault(
            "simulator/costs/collectives/ring.py",
            "(min(ends) for ends in zip(simple.seconds, ll.seconds, strict=True))",
            "simple.seconds",
            "small messages wait for chunks too",
        ),
    ),
)
