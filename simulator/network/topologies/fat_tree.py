"""Plain fat tree: all NICs of a host under one leaf, hosts in order."""

from __future__ import annotations

from dataclasses import dataclass

from simulator.network.wiring import TOPOLOGIES, Wiring


@dataclass(frozen=True, slots=True)
class FatTree:
    """A leaf serves all NICs of `down_ports / rails` hosts; traffic keeps the NIC of the GPU that sends."""

    has_planes: bool = False

    def max_nics(self, wiring: Wiring) -> int:
        """The endpoints of one tree."""
        return wiring.tree_endpoints

    def leaf(self, wiring: Wiring, nic: int) -> tuple[int, int]:
        """(0, leaf): NICs fill the leaves in order."""
        return 0, nic // max(1, wiring.down_ports)

    def hosts_per_leaf(self, wiring: Wiring) -> int:
        """Whole hosts under a leaf."""
        return max(1, wiring.down_ports // wiring.rails)


TOPOLOGIES.add("fat_tree", FatTree())
