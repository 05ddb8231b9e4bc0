"""Laws of the engine for rates that change: the sweep where nothing is shared; shared links carry what they can, no more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.engine import StepDag, sweep
from simulator.engine.event_loop import Flows, Shared, event_loop
from simulator.errors import InconsistentSimulation
from tests.engine.graphs import Case, cases, make_dag

ENGINE = settings(deadline=None, max_examples=100)
TIGHT = 1e-9


def flows(
    of_op: list[int], links: list[list[int]], loads: list[list[float]], num_links: int,
    times: list[tuple[float, float]] | None = None,
) -> Flows:  # fmt: skip
    found = np.array([(1.0, 1.0)] * len(links) if times is None else times)
    return Flows(
        np.array(of_op, dtype=np.int32), np.array(links).reshape(len(links), -1), np.array(loads), num_links, found
    )


def side_by_side(*resources: int, before: tuple[int, ...] = ()) -> StepDag:
    """An operator a class on each resource; operators of `before` wait for nothing."""
    return make_dag(
        [(i, at, set(before) - {i}, -1, False) for i, at in enumerate(resources)], num_classes=len(resources)
    )


def shared_by_all(dag: StepDag, seconds: list[float], loads: list[float]) -> Shared:
    """All operators are flows over one link."""
    count = dag.num_ops
    return event_loop(dag, np.array(seconds), flows(list(range(count)), [[0]] * count, [[x] for x in loads], 1))


@st.composite
def flowing(draw: st.DrawFn) -> tuple[Case, Flows]:
    """A drawn graph, some of whose operators take shares of some of three links."""
    case = draw(cases(max_ops=20, max_lanes=1))
    rows = draw(st.integers(1, 5))
    share = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(1e-3, 1.0))
    of_op = draw(st.lists(st.integers(-1, rows - 1), min_size=case.dag.num_ops, max_size=case.dag.num_ops))
    links = [draw(st.permutations([0, 1, 2]))[:2] for _ in range(rows)]
    loads = [[draw(share), draw(share)] for _ in range(rows)]
    times = [(max(each), min(each)) for each in ((draw(share), draw(share)) for _ in range(rows))]
    return case, flows(of_op, links, loads, 3, times if draw(st.booleans()) else None)


@ENGINE
@given(cases(max_lanes=1))
def test_without_flows_it_is_the_sweep(case: Case) -> None:
    none = flows([-1] * case.dag.num_ops, [[0]], [[1.0]], 1)
    found, swept = event_loop(case.dag, case.class_seconds, none), sweep(case.dag, case.class_seconds)
    assert found.timeline.start_s.tobytes() == swept.start_s.tobytes()
    assert found.timeline.finish_s.tobytes() == swept.finish_s.tobytes()
    assert not found.added_s.any()


@ENGINE
@given(flowing())
def test_sharing_never_shortens_and_is_a_fixed_point(drawn: tuple[Case, Flows]) -> None:
    """No operator ends before it does without sharing; with the added seconds the sweep gives the same times."""
    case, shared = drawn
    dag = case.dag
    found, alone = event_loop(dag, case.class_seconds, shared), sweep(dag, case.class_seconds)
    assert (found.added_s >= 0.0).all()
    assert (found.timeline.finish_s >= alone.finish_s * (1 - TIGHT)).all()
    own = case.class_seconds[dag.op_class] + found.added_s
    each = make_dag(
        [
            (op, int(dag.resource[op]), set(dag.pred[dag.pred_ptr[op] : dag.pred_ptr[op + 1]].tolist()), -1, False)
            for op in range(dag.num_ops)
        ],
        num_classes=max(1, dag.num_ops),
        num_resources=dag.num_resources,
    )
    again = sweep(each, own if dag.num_ops else np.zeros(1))
    assert np.allclose(again.finish_s, found.timeline.finish_s, rtol=1e-9, atol=1e-12)


@ENGINE
@given(flowing())
def test_no_link_carries_more_than_it_can(drawn: tuple[Case, Flows]) -> None:
    """From the first start to the last end of a link's flows there is time for all that they carry, and each carries it all."""
    case, shared = drawn
    shared = replace(shared, times=np.ones_like(shared.times))
    times = event_loop(case.dag, case.class_seconds, shared).timeline
    own = case.class_seconds[case.dag.op_class]
    for link in range(shared.num_links):
        load = np.where(shared.links == link, shared.loads, 0.0).sum(axis=1)
        carried = np.where(shared.of_op >= 0, load[np.maximum(shared.of_op, 0)], 0.0) * own
        busy = carried > 0.0
        if busy.any():
            start, finish = times.start_s[busy, 0], times.finish_s[busy, 0]
            assert carried.sum() <= (finish.max() - start.min()) * (1 + TIGHT)


