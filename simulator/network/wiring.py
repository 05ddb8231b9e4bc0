"""How NICs reach switches: the numbers of a folded Clos fabric, and what each kind of topology says about them.

A fabric is one or more trees (planes). A leaf switch has `down` ports towards NICs and the rest towards the spine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from simulator import not_modelled
from simulator.registry import Family


@dataclass(frozen=True, slots=True)
class Wiring:
    """Counts of a fabric. rails: NICs of one host; NIC i of a host is on rail i.

    num_planes: trees without a link between them. switch_ports: ports of every switch. num_layers: of switches.
    oversubscription: down over up bandwidth of a leaf, >= 1. port_bytes_per_s: one port, one direction.
    """

    rails: int
    num_planes: int
    switch_ports: int
    num_layers: int
    oversubscription: float
    port_bytes_per_s: float

    @property
    def down_ports(self) -> int:
        """Ports of a leaf towards NICs; all of them where the leaf is the only layer."""
        if self.num_layers == 1:
            return self.switch_ports
        return int(self.switch_ports * self.oversubscription / (1.0 + self.oversubscription))

    @property
    def up_ports(self) -> int:
        """Ports of a leaf towards the layer above."""
        return self.switch_ports - self.down_ports

    @property
    def tree_endpoints(self) -> int:
        """NICs of one full tree of p-port switches: p * down * (p/2)^(layers - 2), which is p^2/2 or p^3/4 without
        oversubscription; p for a single layer."""
        if self.num_layers == 1:
            return self.switch_ports
        return self.switch_ports * self.down_ports * int((self.switch_ports // 2) ** (self.num_layers - 2))

    def pod(self, leaf: int, layer: int) -> int:
        """The group of leaves, joined by switches of `layer` (1: the leaf itself), of a leaf; 0 at the top."""
        return 0 if layer >= self.num_layers > 1 else leaf // int((self.switch_ports // 2) ** (layer - 1))


class Topology(Protocol):
    """A way to wire hosts to leaves."""

    @property
    def has_planes(self) -> bool:
        """Whether its trees are planes without a link between them: several, where others have one."""
        ...

    def max_nics(self, wiring: Wiring) -> int:
        """NICs that the full fabric connects."""
        ...

    def leaf(self, wiring: Wiring, nic: int) -> tuple[int, int]:
        """(tree, leaf within the tree) of a NIC, counted through all hosts."""
        ...

    def hosts_per_leaf(self, wiring: Wiring) -> int:
        """Consecutive hosts whose NICs of one rail share a leaf; at least 1."""
        ...


TOPOLOGIES: Family[Topology] = Family("topology", planned=not_modelled.values("cluster.fabric.topology"))
