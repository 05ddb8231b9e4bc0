"""How GPUs that share a sequence attend to one another's tokens, in a layout that is to be found.

A scenario that says a way of its own keeps it. Else it is the one of ring and a2a that sends the fewest bytes: of a token a
ring sends keys and values to every other GPU, a2a its share of queries, keys, values and outputs once; with equal bytes the
ring, whose hops run beside the core.

    ring    (cp - 1) x h_kv (d_qk + d_v)
    a2a     (cp - 1) / cp x (h (d_qk + d_v) + h_kv (d_qk + d_v))
"""

from __future__ import annotations

from typing import Final

from simulator.scenario.scenario import Scenario

RING: Final = "ring"
A2A: Final = "a2a"


def context_way(scenario: Scenario, tp: int, cp: int) -> str:
    """`parallel.cp_comm` of a layout."""
    stated, attention = scenario.parallel.cp_comm, scenario.model.attention
    if cp == 1 or stated != RING or scenario.parallel.cp_kv != "expanded" or any(attention.cut_problems(tp)):
        return stated
    here = attention.cut(tp)
    heads, keys = here.num_heads, getattr(here, "num_kv_heads", here.num_heads)
    if heads % cp or (keys % cp and cp % keys):
        return RING
    sent_by_ring, sent_by_a2a = (cp - 1) * keys, (cp - 1) / cp * (heads + keys)
    return A2A if sent_by_a2a < sent_by_ring else RING
