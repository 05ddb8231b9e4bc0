"""What a collective adds to a block beside the operator that runs at the same time, by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from hwprofiles.kernels.shape import KernelShape
from simulator.assembly.exposed import UNCHUNKED, Beside, Chunking, exposed, partner
from simulator.assembly.pair import build_template
from simulator.assembly.pairing import Pairing
from simulator.assembly.unit_costs import TP_COLLECTIVES, Prices, stage_costs
from simulator.workload.op import Collective, Op, Pass, StageWorkload, Unit, Workload
from tests.assembly.test_unit_costs import GAP_S, collective, held, kernel, message


@dataclass(frozen=True)
class Known:
    """A cost with an interval."""

    seconds: float
    low: float
    high: float
    basis: str = "measured"


GATHER = Collective("gather", "all_gather", "tp", 8, "I", beside="up_dgrad")
CHUNKED = Collective("gather", "all_gather", "tp", 8, "F", chunked_with="up")
ALONE, HELD = Known(10.0, 8.0, 12.0), Known(12.5, 10.0, 15.0)
"""A kernel that loses a fifth of its rate beside a collective."""


@pytest.mark.parametrize(
    ("seconds", "added"),
    [
        # In 5 s beside the collective the kernel does the work of 4; the other 6 take as long as alone: 11 in all.
        (5.0, 1.0),
        # The kernel is done after 12.5 s; the collective goes on alone.
        (12.5, 2.5), (20.0, 10.0), (0.0, 0.0),
    ],
)  # fmt: skip
def test_beside_a_kernel(seconds: float, added: float) -> None:
    cost = Known(seconds, seconds / 2, 2 * seconds)
    found = exposed(GATHER, cost, Beside(ALONE, HELD), UNCHUNKED)
    assert found.seconds == pytest.approx(added)
    assert found.low <= found.seconds <= found.high
    assert found.basis == "measured"


@pytest.mark.parametrize(
    ("seconds", "added"),
    [
        # It takes 10 s beside the kernel, which does the work of 8 meanwhile and 2 more alone.
        (5.0, 2.0),
        # The kernel is done after 12.5 s, 6.25 of the collective too; the rest goes on at its own pace.
        (10.0, 6.25), (6.25, 2.5),
    ],
)  # fmt: skip
def test_a_stretched_one_beside_a_kernel(seconds: float, added: float) -> None:
    found = exposed(GATHER, Known(seconds, seconds, seconds), Beside(ALONE, HELD, 2.0), UNCHUNKED)
    assert found.seconds == pytest.approx(added)
    assert found.low <= found.seconds <= found.high


def test_low_and_high_take_the_ends_that_make_most_and_least_of_it() -> None:
    found = exposed(GATHER, Known(14.0, 13.0, 15.0), Beside(ALONE, ALONE), UNCHUNKED)
    assert (found.low, found.seconds, found.high) == (13.0 - 12.0, 14.0 - 10.0, 15.0 - 8.0)


@pytest.mark.parametrize("seconds", [4.0, 10.0, 30.0])
@pytest.mark.parametrize("number", [1.0, 2.0, 8.0])
def test_chunks_by_their_timeline(seconds: float, number: float) -> None:
    """Gather, then GEMM, piece by piece on two streams: the first gather or the last GEMM has nothing beside it."""
    gathered = computed = 0.0
    for _ in range(int(number)):
        gathered += seconds / number
        computed = max(gathered, computed) + 10.0 / number
    cost = Known(seconds, seconds, seconds)
    found = exposed(CHUNKED, cost, Beside(ALONE, HELD), Chunking(number))
    assert 10.0 + found.seconds == pytest.approx(computed)
    slower = exposed(CHUNKED, cost, Beside(ALONE, HELD), Chunking(number, launch_s=0.5))
    assert slower.seconds - found.seconds == pytest.approx(0.5 * number)


@pytest.mark.parametrize(("seconds", "both"), [(4.0, 12.5 + 4.0 / 2.0), (30.0, 30.0 + 12.5 / 2.0)])
def test_a_gemm_leaves_sms_to_the_reduction_of_what_it_makes(seconds: float, both: float) -> None:
    """10 s on all SMs are 12.5 on four fifths, in every chunk; a gather takes none."""
    cost, held = Known(seconds, seconds, seconds), Chunking(2.0, held=0.2)
    reduction = replace(CHUNKED, op="reduce_scatter")
    assert 10.0 + exposed(reduction, cost, Beside(ALONE, HELD), held).seconds == pytest.approx(both)
    gather = replace(CHUNKED, op="all_gather")
    assert exposed(gather, cost, Beside(ALONE, HELD), held) == exposed(gather, cost, Beside(ALONE, HELD), Chunking(2.0))


def test_alone_it_is_exposed_whole() -> None:
    assert exposed(GATHER, Known(5.0, 4.0, 6.0), None, UNCHUNKED).seconds == 5.0


def gemm(name: str, phase: Pass, rows: int) -> Op:
    return Op(name, phase, KernelShape("gemm", m=rows, n=1, k=1), 0, 0)


def test_partners_are_found_by_name_and_pass() -> None:
    ops = {op.name: op for op in (gemm("up", "F", 1), gemm("up_dgrad", "I", 2), gemm("up_wgrad", "W", 3))}
    reduce = replace(GATHER, beside="up_wgrad")
    assert partner(GATHER, ops, UNCHUNKED, with_weights=False) is ops["up_dgrad"]
    assert partner(reduce, ops, UNCHUNKED, with_weights=True) is ops["up_wgrad"]
    assert partner(reduce, ops, UNCHUNKED, with_weights=False) is None
    assert partner(CHUNKED, ops, UNCHUNKED, with_weights=True) is None
    assert partner(CHUNKED, ops, Chunking(2.0), with_weights=True) is ops["up"]


def test_a_reduction_hides_behind_weight_gradients_only_where_they_come_directly() -> None:
    reduce = Collective("reduce", "reduce_scatter", "tp", 400, "I", beside="up_wgrad")
    unit = Unit(
        "layer", "dense", {"mlp_b_local": (gemm("up_dgrad", "I", 8), reduce), "mlp_w": (gemm("up_wgrad", "W", 3),)}
    )
    prices = Prices(kernel, message, GAP_S, collective, held)
    (stage,) = stage_costs(Workload((StageWorkload(0, (unit,), 0, 0),), 8), prices)
    (found,) = stage.units
    together, apart = (
        each.blocks["mlp_b_local", "alone"].segments[0][2] for each in (found, found.of_lone_input_gradient())
    )
    assert together.by_category[TP_COLLECTIVES] == pytest.approx(4.0 - 3.0)
    assert apart.by_category[TP_COLLECTIVES] == pytest.approx(4.0)
    assert [each.name for each in together.messages] == ["tp_reduce_scatter"]
    near = replace(prices, stretch=2.0, collective=lambda of: replace(collective(of), inside_s=collective(of).seconds))
    far = replace(near, collective=collective)
    for each, added in ((near, 0.75 + 4.0 - 3.75 / 2), (far, 1.0)):
        (of_unit,) = stage_costs(Workload((StageWorkload(0, (unit,), 0, 0),), 8), each)[0].units
        seconds = of_unit.blocks["mlp_b_local", "alone"].segments[0][2].by_category[TP_COLLECTIVES]
        assert seconds == pytest.approx(added)
    for kind, segment in (("B", together), ("I", apart)):
        template = build_template(kind, stage, None, pairing=Pairing(beside=False), wait_at_boundary=False)  # type: ignore[arg-type]
        assert next(op.segment for op in template.ops if "mlp_b_local" in op.label) == segment
