"""Rail-optimised fat tree: NICs of equal rank in their hosts share a leaf, all leaves share one spine."""

from __future__ import annotations

from dataclasses import dataclass

from simulator.network.wiring import TOPOLOGIES, Wiring


@dataclass(frozen=True, slots=True)
class RailFatTree:
    """Rail r of a block of `down_ports` hosts is one leaf; the spine joins all leaves, whatever their rail."""

    has_planes: bool = False

    def max_nics(self, wiring: Wiring) -> int:
        """The endpoints of one tree."""
        return wiring.tree_endpoints

    def leaf(self, wiring: Wiring, nic: int) -> tuple[int, int]:
        """(0, leaf): block of hosts times rails plus rail."""
        host, rail = divmod(nic, wiring.rails)
        return 0, host // self.hosts_per_leaf(wiring) * wiring.rails + rail

    def hosts_per_leaf(self, wiring: Wiring) -> int:
        """A leaf serves one rail of `down_ports` hosts."""
        return max(1, wiring.down_ports)


TOPOLOGIES.add("rail_fat_tree", RailFatTree())
