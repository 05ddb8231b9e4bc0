"""Made-up operators with made-up prices: what a unit's segments sum, and what multiplies them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from hwprofiles.kernels.shape import KernelShape, Regime
from simulator.assembly.unit_costs import Prices, stage_costs, transfers
from simulator.costs.cost import CollectiveCost
from simulator.workload.op import AllToAll, Collective, Op, StageWorkload, Unit, Workload

GAP_S = 0.5


@dataclass(frozen=True)
class Price:
    seconds: float
    low: float
    high: float
    basis: str = "measured"


def kernel(op: Op, regime: Regime) -> Price:
    """As many seconds as its rows; twice beside communication."""
    seconds = float(op.shape.m) * (2.0 if regime == "overlapped" else 1.0)
    return Price(seconds, seconds / 2, seconds * 2, "transferred" if op.routed else "measured")


def message(sent: AllToAll, regime: Regime) -> Price:
    return Price(100.0, 50.0, 200.0, "assumed")


def held(op: Op) -> Price:
    """A quarter longer beside a collective of its block."""
    return Price(1.25 * op.shape.m, 1.25 * op.shape.m, 1.25 * op.shape.m)


def collective(of: Collective) -> CollectiveCost:
    return CollectiveCost(of.num_bytes / 100, of.num_bytes / 200, of.num_bytes / 50, "measured", "made up")


PRICES = Prices(kernel, message, GAP_S, collective, held)


def op(name: str, seconds: int, kind: str = "gemm", num_kernels: int = 1, *, routed: bool = False) -> Op:
    shape = KernelShape(kind, m=seconds, n=1, k=1, num_kernels=num_kernels)
    return Op(name, "F", shape, 0, 0, flop=10.0 * seconds, routed=routed)


SENT = AllToAll("dispatch", "F", 8, 8, 1, 2, 1.0, 1.5)
MOE = Unit(
    "layer", "moe",
    {
        "attn_f": (op("norm", 1, "rmsnorm"), op("core", 2, "attention_fwd"), op("out", 4)),
        "mlp_f_local": (op("up", 8, num_kernels=3), op("permute", 16, "permute", routed=True)),
        "combine_b_cast": (op("cast", 32, "quantise", num_kernels=2),),
    },
    {"dispatch_f": SENT, "combine_b": SENT},
)  # fmt: skip
HEAD = Unit("head", "head", {"mlp_f_local": (op("logits", 7),)})
WORKLOAD = Workload(
    (StageWorkload(0, (MOE,), 1, 1), StageWorkload(1, (MOE, HEAD), 1, 1), StageWorkload(2, (HEAD,), 1, 1)), 40
)


def test_blocks_are_cut_at_the_core_and_where_loads_begin() -> None:
    """Each operator with a gap for each of its kernels, by regime."""
    (layer,) = stage_costs(WORKLOAD, PRICES)[0].units
    found = {
        (name, regime, suffix): (draw, segment.seconds)
        for (name, regime), block in layer.blocks.items()
        for suffix, draw, segment in block.segments
    }
    expected = {}
    for regime, factor in (("alone", 1), ("overlapped", 2)):
        expected |= {
            ("attn_f", regime, ".before_core"): ("none", factor * 1 + GAP_S),
            ("attn_f", regime, ".core"): ("none", factor * 2 + GAP_S),
            ("attn_f", regime, ".rest"): ("none", factor * 4 + GAP_S),
            ("mlp_f_local", regime, ""): ("none", factor * 8 + 3 * GAP_S),
            ("mlp_f_local", regime, ".routed"): ("rank", factor * 16 + GAP_S),
        }
    assert found == expected


def test_a_combine_of_gradients_waits_for_the_cast_of_what_it_sends() -> None:
    (layer,) = stage_costs(WORKLOAD, PRICES)[0].units
    assert layer.all_to_all["dispatch_f", "alone"].seconds == 100.0
    for regime, factor in (("alone", 1.0), ("overlapped", 2.0)):
        combine = layer.all_to_all["combine_b", regime]  # type: ignore[index]
        assert (combine.seconds, combine.low, combine.high) == (
            100 + 32 * factor + 2 * GAP_S, 50 + 16 * factor + 2 * GAP_S, 200 + 64 * factor + 2 * GAP_S,
        )  # fmt: skip
        assert combine.by_category["all_to_all"] == 100.0
        assert combine.by_category["kernel_gaps"] == 2 * GAP_S
        assert combine.by_basis == {"assumed": 100.0, "measured": 32 * factor + 2 * GAP_S}
        assert combine.flop == 320.0


def test_categories_and_bases_are_the_kernels_and_the_gaps() -> None:
    (layer,) = stage_costs(WORKLOAD, PRICES)[0].units
    ((_, _, fixed), (_, _, routed)) = layer.blocks["mlp_f_local", "alone"].segments
    assert fixed.by_category == {"gemm": 8.0, "kernel_gaps": 3 * GAP_S}
    assert routed.by_category == {"memory_bound": 16.0, "kernel_gaps": GAP_S}
    assert (fixed.by_basis, routed.by_basis) == ({"measured": 8 + 3 * GAP_S}, {"transferred": 16 + GAP_S})
    assert (fixed.flop, routed.flop) == (80.0, 160.0)


def test_layers_of_one_kind_cost_what_each_of_them_does() -> None:
    """Equal ones once, others anew: more rows in a block, or a message less."""
    longer = Unit("longer", "moe", {**MOE.blocks, "attn_f": (op("out", 64),)}, MOE.all_to_all)
    silent = Unit("silent", "moe", MOE.blocks, {"dispatch_f": SENT})
    (stage,) = stage_costs(Workload((StageWorkload(0, (MOE, longer, silent, MOE), 1, 1),), 40), PRICES)
    first, second, third, again = stage.units
    assert [segment.seconds for _, _, segment in second.blocks["attn_f", "alone"].segments] == [64 + GAP_S]
    assert second.blocks["mlp_f_local", "alone"] == first.blocks["mlp_f_local", "alone"]
    assert third.all_to_all.keys() < first.all_to_all.keys()
    assert again == first


def test_the_units_of_a_stage_stand_in_its_order() -> None:
    assert [unit.is_moe for unit in stage_costs(WORKLOAD, PRICES)[1].units] == [True, False]


def test_hops_that_cost_the_same_share_a_transfer() -> None:
    near, far = Price(4.0, 2.0, 8.0), Price(6.0, 5.0, 9.0, "assumed")
    first, second, third = transfers([near, far, Price(4.0, 2.0, 8.0)])
    assert first is third
    assert (first.seconds, first.low, first.high, first.by_category) == (4.0, 2.0, 8.0, {"pp_transfer": 4.0})
    assert (second.seconds, second.by_basis) == (6.0, {"assumed": 6.0})


@pytest.mark.parametrize("gap_s", [0.0, 1.0])
def test_without_gaps_there_is_no_such_category(gap_s: float) -> None:
    prices = Prices(kernel, message, gap_s, collective, held)
    (layer,) = stage_costs(WORKLOAD, prices)[0].units
    assert ("kernel_gaps" in layer.blocks["mlp_f_local", "alone"].segments[0][2].by_category) == (gap_s > 0)
