"""Faults of what issuing work costs a host."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

EXCHANGES, ORDER = "simulator/assembly/exchanges.py", "simulator/schedule/order.py"
LAYERS = "simulator/step/host_layers.py"
CALLS, ISSUE, PRICES = (
    "simulator/workload/host_calls.py",
    "simulator/costs/host_issue.py",
    "simulator/step/host.py",
)

HOSTS = Room(
    "hosts",
    (
        "tests/workload/test_host_calls.py",
        "tests/step/test_host_costs.py",
        "tests/step/test_host_layers.py",
        "tests/hwprofiles/test_hosts.py",
        "tests/assembly/test_exchanges.py",
    ),
    (
        Fault(
            EXCHANGES,
            "waited = np.concatenate((before, inputs[:, members].T), axis=1)",
            "waited = before",
            "the host does not wait for what it receives",
        ),
        Fault(
            EXCHANGES,
            "target = np.where(exchanges[members], first[members, stream], -1)",
            "target = np.where(exchanges[members], -1, first[members, stream])",
            "the host waits where no exchange stands",
        ),
        Fault(
            ORDER,
            "return found | sends[before]",
            "return found",
            "the host does not wait behind what it sends",
        ),
        Fault(
            "simulator/assembly/host.py",
            "work = _Work(bare, plan, owed=int(waits))",
            "work = _Work(bare, plan)",
            "waiting for its GPU takes the host no time",
        ),
        Fault(
            CALLS,
            'return "_b" in block or block.endswith("_w") or "_w_" in block',
            'return "_b" in block',
            "weight gradients are issued as forward calls",
        ),
        Fault(
            CALLS,
            "return _of_op(work, back and not is_forward_again)",
            "return _of_op(work, back)",
            "what is computed again is issued as a backward",
        ),
        Fault(
            CALLS,
            'parameter=(shape.groups if loops else 1) if shape.variant == "wgrad" else 0,',
            'parameter=1 if shape.variant == "wgrad" else 0,',
            "the experts of a loop share one parameter",
        ),
        Fault(
            ISSUE,
            'if message.op != "dispatch" or is_backward(block):',
            'if message.op != "dispatch":',
            "counts are worked out in front of a backward's dispatch too",
        ),
        Fault(
            PRICES,
            "(routed_s if is_routed else unit_s)(block, costs) / 2",
            "unit_s(block, costs) / 2",
            "a layer with experts does no more beside its operators than its attention does again",
        ),
        Fault(
            "simulator/scenario/host_speed.py",
            ", hypot(log(cpu.high / cpu.value), up)",
            ", log(cpu.high / cpu.value)",
            "software that is not known leaves nothing open above",
        ),
        Fault(
            "simulator/scenario/host_speed.py",
            "return hypot(LARGEST * first, *(rest * each for each in others))",
            "return LARGEST * first + sum(rest * each for each in others)",
            "calls of independent sources are all dear at once",
        ),
        Fault(
            "simulator/scenario/host_speed.py",
            "return hypot(apart, down), hypot(apart, up)",
            "return down, up",
            "which of two ways issues work leaves nothing open",
        ),
        Fault(
            "simulator/assembly/host.py",
            "due = self.at + issue.lead_s - ahead",
            "due = self.at",
            "launches inside a run hold it up in nothing",
        ),
        Fault(
            "simulator/assembly/host.py",
            'elif passes == "F" or (half, unit) in recomputed:',
            'elif passes == "F":',
            "without messages a router that is computed again is not waited for",
        ),
        Fault(
            "simulator/assembly/host_waits.py",
            " & (stream[dag.pred] != COMPUTE)",
            "",
            "who waits for a neighbour that waited for its host counts as waiting for a host",
        ),
        Fault(
            "simulator/assembly/host_waits.py",
            "np.where(begins > free, begins, 0.0)",
            "np.zeros(len(begins))",
            "a bubble counts as waiting for the host, too",
        ),
        Fault(
            PRICES,
            "issued.update((each, 0.0) for each in issued if each in replayed)",
            "issued.update()",
            "what a graph holds is issued one by one too",
        ),
        Fault(
            LAYERS,
            'again = (of["again_b"] - of["shared_b"]) / of["shared_f"]',
            'again = of["again_b"] / of["shared_f"]',
            "a layer that is computed again is issued backward twice",
        ),
        Fault(
            LAYERS,
            "(moe.num_routed_experts - FEW_EXPERTS) * each",
            "moe.num_routed_experts * each",
            "the experts of the small model count twice",
        ),
    ),
)
