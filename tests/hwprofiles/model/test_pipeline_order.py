"""What is refused in a schedule's document before a process waits, and the order of the messages."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.parallel.messages import YIELD_OF, Message, Traffic, execute, needs_of, traffic_of
from hwprofiles.calibration.parallel.order import Order, read_order
from simulator.schedule.check import dry_run
from simulator.schedule.family import SCHEDULES, build_schedule, next_valid_micro_batches
from simulator.schedule.text import schedule_document

CASES = [
    (name, pp, next_valid_micro_batches(name, pp, count)[-1])
    for name in sorted(SCHEDULES) for pp in (2, 4, 8) for count in (1, 16, 31)
]  # fmt: skip


def document() -> dict[str, Any]:
    """1F1B of two ranks and three micro-batches: 0F0 0F1 0B0 0F2 0B1 0B2 | 1F0 1B0 1F1 1B1 1F2 1B2."""
    return deepcopy(schedule_document(build_schedule("1f1b", 2, 3)))


def order_of(name: str, pp: int, micro_batches: int) -> Order:
    return read_order(schedule_document(build_schedule(name, pp, micro_batches)))


@pytest.mark.parametrize(("name", "pp", "micro_batches"), CASES)
def test_what_is_read_is_the_schedule(name: str, pp: int, micro_batches: int) -> None:
    schedule = build_schedule(name, pp, micro_batches)
    order = order_of(name, pp, micro_batches)
    assert order.placement == schedule.placement and order.num_stages == schedule.num_stages
    assert [list(map(str, actions)) for actions in order.ranks] == [
        list(map(str, actions)) for actions in schedule.ranks
    ]
    assert tuple(tuple(start for start, _ in times) for times in execute(order)) == dry_run(schedule)
    for (stage, micro_batch), rank in order.rank_of.items():
        assert rank == schedule.rank_of(stage, micro_batch)


class Link:
    """The least that a transport can do: a rank's messages move one after the other, each when it is the next at both ends."""

    def __init__(self, num_ranks: int) -> None:
        self.started: list[list[Message]] = [[] for _ in range(num_ranks)]
        self.moved: set[Message] = set()

    def move(self) -> bool:
        """Moves what can; whether anything did."""
        heads = [next((m for m in started if m not in self.moved), None) for started in self.started]
        found = {m for m in heads if m is not None and heads[m.source] is m and heads[m.target] is m}
        self.moved |= found
        return bool(found)


class Rank:
    """A rank that runs as the mailbox does: starts what is due, waits for its sends, then for what it needs."""

    def __init__(self, rank: int, order: Order, traffic: Traffic, link: Link) -> None:
        self.order, self.actions, self.due, self.link = order, order.ranks[rank], traffic.due[rank], link
        self.mine = [m for m in traffic.messages if rank in (m.source, m.target)]
        self.rank, self.place, self.yielded = rank, 0, set[Any]()

    def start(self, tag: int, *, is_due: bool) -> None:
        """Messages below the tag; a send that is due is there."""
        started = self.link.started[self.rank]
        for message in self.mine[len(started) :]:
            if message.tag >= tag or not (message.target == self.rank or message.unit in self.yielded):
                assert message.tag >= tag or not is_due
                return
            started.append(message)

    def advance(self) -> bool:
        """One action, if nothing is waited for."""
        if self.place == len(self.actions):
            return False
        self.start(self.due[self.place], is_due=True)
        waits = [m for m in self.mine if m.source == self.rank and m.last_use == self.place]
        if not self.link.moved.issuperset(waits):
            return False
        self.start(self.due[min(self.place + 1, len(self.due) - 1)], is_due=False)
        passes = self.actions[self.place].passes
        needs = {unit for p in passes if (unit := needs_of(self.order, p)) is not None}
        waits = [m for m in self.mine if m.target == self.rank and m.unit in needs]
        assert set(waits) <= set(self.link.started[self.rank])
        if not self.link.moved.issuperset(waits):
            return False
        for p in passes:
            unit = YIELD_OF[p.kind], p.stage, p.micro_batch
            self.yielded.add(unit)
            self.start(next((m.tag + 1 for m in self.mine if m.unit == unit), 0), is_due=True)
        self.place += 1
        return True


@pytest.mark.parametrize(("name", "pp", "micro_batches"), [case for case in CASES if case[1] < 8])
def test_messages_arrive_whatever_the_transport(name: str, pp: int, micro_batches: int) -> None:
    """However far one rank gets before the others: each as far as it can before the next, from either end."""
    order = order_of(name, pp, micro_batches)
    traffic = traffic_of(order)
    assert [message.tag for message in traffic.messages] == list(range(len(traffic.messages)))
    for turns in (list(range(pp)), list(reversed(range(pp)))):
        link = Link(pp)
        ranks = [Rank(rank, order, traffic, link) for rank in range(pp)]
        while any(ranks[rank].advance() for rank in turns) or link.move():
            pass
        assert [rank.place for rank in ranks] == [len(actions) for actions in order.ranks]
        assert link.moved == set(traffic.messages)


def test_a_send_is_let_go_only_when_its_receiver_has_ended() -> None:
    order = order_of("1f1b", 4, 6)
    times = execute(order)
    lasting = 0  # the last two gradients of each stage but the first: their senders end before the receivers
    for message in traffic_of(order).messages:
        used = [
            times[message.target][place][1]
            for place, action in enumerate(order.ranks[message.target])
            if any(needs_of(order, p) == message.unit for p in action.passes)
        ]
        assert len(used) == 1
        if message.last_use is None:
            lasting += 1
            assert times[message.source][-1][0] < used[0]
        else:
            starts = [start for start, _ in times[message.source]]
            assert starts[message.last_use - 1] < used[0] <= starts[message.last_use]
    assert lasting == 6


