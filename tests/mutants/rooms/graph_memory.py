"""Faults of what captured graphs take of memory."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

GRAPHS = "simulator/workload/graph_memory.py"

GRAPH_MEMORY = Room(
    "graph_memory",
    ("tests/step/test_graph_memory.py",),
    (
        Fault(
            GRAPHS,
            "if scenario.host.cuda_graph != FULL and scenario.parallel.pp == 1 and not has_pairs:",
            "if scenario.parallel.pp == 1 and not has_pairs:",
            "a whole step without a pipeline captures one micro-batch",
        ),
        Fault(
            GRAPHS,
            "max(total_bytes(each.working_forward), total_bytes(each.working_backward))",
            "total_bytes(each.working_forward)",
            "backwards work without memory of their own",
        ),
        Fault(
            GRAPHS,
            'return "moe_router" if block.name == MOE_BLOCK else "mlp"',
            'return "mlp"',
            "the norm ahead of a router is a dense layer's",
        ),
        Fault(
            GRAPHS,
            'return scopes | {"moe_router", "moe_preprocess"} if "moe" in scopes else scopes',
            "return scopes",
            "a whole MoE layer is captured without its router",
        ),
        Fault(
            "simulator/workload/memory.py",
            "libraries += graphs.num_bytes(end) - graphs.num_bytes(assumed)",
            "pass",
            "the margin knows nothing of graphs",
        ),
    ),
)
