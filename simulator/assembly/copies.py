"""What copies between a GPU and its host wait for outside their own action.

A copy from the host waits for the copies of the same stage and micro-batch there, and begins no earlier than the rank's action
before its own: what comes back for a backward takes memory for one action at most. A forward whose copies are not done holds
up the rank's action after the next.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simulator.assembly.chunks import COMPUTE, COPY_OUT
from simulator.assembly.shapes import Ints, Shape
from simulator.schedule.order import OrderedActions


def copy_edges(ordered: OrderedActions, shapes: Sequence[Shape], shape_of: Ints, base: Ints) -> Ints:
    """(2, edges): operator, and the one that it waits for."""
    first, last, out = (
        np.array([int(each) for each in found], dtype=np.int64)[shape_of]
        for found in (
            [shape.first_on_stream[COMPUTE] for shape in shapes],
            [shape.last_on_stream[COMPUTE] for shape in shapes],
            [shape.last_on_stream[COPY_OUT] for shape in shapes],
        )
    )
    back = np.array([shape.template.first_back for shape in shapes], dtype=np.int64)[shape_of]
    start = base[:-1]
    edges: list[tuple[int, int]] = []
    left: dict[tuple[int, int], int] = {}
    for i, action in enumerate(ordered.actions):
        for kind, stage, micro_batch in action.halves():
            if kind == "F" and out[i] >= 0:
                left[stage, micro_batch] = int(start[i] + out[i])
            elif kind in ("B", "I") and back[i] >= 0 and (stage, micro_batch) in left:
                edges.append((int(start[i] + back[i]), left[stage, micro_batch]))
    for rank in range(int(ordered.ranks.max(initial=-1)) + 1):
        members = np.flatnonzero(ordered.ranks == rank)
        for before, now in zip(members, members[2:], strict=False):
            if back[now] >= 0 and last[before] >= 0:
                edges.append((int(start[now] + back[now]), int(start[before] + last[before])))
            if out[before] >= 0 and first[now] >= 0:
                edges.append((int(start[now] + first[now]), int(start[before] + out[before])))
    return np.array(edges, dtype=np.int64).reshape(-1, 2).T
