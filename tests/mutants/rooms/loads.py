"""Faults of what fills memory and links: tensors by name, variants, messages on links, their pictures and words."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

LOADS = Room(
    "loads",
    (
        "tests/network/test_crossing.py",
        "tests/step/test_network_load.py",
        "tests/step/test_stage_tensors.py",
        "tests/step/test_memory_variants.py",
        "tests/report/test_memory_figure.py",
        "tests/report/test_memory_words.py",
        "tests/report/test_network_figure.py",
        "tests/dashboards/test_memory_page.py",
        "tests/dashboards/test_network_page.py",
    ),
    (
        Fault(
            "simulator/network/crossing.py",
            "(blocks != np.roll(blocks, 1)).sum()",
            "(blocks[1:] != blocks[:-1]).sum()",
            "a ring does not go back to its first node",
        ),
        Fault(
            "simulator/network/crossing.py",
            "crossing += count * (len(nodes) ** 2",
            "crossing += (len(nodes) ** 2",
            "groups on the same nodes count once above, and by their number below",
        ),
        Fault(
            "simulator/network/crossing.py",
            "first // nodes_per_block != second // nodes_per_block",
            "first != second",
            "every transfer between nodes leaves its leaf",
        ),
        Fault(
            "simulator/step/network_load.py",
            "counts * cost.bytes_nic * leaf",
            "counts * cost.bytes_nic",
            "all that NICs carry goes through the spine",
        ),
        Fault(
            "simulator/step/network_load.py",
            "graph.dag.resource // NUM_STREAMS",
            "graph.dag.resource % ranks",
            "messages are counted for another pipeline rank",
        ),
        Fault(
            "simulator/step/network_load.py",
            "(cost.seconds if cost.bytes_nic else 0.0)",
            "cost.seconds",
            "messages inside a node take time on NICs",
        ),
        Fault(
            "simulator/step/crossing_shares.py",
            "shares[other].append(share)",
            "shares[rank].append(share)",
            "a rank sends forwards only",
        ),
        Fault(
            "simulator/step/crossing_shares.py",
            "exchange_crossing(self.groups.ep.reshape(-1, self.groups.ep.shape[-1])",
            "exchange_crossing(self.groups.stages",
            "experts are exchanged over all ranks of a stage",
        ),
        Fault(
            "simulator/results/network_view.py",
            "return link.load(traffic) / (link.bytes_per_s * self.step_s)",
            "return link.mean_load(traffic) / (link.bytes_per_s * self.step_s)",
            "the share of the fullest link is that of a mean one",
        ),
        Fault(
            "simulator/step/memory.py",
            "small.get(kind, 0) + num_bytes",
            "num_bytes",
            "of the small tensors of a kind the last alone is told",
        ),
        Fault(
            "simulator/step/memory_variants.py",
            'own = recompute.modules if recompute.granularity == "selective" else ()',
            "own: tuple[RecomputeModule, ...] = ()",
            "a further module is recomputed instead of those that are, not beside them",
        ),
        Fault(
            "simulator/step/memory_variants.py",
            'change.kind == "recompute" and any(',
            'change.kind == "schedule" and any(',
            "modules that the model has not are offered",
        ),
        Fault(
            "simulator/report/figures/memory.py",
            '"arrayminus": [(value - low) / GIGA]',
            '"arrayminus": [(high - value) / GIGA]',
            "the range of the need is as wide downwards as upwards",
        ),
        Fault(
            "simulator/report/figures/network.py",
            "most = max((view.share(link, traffic)",
            "most = max((view.share(link)",
            "a kind of traffic is coloured by the scale of all",
        ),
        Fault(
            "simulator/report/frames/memory.py",
            "numbers.signed_percent(each.memory.peak_bytes / own - 1)",
            "numbers.signed_percent(own / each.memory.peak_bytes - 1)",
            "a variant's change of memory is upside down",
        ),
        Fault(
            "dashboards/views/network.py",
            'return value_of(whole, f"First answer from {first.draws} of {draws} draws, refining") or first',
            "return first",
            "nobody is told that an answer is a first one",
        ),
    ),
)
