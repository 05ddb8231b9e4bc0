"""Every rail in a plane of its own: fat trees side by side, one NIC of every host in each (arXiv:2505.09343, 5.1)."""

from __future__ import annotations

from dataclasses import dataclass

from simulator.network.wiring import TOPOLOGIES, Wiring


@dataclass(frozen=True, slots=True)
class MultiPlaneFatTree:
    """Rail r is in plane r mod num_planes. No link joins planes: other rails are reached inside the node."""

    has_planes: bool = True

    def max_nics(self, wiring: Wiring) -> int:
        """Hosts that one plane connects, times their NICs."""
        rails_per_plane = -(-wiring.rails // wiring.num_planes)
        return wiring.tree_endpoints // rails_per_plane * wiring.rails

    def leaf(self, wiring: Wiring, nic: int) -> tuple[int, int]:
        """(plane, leaf): the rails of one plane follow each other, each in leaves of `hosts_per_leaf` hosts."""
        host, rail = divmod(nic, wiring.rails)
        rails_per_plane = -(-wiring.rails // wiring.num_planes)
        block = host // self.hosts_per_leaf(wiring)
        return rail % wiring.num_planes, block * rails_per_plane + rail // wiring.num_planes

    def hosts_per_leaf(self, wiring: Wiring) -> int:
        """A leaf serves one rail of `down_ports` hosts."""
        return max(1, wiring.down_ports)


TOPOLOGIES.add("multi_plane_fat_tree", MultiPlaneFatTree())
