"""Faults of what a calibration measures beside kernels, and of whom a stack's own host costs serve."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

FITS = "hwprofiles/calibration/machine"

MACHINE_PARTS = Room(
    "machine_parts",
    (
        "tests/hwprofiles/test_host_part.py", "tests/hwprofiles/test_power_part.py", "tests/hwprofiles/test_network_part.py",
        "tests/step/test_own_host.py", "tests/step/test_host_costs.py",
    ),
    (
        Fault(
            f"{FITS}/host_fit.py",
            "return _row(rows, \"linear_stack trained backward\").less(_parameter_s(rows)).over(2.0)",
            "return _row(rows, \"linear_stack trained backward\").over(2.0)",
            "a product in the backward holds half of the parameter's accumulation",
        ),
        Fault(
            f"{FITS}/host_fit.py",
            '"host_s", "low_s", "high_s"',
            '"host_s", "host_s", "host_s"',
            "the spread of the samples is lost",
        ),
        Fault(
            f"{FITS}/host_fit.py",
            'if row["device"] == "cuda"',
            "if True",
            "kernels of a processor count as launches",
        ),
        Fault(
            f"{FITS}/power_fit.py",
            "value = energy_j * scale / kernel.flop / PICO",
            "value = energy_j / kernel.flop / PICO",
            "energies are told at each kernel's own speed, not at the reference",
        ),
        Fault(
            f"{FITS}/power_fit.py",
            "tuple(mix for mix in known if mix not in blind)",
            "tuple(known)",
            "mixes that judge are fitted too",
        ),
        Fault(
            f"{FITS}/power.py",
            "if not row.watts > 0:",
            "if False:",
            "a counter that stands still gives rows of no watts",
        ),
        Fault(
            f"{FITS}/network_fit.py",
            'if row.get("kernel") == kernel and str(row["is_covered"]) == "True"',
            'if row.get("kernel") == kernel',
            "kernels that ran on behind the messages count as beside them",
        ),
        Fault(
            "hwprofiles/hosts/own.py",
            "value, of_cost = cost.value * ratio.value, getattr(cost, name)",
            "value, of_cost, ratio = cost.value, getattr(cost, name), cost",
            "calls that were not measured are the tables', however slow the host is",
        ),
        Fault(
            "simulator/scenario/own_host.py",
            "serves = wanted == STACK if wanted else is_measured_on(node, stack.provenance.host_cpu)",
            "serves = wanted != 'processor'",
            "a stack brings its host to nodes of another processor",
        ),
        Fault(
            "simulator/step/host.py",
            "return self.costs.graph_s + kernels * self.costs.graph_node_s",
            "return self.costs.graph_s",
            "a graph of many kernels is issued as fast as one of few",
        ),
    ),
)  # fmt: skip
