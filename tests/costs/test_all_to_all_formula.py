"""The formula of dispatch and combine by hand, term by term, and how it carries a row to other sizes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hwprofiles.collectives.rows import CollectiveTable
from hwprofiles.stack_records import Parameter, Stack
from simulator.costs.collectives.all_to_all import all_to_all_cost, notify_floor
from simulator.network.topology import Network
from simulator.workload.op import AllToAll

NOTHING = CollectiveTable()


def message(op: str, nodes: int, tokens: int = 4096, **fields: float) -> AllToAll:
    size = 7392 if op == "dispatch" else 14336
    ranks_per_token = 8 * nodes * (1.0 - (1.0 - 1.0 / (8 * nodes)) ** 8)
    usual = AllToAll(op, "F", tokens, size, nodes, 8 * nodes, min(float(nodes), 3.5), ranks_per_token, False)
    return replace(usual, **fields)


@pytest.mark.parametrize("sms", [2, 20])
@pytest.mark.parametrize("nvlink", [20e9, 200e9])
@pytest.mark.parametrize("nodes", [1, 2, 4, 8])
@pytest.mark.parametrize("op", ["dispatch", "combine"])
def test_the_formula_is_its_slowest_term(
    h800: Network, notrace: Stack, op: str, nodes: int, nvlink: float, sms: int
) -> None:
    """Copies by SMs, bytes over the NIC, bytes over NVLink, behind a fixed latency, at the value and both ends."""
    it, bare = message(op, nodes), replace(notrace, collectives=NOTHING)
    network = replace(h800, scale_up_bytes_per_s=nvlink)
    cost = all_to_all_cost(it, network, bare, "alone", sms)
    known, one = {**notrace.parameters, **notrace.assumptions}, "_one_node" if nodes == 1 else ""
    t0, error = known[f"all_to_all.t0{one}_s"], known["all_to_all.model_error"].value
    copy, per_node = (known[f"all_to_all.sm_cost_{op}{end}"] for end in (one, "_per_remote_node"))
    nic, scale_up = known["link.nic.all_to_all"], known["link.nvlink.all_to_all"]
    payload, remote = it.tokens * it.bytes_per_token, it.nodes_per_token * (nodes - 1) / nodes
    forwarded = it.tokens * it.bytes_per_token * it.ranks_per_token * 7 / 8

    def slowest(time: str, rate: str) -> float:
        by_sms = payload * (getattr(copy, time) + getattr(per_node, time) * remote) / sms
        links = payload * remote / (50e9 * getattr(nic, rate)), forwarded / (nvlink * getattr(scale_up, rate))
        return float(getattr(t0, time) + max(by_sms, *links))

    assert cost.seconds == pytest.approx(slowest("value", "value"))
    assert cost.low == pytest.approx(slowest("low", "high") * (1 - error))
    assert cost.high == pytest.approx(slowest("high", "low") * (1 + error))


@pytest.mark.parametrize("op", ["dispatch", "combine"])
def test_sms_of_one_node_copy_a_token_once_for_each_of_its_gpus(h800: Network, notrace: Stack, op: str) -> None:
    """The constants are of 8 choices among 8 GPUs; of 2 choices a token has 15/8 distinct GPUs."""
    bare, slow = replace(notrace, collectives=NOTHING), replace(h800, scale_up_bytes_per_s=1e15)
    eight, two = (message(op, 1, ranks_per_token=8 * (1 - (7 / 8) ** k)) for k in (8, 2))
    t0 = notrace.parameters["all_to_all.t0_one_node_s"].value
    costs = [all_to_all_cost(each, slow, bare, "alone", 20) for each in (eight, two)]
    assert {cost.bound_by for cost in costs} == {"sms"}
    assert (costs[1].seconds - t0) / (costs[0].seconds - t0) == pytest.approx((15 / 8) / (8 * (1 - (7 / 8) ** 8)))


def test_kernels_of_larger_domains_pay_for_each_copy_too(h800: Network, notrace: Stack) -> None:
    bare, slow = replace(notrace, collectives=NOTHING), replace(h800, scale_up_bytes_per_s=1e15)
    few, many = (replace(message("dispatch", 1), ranks=16, ranks_per_token=copies) for copies in (2.0, 6.0))
    t0 = notrace.parameters["all_to_all.t0_one_node_s"].value
    costs = [all_to_all_cost(each, slow, bare, "alone", 20) for each in (few, many)]
    assert costs[0].bound_by == "sms"
    assert (costs[1].seconds - t0) / (costs[0].seconds - t0) == pytest.approx(3.0)


def test_the_terms_of_the_cases_above_all_bind(h800: Network, notrace: Stack) -> None:
    bare = replace(notrace, collectives=NOTHING)
    slow = replace(h800, scale_up_bytes_per_s=20e9)
    costs = [all_to_all_cost(message("dispatch", 8), *case) for case in (
        (h800, bare, "alone", 2), (h800, bare, "alone", 20), (slow, bare, "alone", 20),
    )]  # fmt: skip
    assert [cost.bound_by for cost in costs] == ["sms", "nic", "scale_up"]


@pytest.mark.parametrize("op", ["dispatch", "combine"])
def test_half_a_row_is_as_uncertain_as_the_formula(h800: Network, notrace: Stack, op: str) -> None:
    """Beside the row's own range: the formula's mean error on groups that were left out of its fit, to both sides."""
    error = notrace.parameters["all_to_all.model_error"].value
    half = all_to_all_cost(message(op, 8, tokens=2048, nodes_per_token=3.98), h800, notrace, "alone", 24)
    assert half.basis == "interpolated"
    assert half.low <= half.seconds * (1 - error)
    assert half.high >= half.seconds * (1 + error)


def test_the_nearest_row_is_nearest_in_nodes_then_in_tokens(h800: Network, notrace: Stack) -> None:
    """Rows of 2 nodes and few tokens, 8 nodes and many: a message of 8 nodes and few tokens takes the second."""
    rows = {row.nodes: row for row in notrace.collectives.rows if row.op == "dispatch" and row.nodes in (2, 8)}
    near = rows[8].model_copy(update={"source": "eight nodes"})
    few = rows[2].model_copy(update={"tokens": 128, "source": "two nodes"})
    half = rows[8].model_copy(update={"tokens": 2048, "seconds": rows[8].seconds / 2, "low": None, "high": None})
    for table in ((few, near), (near, few)):
        stack = replace(notrace, collectives=CollectiveTable(table))
        assert "eight nodes" in all_to_all_cost(message("dispatch", 8, tokens=128), h800, stack, "alone", 24).source
        assert "two nodes" in all_to_all_cost(message("dispatch", 2, tokens=4096), h800, stack, "alone", 24).source
    stack = replace(notrace, collectives=CollectiveTable((near, half)))
    assert "eight nodes" in all_to_all_cost(message("dispatch", 8, tokens=3500), h800, stack, "alone", 24).source
    assert "eight nodes" not in all_to_all_cost(message("dispatch", 8, tokens=2300), h800, stack, "alone", 24).source


def test_a_row_s_tokens_reach_ranks_of_their_nodes_only(h800: Network, notrace: Stack) -> None:
    """Where NVLink binds: a row of 3.98 of 8 nodes spread its tokens over the ranks of 4 nodes. 8 choices among 32 ranks
    hit 32 (1 - (31/32)^8) of them; a message like that is the row itself."""
    row = next(row for row in notrace.collectives.rows if row.op == "dispatch" and row.nodes == 8)
    slow = {"link.nvlink.reference_bytes_per_s": 10e9}
    parameters = {
        key: entry.model_copy(update={"value": slow[key], "low": slow[key], "high": slow[key]})
        if key in slow
        else entry
        for key, entry in notrace.parameters.items()
    }
    stack = replace(notrace, parameters=parameters)
    network = replace(h800, scale_up_bytes_per_s=10e9)
    it = message("dispatch", 8, nodes_per_token=3.98, ranks_per_token=32 * (1 - (31 / 32) ** 8))
    cost = all_to_all_cost(it, network, stack, "alone", 24)
    assert (cost.bound_by, cost.basis) == ("scale_up", "measured")
    assert cost.seconds == pytest.approx(row.seconds, rel=1e-12)


def of_row(**fields: float) -> AllToAll:
    """The dispatch that the row of 8 nodes measured: 4,096 tokens to 3.98 of 8 nodes, 24 SMs."""
    return message("dispatch", 8, **{"nodes_per_token": 3.98, **fields})


def test_only_the_row_s_own_call_counts_as_measured(h800: Network, notrace: Stack) -> None:
    """A size off by more than 1 %, other destinations or other SMs are another call."""
    calls = {
        "itself": (of_row(), 24), "rounded": (of_row(tokens=4120), 24), "larger": (of_row(tokens=4300), 24),
        "wider": (of_row(bytes_per_token=7800), 24), "nearer": (of_row(nodes_per_token=3.5), 24), "more SMs": (of_row(), 32),
    }  # fmt: skip
    found = {name: all_to_all_cost(it, h800, notrace, "alone", sms).basis for name, (it, sms) in calls.items()}
    assert found == {
        "itself": "measured", "rounded": "measured", "larger": "interpolated", "wider": "interpolated",
        "nearer": "interpolated", "more SMs": "interpolated",
    }  # fmt: skip


@pytest.mark.parametrize(("tokens", "basis"), [(1000, "extrapolated"), (2500, "interpolated"), (7000, "interpolated"),
                                               (12288, "extrapolated")])  # fmt: skip
def test_beyond_twice_and_half_the_row_s_time_it_is_extrapolated(
    h800: Network, notrace: Stack, tokens: int, basis: str
) -> None:
    assert all_to_all_cost(of_row(tokens=tokens), h800, notrace, "alone", 24).basis == basis


def test_a_row_s_sms_are_its_own(h800: Network, notrace: Stack) -> None:
    """Where the copies of the SMs bind, a quarter of them takes four times as long, whatever the row was measured with."""
    times = [all_to_all_cost(of_row(), h800, notrace, "alone", sms).seconds for sms in (4, 1)]
    assert times[1] / times[0] == pytest.approx(4.0, rel=0.05)


def test_a_few_tokens_cost_latency(h800: Network, notrace: Stack) -> None:
    assert all_to_all_cost(of_row(tokens=1), h800, notrace, "alone", 24).bound_by == "latency"


def test_a_near_row_is_near_by_ratio(h800: Network, notrace: Stack) -> None:
    """1,000 tokens: 4,096 is four times as many, 128 nearly an eighth, though it is nearer by difference."""
    row = next(row for row in notrace.collectives.rows if row.op == "dispatch" and row.nodes == 8)
    few = row.model_copy(update={"tokens": 128, "source": "few tokens"})
    stack = replace(notrace, collectives=CollectiveTable((few, row)))
    assert row.tokens == 4096
    assert "few tokens" not in all_to_all_cost(of_row(tokens=1000), h800, stack, "alone", 24).source
    assert "few tokens" in all_to_all_cost(of_row(tokens=500), h800, stack, "alone", 24).source


@pytest.mark.parametrize(
    "key",
    ["link.nic.all_to_all", "link.nvlink.all_to_all", "all_to_all.t0_s", "all_to_all.sm_cost_dispatch",
     "all_to_all.sm_cost_dispatch_per_remote_node"],
)  # fmt: skip
def test_the_formula_is_as_certain_as_its_least_certain_constant(h800: Network, notrace: Stack, key: str) -> None:
    bare = replace(notrace, collectives=NOTHING)
    known = {**bare.parameters, key: bare.parameters[key].model_copy(update={"basis": "assumed"})}
    bases = [
        all_to_all_cost(of_row(), h800, each, "alone", 24).basis for each in (bare, replace(bare, parameters=known))
    ]  # fmt: skip
    assert bases == ["transferred", "assumed"]


def test_another_group_is_extrapolated_whatever_its_time(h800: Network, notrace: Stack) -> None:
    """16 nodes with the destinations of 8: no row is of such a group."""
    wider = of_row(num_nodes=16, ranks=128)
    assert all_to_all_cost(wider, h800, notrace, "alone", 24).basis == "extrapolated"


def test_a_notify_is_as_certain_as_its_least_certain_kernel(stack: Stack) -> None:
    """A dispatch with a new layout: the floor measured and the layout's kernel assumed, or the other way round."""
    known = {**stack.parameters, **stack.assumptions}
    for assumed in ("notify_floor_s", "dispatch_layout_s"):
        parts = {
            key: Parameter(value=known[key].value, low=known[key].low, high=known[key].high, unit="s", source="s",
                           basis="assumed" if key == assumed else "measured")
            for key in ("notify_floor_s", "dispatch_layout_s")
        }  # fmt: skip
        others = {key: entry for key, entry in stack.assumptions.items() if key not in parts}
        mixed = replace(stack, parameters={**stack.parameters, **parts}, assumptions=others)
        assert notify_floor(of_row(), mixed, "overlapped").basis == "assumed"


def test_a_row_that_was_transferred_stays_so_at_other_sizes(h800: Network, notrace: Stack) -> None:
    rows = tuple(row.model_copy(update={"basis": "transferred"}) for row in notrace.collectives.rows)
    stack = replace(notrace, collectives=CollectiveTable(rows))
    for tokens in (4096, 3000, 100):
        assert all_to_all_cost(of_row(tokens=tokens), h800, stack, "alone", 24).basis == "transferred"
