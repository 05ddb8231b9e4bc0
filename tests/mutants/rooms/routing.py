"""Faults of the router, of drawn loads and speeds, and of the group law."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

ROUTING = Room(
    "routing",
    ("tests/workload",),
    (
        Fault(
            "simulator/workload/expert_load.py",
            "(1.0 / (concentration + 1.0) + 1.0 / choices)",
            "(1.0 / (concentration + 1.0))",
            "independent tokens load every rank alike",
        ),
        Fault(
            "simulator/workload/expert_load.py",
            "sqrt((ranks - 1) / sequences *",
            "sqrt(ranks / sequences *",
            "a rank's load varies as if the sum were free",
        ),
        Fault(
            "simulator/workload/expert_load.py",
            "_time(model.combine, node).max(axis=-1, keepdims=True)",
            "_time(model.combine, load).max(axis=-1, keepdims=True)",
            "the fullest node is the fullest rank",
        ),
        Fault(
            "simulator/workload/expert_load.py",
            "(variance - between) / (1.0 + between)",
            "variance - between",
            "loads of ranks and nodes vary too much together",
        ),
        Fault(
            "simulator/workload/expert_load.py",
            "(PURPOSE_PERSISTENT, model.persistent_cv, model.node_persistent_cv, 1)",
            "(PURPOSE_PERSISTENT, model.persistent_cv, model.node_persistent_cv, micro_batches)",
            "hot experts change with every micro-batch",
        ),
        Fault(
            "simulator/workload/group_law.py",
            "shape = ((places - 1) / variance - 1.0) / places",
            "shape = (places - 1) / variance / places",
            "gamma variates are too even",
        ),
        Fault(
            "simulator/workload/routing_model.py",
            "return (self.between + self.inside / seq_len) / sequences",
            "return (self.between + self.inside) / sequences",
            "long sequences are as uneven as single tokens",
        ),
        Fault(
            "simulator/workload/routing_model.py",
            "factor = 1.0 + persistent_cv**2",
            "factor = 1.0",
            "fresh load counts the persistent one again",
        ),
        Fault("simulator/workload/gpu_speed.py", "- sigma**2 / 2", "", "unequal GPUs are slower on average"),
        Fault(
            "simulator/workload/balancing.py",
            "np.sign(load - 1.0)",
            "np.sign(1.0 - load)",
            "the bias pushes full experts up",
        ),
        Fault(
            "simulator/workload/routing_model.py",
            "(rule.num_experts - held) / (rule.num_experts - 1)",
            "(rule.num_experts - held) / rule.num_experts",
            "one expert a rank is less uneven than experts",
        ),
        Fault(
            "simulator/workload/routing_model.py",
            "sqrt(apart / held)",
            "sqrt(1.0 / held)",
            "experts of a rank are drawn with replacement",
        ),
        Fault(
            "simulator/workload/expert_load.py",
            "np.repeat(_time(model.dispatch, node), ranks, axis=-1)",
            "_time(model.dispatch, load)",
            "a node's load is its rank's",
        ),
        Fault(
            "simulator/workload/expert_load.py",
            "links.rank * fullest * (1.0 + ROUNDING) > links.node * emptiest",
            "links.rank * fullest * (1.0 + ROUNDING) > 2.0 * links.node * emptiest",
            "tokens of a fullest rank below twice the emptiest node's load never matter",
        ),
        Fault(
            "simulator/workload/expert_load.py",
            "out[matters, 1] = _time(model.dispatch, near, tokens)",
            "out[matters, 1] = _time(model.dispatch, near)",
            "a dispatch follows nodes alone, also where tokens outweigh them",
        ),
        Fault(
            "simulator/workload/expert_load.py",
            "    load /= load.mean(axis=-1, keepdims=True)\n",
            "",
            "routing makes rows",
        ),
        Fault(
            "simulator/workload/expert_load.py",
            "PURPOSE_NOISE, PURPOSE_PERSISTENT = 1, 2",
            "PURPOSE_NOISE, PURPOSE_PERSISTENT = 1, 1",
            "fresh and persistent loads are the same draws",
        ),
        Fault(
            "simulator/draws.py",
            "(draw << 8) | purpose",
            "draw | purpose",
            "draws and purposes share streams",
        ),
        Fault(
            "simulator/draws.py",
            "np.array([seed, (draw << 8)",
            "np.array([0, (draw << 8)",
            "the seed is ignored",
        ),
        Fault(
            "simulator/workload/routing_model.py",
            "token_sd = sqrt(ranks.inside / (rule.seq_len * rule.sequences))",
            "token_sd = sqrt(ranks.inside / rule.seq_len)",
            "more sequences leave the tokens' noise alone",
        ),
        Fault(
            "simulator/workload/balancing.py",
            "* sqrt(2 * pi) / (4 * stride)",
            "* sqrt(2 * pi) / (2 * stride)",
            "the tremor starts at twice its variance",
        ),
        Fault(
            "simulator/workload/routing_model.py",
            "min(1.0, max(independent, together))",
            "independent",
            "hot ranks of a node do not go together over steps",
        ),
        Fault(
            "simulator/workload/expert_load.py",
            "np.maximum(links.node * node, links.rank * tokens)",
            "links.node * node + links.rank * tokens",
            "NIC and links follow each other",
        ),
        Fault(
            "simulator/workload/expert_load.py",
            "return TokenLaw(choice, log(max(missed, LEAST_MISSED)) / log(1.0 - choice))",
            "return TokenLaw(choice, 1.0)",
            "a rank has as many distinct tokens as rows",
        ),
        Fault(
            "simulator/workload/expert_load.py",
            "found / found.mean(axis=-1, keepdims=True)",
            "found",
            "distinct tokens of hot and cold ranks do not sum to what was sent",
        ),
        Fault(
            "simulator/workload/gpu_speed.py",
            "normal = np.repeat(slowest, groups.together, axis=-1)",
            "pass",
            "a tensor-parallel group does not wait for its slowest GPU",
        ),
        Fault(
            "simulator/workload/gpu_speed.py",
            'np.argsort(-seconds, kind="stable")[:count]',
            'np.argsort(seconds, kind="stable")[:count]',
            "the fastest columns are simulated",
        ),
        Fault(
            "simulator/workload/gpu_speed.py",
            "(work - 1) * slowness.max(axis=0)",
            "0.0",
            "the slowest rank of a pipeline is waited for once",
        ),
        Fault(
            "simulator/workload/uneven_group.py",
            "(ranks - here) * share / here",
            "ranks * share / here",
            "a node's own ranks send to it over NICs",
        ),
        Fault(
            "simulator/workload/uneven_group.py",
            "(ranks - here) * share / here",
            "(ranks - here) * share / ranks",
            "a node with few members has the NICs of all",
        ),
        Fault(
            "simulator/workload/expert_load.py",
            "(node * np.array(model.nic_weights)).max(axis=-1, keepdims=True)",
            "(node * np.array(model.nic_weights)).mean(axis=-1, keepdims=True)",
            "nobody waits for the busiest NICs",
        ),
        Fault(
            "simulator/step/routing.py",
            "return max(lies, key=copies)",
            "return min(lies, key=copies)",
            "the fastest group is simulated",
        ),
        Fault(
            "simulator/workload/expert_load.py",
            "links.fixed + (1.0 - links.fixed) * sent",
            "sent",
            "latency grows with the load",
        ),
    ),
)
