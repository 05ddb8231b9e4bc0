"""Graphs for the engine's tests: random ones with ties, zeros and joins, and pipelines of a schedule's actions."""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from simulator.engine import StepDag
from simulator.schedule import Schedule, dry_run

KINDS = ("F", "B", "I", "W", "FB")


@dataclass(frozen=True, eq=False)
class Case:
    """A graph with durations for it."""

    dag: StepDag
    class_seconds: np.ndarray
    draws: np.ndarray | None


def make_dag(ops, *, num_classes, num_draw_rows=0, num_resources=None):
    """A StepDag from (class, resource, predecessors, draw row, is_join) an operator; adds the resources' order."""
    last = {}
    pred, pred_ptr = [], [0]
    for op, (_, resource, preds, _, _) in enumerate(ops):
        pred.extend(sorted({*preds, *([last[resource]] if resource in last else [])}))
        pred_ptr.append(len(pred))
        last[resource] = op
    columns = list(zip(*ops, strict=True)) or [(), (), (), (), ()]
    return StepDag(
        op_class=np.array(columns[0], dtype=np.int32),
        resource=np.array(columns[1], dtype=np.int32),
        pred_ptr=np.array(pred_ptr, dtype=np.int32),
        pred=np.array(pred, dtype=np.int32),
        draw_row=np.array(columns[3], dtype=np.int32),
        is_join=np.array(columns[4], dtype=np.bool_),
        num_resources=num_resources or (max(columns[1], default=-1) + 1),
        num_classes=num_classes,
        num_draw_rows=num_draw_rows,
    )


SECONDS = st.one_of(st.sampled_from([0.0, 0.1, 0.2, 0.3, 1 / 3, 1.0]), st.floats(1e-9, 10))
FACTORS = st.one_of(st.sampled_from([1.0, 0.0, 1.5]), st.floats(0.5, 3))


@st.composite
def cases(draw, max_ops=30, max_lanes=6):
    """Any graph in topological order, few distinct durations (ties), zeros, joins, one to six lanes."""
    num_ops, num_classes = draw(st.integers(0, max_ops)), draw(st.integers(1, 4))
    num_draw_rows, lanes = draw(st.integers(0, 3)), draw(st.integers(1, max_lanes))
    ops = [
        (
            draw(st.integers(0, num_classes - 1)),
            draw(st.integers(0, 3)),
            draw(st.sets(st.integers(0, op - 1), max_size=3)) if op else set(),
            draw(st.integers(-1, num_draw_rows - 1)),
            draw(st.booleans()),
        )
        for op in range(num_ops)
    ]
    class_seconds = np.array(draw(st.lists(SECONDS, min_size=num_classes, max_size=num_classes)))
    size = num_draw_rows * lanes
    factors = np.array(draw(st.lists(FACTORS, min_size=size, max_size=size))).reshape(num_draw_rows, lanes)
    dag = make_dag(ops, num_classes=num_classes, num_draw_rows=num_draw_rows, num_resources=4)
    return Case(dag, class_seconds, None if lanes == 1 and draw(st.booleans()) else factors)


def pipeline_dag(schedule: Schedule, ops_per_action=1, is_varied=False):
    """The actions of a schedule as operators: classes in the order of KINDS, one compute stream a rank.

    With several operators an action, every third runs on a second stream of the rank, as a join. With is_varied every
    operator has a draw of its own.
    """
    starts = dry_run(schedule)
    order = sorted((start, rank, index) for rank, row in enumerate(starts) for index, start in enumerate(row))
    ops, done = [], {}
    for _, rank, index in order:
        action = schedule.ranks[rank][index]
        preds = []
        for kind, stage, micro_batch in action.halves():
            if kind == "F" and stage > 0:
                preds.append(done["F", stage - 1, micro_batch])
            elif kind in "BI" and stage < schedule.num_stages - 1:
                preds.append(done["gradient", stage + 1, micro_batch])
        for part in range(ops_per_action):
            on_second = part % 3 == 2
            row = len(ops) if is_varied else -1
            ops.append((KINDS.index(action.kind), 2 * rank + on_second, preds, row, on_second))
            preds = [len(ops) - 1]
        for kind, stage, micro_batch in action.halves():
            done["gradient" if kind in "BI" else kind, stage, micro_batch] = len(ops) - 1
    return make_dag(
        ops, num_classes=len(KINDS), num_draw_rows=len(ops) if is_varied else 0, num_resources=2 * schedule.num_ranks
    )