@pytest.mark.parametrize(("first", "second"), [(1.0, 3.0), (2.0, 2.0), (0.5, 8.0)])
def test_two_flows_on_one_link(first: float, second: float) -> None:
    """Half each until the shorter is done, which takes twice as long; the link never idles."""
    found = shared_by_all(side_by_side(0, 1), [first, second], [1.0, 1.0])
    assert found.timeline.finish_s[:, 0].tolist() == pytest.approx([2 * first, first + second])
    assert found.added_s.tolist() == pytest.approx([first, first])


def test_a_pipeline_send_beside_a_dispatch_on_one_nic() -> None:
    """58.7 MB beside 96.1 MB on 43 GB/s; three flows, of which one starts behind another, have a third each for a time."""
    send, dispatch = 58.7e6 / 43e9, 96.1e6 / 43e9
    found = shared_by_all(side_by_side(0, 1), [send, dispatch], [1.0, 1.0]).timeline.finish_s[:, 0]
    assert found.tolist() == pytest.approx([2 * send, send + dispatch])
    found = shared_by_all(side_by_side(0, 1, 2), [1.0, 2.0, 3.0], [1.0, 1.0, 1.0]).timeline.finish_s[:, 0]
    assert found.tolist() == pytest.approx([3.0, 5.0, 6.0])


def test_what_a_flow_leaves_is_the_others() -> None:
    """Bound by its SMs one takes 0.3 of the link: it keeps that, the other has 0.7; two that fit together lose nothing."""
    found = shared_by_all(side_by_side(0, 1), [1.0, 0.7], [0.3, 1.0])
    assert found.timeline.finish_s[:, 0].tolist() == pytest.approx([1.0, 1.0])
    assert found.added_s.tolist() == pytest.approx([0.0, 0.3])
    assert not shared_by_all(side_by_side(0, 1), [1.0, 2.0], [0.4, 0.6]).added_s.any()


def test_links_are_shared_through_a_third_flow() -> None:
    """A flow over two links takes half of each; what it leaves of the second there is the other's alone."""
    found = event_loop(
        side_by_side(0, 1, 2), np.array([1.0, 1.0, 1.0]),
        flows([0, 1, 2], [[0, 1], [0, -1], [1, -1]], [[1.0, 1.0], [1.0, 0.0], [1.0, 0.0]], 2),
    )  # fmt: skip
    assert found.timeline.finish_s[:, 0].tolist() == pytest.approx([2.0, 2.0, 2.0])


def test_an_operator_that_sends_for_a_part_of_its_time() -> None:
    """Half of the kernels' time is a message: the other flow has half of the link while it lasts, else all; of the kernels
    that half takes twice as long. 3 s of kernels end at 4.5, when the other has had 3.375 of 6.
    """
    found = event_loop(
        side_by_side(0, 1), np.array([3.0, 6.0]), flows([0, 1], [[0], [0]], [[1.0], [1.0]], 1, [(0.5, 0.5), (1.0, 1.0)])
    ).timeline.finish_s[:, 0]
    assert found.tolist() == pytest.approx([4.5, 4.5 + 6.0 - 0.75 * 4.5])
    hidden = event_loop(
        side_by_side(0, 1), np.array([3.0, 6.0]), flows([0, 1], [[0], [0]], [[1.0], [1.0]], 1, [(0.5, 0.0), (1.0, 1.0)])
    ).timeline.finish_s[:, 0]
    assert hidden.tolist() == pytest.approx([3.0, 3.0 + 6.0 - 0.75 * 3.0]), "hidden beside a kernel it delays nothing"


def test_wrong_flows_are_refused() -> None:
    dag = side_by_side(0, 1)
    for wrong in (
        flows([0], [[0]], [[1.0]], 1),
        flows([0, 1], [[0]], [[1.0]], 1),
        flows([0, 0], [[1]], [[1.0]], 1),
        flows([0, 0], [[0]], [[1.5]], 1),
        flows([0, 0], [[0]], [[1.0]], 1, [(1.5, 1.0)]),
    ):
        with pytest.raises(InconsistentSimulation, match="flows"):
            event_loop(dag, np.array([1.0, 1.0]), wrong)
