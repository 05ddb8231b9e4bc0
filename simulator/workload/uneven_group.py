"""An expert group whose nodes hold unequal numbers of its ranks: the NICs of the node with few carry most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum


@dataclass(frozen=True, slots=True)
class NicCopies:
    """Copies over one NIC a token of a rank, in a group that lies unevenly.

    members: ranks on each node. arriving: into each node's NICs; leaving: out of them. Of a combine the two change places.
    """

    members: tuple[int, ...]
    arriving: tuple[float, ...]
    leaving: tuple[float, ...]

    @property
    def busiest(self) -> float:
        """Over the NICs that carry most."""
        return max(*self.arriving, *self.leaving)


def nic_copies(members: Sequence[int], reached: Sequence[float]) -> NicCopies:
    """Members of each node have a NIC each; reached: share of all tokens that have an expert on the node.

    The other nodes' ranks send to a node, its own do not: a node with few members receives over few NICs.
    """
    ranks, total = sum(members), fsum(reached)
    arriving = [(ranks - here) * share / here for here, share in zip(members, reached, strict=True)]
    return NicCopies(tuple(members), tuple(arriving), tuple(total - share for share in reached))