def swapped(rank: int, one: int, other: int) -> dict[str, Any]:
    changed = document()
    row = changed["ranks"][rank]
    row[one], row[other] = row[other], row[one]
    return changed


def edited(rank: int, place: int, **values: Any) -> dict[str, Any]:
    changed = document()
    changed["ranks"][rank][place].update(values)
    return changed


def of_keys(**values: Any) -> dict[str, Any]:
    return document() | values


def without(rank: int, *places: int) -> dict[str, Any]:
    changed = document()
    changed["ranks"][rank] = [entry for place, entry in enumerate(changed["ranks"][rank]) if place not in places]
    return changed


BAD = [
    (edited(0, 1, kind="G"), r"^ranks\[0\]\[1\]\.kind: 'G' is unknown; allowed B, F, FB, I, W"),
    (edited(0, 1, stage=-1), r"^ranks\[0\]\[1\]\.stage: is -1; a whole number of at least 0$"),
    (edited(0, 1, stage=True), r"^ranks\[0\]\[1\]\.stage: is True; a whole number"),
    (edited(1, 4, micro_batch=3), r"^ranks\[1\]\[4\]\.micro_batch: 3 is none of 3 micro-batches, counted from 0$"),
    (edited(1, 4, b_stage=0), r"^ranks\[1\]\[4\]\.b_stage: is 0; only kind FB has a second half$"),
    (edited(1, 4, kind="FB"), r"^ranks\[1\]\[4\]\.b_stage: is None; a whole number of at least 0$"),
    (edited(0, 3, micro_batch=1), r"^ranks\[0\]\[3\]: 0F1 is there already, on rank 0; each pass stands once"),
    (without(0, 5), r"^ranks: stage 0, micro-batch 2 has F; expected F and B, or F, I and W$"),
    (without(0, 3, 5), r"^ranks: stage 0, micro-batch 2 has nothing; expected F and B, or F, I and W$"),
    (edited(0, 5, kind="I"), r"^ranks: stage 0, micro-batch 2 has F I; expected"),
    (swapped(0, 0, 2), r"^ranks\[0\]\[0\]: 0B0 stands before its 0F0 on rank 0$"),
    (edited(1, 1, kind="W"), r"^ranks\[1\]\[1\]: 1W0 stands before its 1I0 on rank 1$"),
    (of_keys(vpp=2), r"^ranks: no rank holds stage 2 of 4; its passes are missing\nranks: no rank holds stage 3 of 4"),
    (of_keys(ranks=[document()["ranks"][0], []]), r"^ranks: no rank holds stage 1 of 2; its passes are missing$"),
    (edited(1, 0, stage=2), r"^vpp: 1, with 2 ranks 2 stages, but stage 2 stands in ranks$"),
    (of_keys(pp=4), r"^pp: is 4, but ranks has 2 lists$"),
    (of_keys(micro_batches="3"), r"^micro_batches: is '3'; a whole number of at least 1$"),
    (of_keys(ranks=None), r"^ranks: is no list of lists of actions, one list a rank$"),
    (of_keys(ranks=[["0F0"], []]), r"^ranks\[0\]\[0\]: '0F0' is no action; expected an object with kind, stage"),
    (
        of_keys(micro_batches=10**12),
        r"^ranks: 2 stages of 1000000000000 micro-batches need more passes than the 12 here$",
    ),
    (of_keys(vpp=10**12), r"^ranks: 2000000000000 stages of 3 micro-batches need more passes than the 12 here$"),
    (edited(0, 0, stage=10**9), r"^ranks: 1000000001 stages of 3 micro-batches need more passes"),
    (of_keys(vpp=1, ranks=[[], []]), r"^ranks: no rank holds stage 0 of 2"),
]


@pytest.mark.parametrize(("bad", "words"), BAD, ids=[words for _, words in BAD])
def test_a_bad_document_is_refused_with_its_entry(bad: dict[str, Any], words: str) -> None:
    with pytest.raises(CalibrationError, match=words):
        read_order(bad)


def test_a_document_that_is_none() -> None:
    with pytest.raises(CalibrationError, match="a schedule is a JSON object with the keys name, pp, micro_batches"):
        read_order([])  # type: ignore[arg-type]


def test_a_long_list_of_problems_is_cut() -> None:
    bad = document()
    bad["ranks"][0] = [dict(entry, kind="X") for entry in bad["ranks"][0] * 2]
    with pytest.raises(CalibrationError, match=r"\nand 3 more$"):
        read_order(bad)


def test_ranks_that_wait_for_each_other_are_named() -> None:
    """Each order is sound alone: rank 0 takes micro-batch 0 through first, rank 1 begins with the forwards of two."""
    order = read_order(document() | {"ranks": [swapped(0, 1, 2)["ranks"][0], swapped(1, 1, 2)["ranks"][1]]})
    with pytest.raises(CalibrationError) as refused:
        traffic_of(order)
    assert str(refused.value).splitlines() == [
        "ranks[0][1]: deadlock: rank 0 at 0B0 waits for the gradient of stage 1, micro-batch 0 from rank 1, which waits too",
        "ranks[1][1]: deadlock: rank 1 at 1F1 waits for the output of stage 0, micro-batch 1 from rank 0, which waits too",
    ]
