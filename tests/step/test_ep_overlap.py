"""Pairs of two micro-batches in a whole step: its closed form, what it can never do, what it refuses."""

from __future__ import annotations

from math import fsum

import pytest
from hypothesis import given, settings

from simulator import load_scenario
from simulator.errors import InputError
from simulator.step.prepared import prices
from simulator.workload.op import Op, Unit
from tests.laws.runs import Run, changed, simulate
from tests.laws.scenarios import LAW, Document, scenarios
from tests.laws.test_closed_forms import steady, tail_costs

ACCUMULATION: Document = {
    "model": {
        "hidden_size": 4096, "num_layers": 3, "num_dense_layers": 0, "vocab_size": 32_000,
        "attention": {"kind": "gqa", "num_heads": 64, "num_kv_heads": 4, "head_dim": 128},
        "moe": {"num_routed_experts": 16, "num_shared_experts": 1, "top_k": 2, "expert_intermediate_size": 4096},
    },
    "cluster": {"node": "h800-x8", "num_gpus": 8, "fabric": "ib-400g-rail"},
    "parallel": {"ep": 8, "schedule": "1f1b_ep_overlap", "overlap": {"delay_wgrad": False}},
    "training": {"seq_len": 8192, "global_batch_size": 40},
    "moe": {"balance": "forced"},
    "device": {"speed_cv": 0.0, "clock": "burst"},
    "data_parallel": {"grad_reduce": {"overlap": False, "every": "step"}},
    "draws": 1, "mechanisms": {"host_stream": False},
}  # fmt: skip
"""Five micro-batches a GPU, no pipeline."""
FORWARD = ("attn_f", "mlp_f_local", "mlp_f_routed")
HIDDEN_BY = {
    "combine_b": ("attn_f",), "dispatch_f": ("mlp_b_local", "mlp_b_routed"),
    "dispatch_b": ("mlp_f_local", "mlp_f_routed"), "combine_f": ("attn_b",),
}  # fmt: skip
PIPELINE = changed(
    ACCUMULATION, model={**ACCUMULATION["model"], "num_layers": 8}, cluster={"num_gpus": 32},
    parallel={"pp": 4, "vpp": 2, "schedule": "interleaved_1f1b_ep_overlap"}, training={"global_batch_size": 128},
)  # fmt: skip


def block_s(run: Run, unit: Unit, *names: str, regime: str = "overlapped") -> float:
    """Kernels of blocks with the gaps between them."""
    costs = prices(run.prepared.kernels, run.prepared.messages)
    ops = [each for name in names for each in unit.blocks.get(name, ()) if isinstance(each, Op)]
    return fsum(costs.kernel(op, regime).seconds + op.shape.num_kernels * costs.gap_s for op in ops)  # type: ignore[arg-type]


def message_s(run: Run, unit: Unit, name: str, regime: str) -> float:
    """A dispatch or combine with the cast in front of it."""
    costs = prices(run.prepared.kernels, run.prepared.messages)
    cast = block_s(run, unit, "combine_b_cast", regime=regime) if name == "combine_b" else 0.0
    return cast + costs.all_to_all(unit.all_to_all[name], regime).seconds  # type: ignore[arg-type]


def test_without_a_pipeline_a_step_is_its_first_forward_its_pairs_and_its_last_backward() -> None:
    """F + (m - 1) F&B + B + the end. All messages of a pair are hidden, so that F&B is its kernels, slowed for the share of
    their time in which messages hold SMs.
    """
    run = simulate(ACCUMULATION)
    units = run.prepared.workload.stages[0].units
    forward = backward = 0.0
    beside, apart, heads, messages = [0.0] * 4
    for unit in units:
        behind = [name for name in unit.blocks if name not in (*FORWARD, "combine_b_cast")]
        forward += block_s(run, unit, *FORWARD, regime="alone")
        backward += block_s(run, unit, *behind, regime="alone")
        if not unit.all_to_all:
            heads += block_s(run, unit, *FORWARD, *behind, regime="alone")
            continue
        beside += block_s(run, unit, *FORWARD, *behind)
        apart += block_s(run, unit, *FORWARD, *behind, regime="alone")
        forward += sum(message_s(run, unit, name, "alone") for name in ("dispatch_f", "combine_f"))
        backward += sum(message_s(run, unit, name, "alone") for name in ("dispatch_b", "combine_b"))
        messages += sum(message_s(run, unit, name, "overlapped") for name in unit.all_to_all)
        for name, over in HIDDEN_BY.items():
            assert message_s(run, unit, name, "overlapped") < block_s(run, unit, *over, regime="alone")
    pair = heads + apart + messages / beside * (beside - apart)
    ending = tail_costs(run)
    end = ending.norm[0].seconds + ending.optimizer[0].seconds
    end += sum(segment.seconds for _, segment in (*ending.reduce[0], *ending.gather[0]))
    assert run.step_s == pytest.approx(forward + 4 * pair + backward + end, rel=1e-9)
    step = run.result.step
    assert step.by_rank[0].overlapped_f_b_s == pytest.approx(4 * pair, rel=1e-9)
    assert step.bubble_s == pytest.approx(0.0, abs=1e-9)
    plain = simulate(changed(ACCUMULATION, parallel={"overlap": {"ep": "none"}})).result.step
    assert step.step_s < plain.step_s
    assert plain.by_rank[0].overlapped_f_b_s > step.by_rank[0].overlapped_f_b_s


def test_delayed_weight_gradients_hide_more_where_messages_are_long() -> None:
    """Between nodes: work beside dispatch(B), also in the last backward."""
    far = changed(ACCUMULATION, cluster={"num_gpus": 16}, parallel={"ep": 16}, training={"global_batch_size": 80})
    at_once, delayed, none = (
        simulate(changed(far, parallel={"overlap": overlap})).result.step
        for overlap in ({"delay_wgrad": False}, {"delay_wgrad": True}, {"ep": "none"})
    )
    assert delayed.step_s < at_once.step_s < none.step_s
    assert delayed.exposed_comm_s < at_once.exposed_comm_s < none.exposed_comm_s
    assert delayed.by_rank[0].backward_s < at_once.by_rank[0].backward_s


@settings(LAW, max_examples=15)
@given(scenarios(pp=1, is_moe=True))
def test_pairs_are_never_slower_than_one_half_after_the_other(document: Document) -> None:
    """But for the SMs that messages hold, and their own pace beside kernels: without either, no step grows; and none is
    shorter than the rank's kernels.
    """
    if document["parallel"]["ep"] == 1:
        return
    size = document["training"]["micro_batch_size"] * document["cluster"]["num_gpus"] // document["parallel"]["tp"]
    fixed = changed(
        steady(document), recompute={"granularity": "none", "modules": []}, mechanisms={"sm_partition": False},
        training={"global_batch_size": 3 * size},
    )  # fmt: skip
    pairs, apart = (
        simulate(
            changed(
                fixed,
                parallel={"schedule": "1f1b_ep_overlap", "vpp": 1, "layers_per_stage": None, "overlap": {"ep": ep}},
            )
        )
        for ep in ("pair", "none")
    )
    slower = [
        unit.all_to_all[key, "overlapped"].seconds / segment.seconds
        for unit in pairs.prepared.stages[0].units
        for (key, regime), segment in unit.all_to_all.items()
        if regime == "alone"
    ]
    assert pairs.step_s <= apart.step_s * max([1.0, *slower]) * (1 + 1e-9)
    kernels = fsum(
        row.seconds for row in pairs.result.step.by_category
        if row.category not in ("bubble", "exposed_communication", "optimizer")
    )  # fmt: skip
    assert kernels <= pairs.step_s * (1 + 1e-9)


def test_a_pipeline_with_virtual_stages_gains_and_holds_one_more_passage() -> None:
    pairs, apart = simulate(PIPELINE), simulate(changed(PIPELINE, parallel={"overlap": {"ep": "none"}}))
    plain = simulate(changed(PIPELINE, parallel={"schedule": "interleaved_1f1b", "overlap": {}}))
    assert pairs.step_s < apart.step_s
    assert pairs.step_s < plain.step_s
    found = [[rank.activations_bytes for rank in run.result.memory.by_stage] for run in (pairs, plain)]
    assert all(more > less for more, less in zip(*found, strict=True))


def test_sharded_parameters_are_gathered_by_both_halves_of_a_pair() -> None:
    """FSDP: twice (N - 1)/N of the parameters a micro-batch as without pairs, two units of each half there at once, and a
    step that no pair makes longer.
    """
    sharded = changed(
        ACCUMULATION, cluster={"num_gpus": 16}, parallel={"ep": 8, "zero_stage": 3}, training={"global_batch_size": 80},
        data_parallel={"grad_reduce": {"overlap": True}},
    )  # fmt: skip
    pairs, plain = (
        simulate(changed(sharded, parallel={"schedule": schedule})) for schedule in ("1f1b_ep_overlap", "1f1b")
    )
    sent = []
    for run in (pairs, plain):
        counts: dict[str, int] = {}
        for i in run.graph.dag.op_class.tolist():
            for message in run.graph.classes[i].messages:
                if message.category == "data_parallel":
                    counts[message.name] = counts.get(message.name, 0) + 1
        sent.append(counts)
    assert sent[0] == sent[1]
    assert sent[0]["all_gather_dense"] == 2 * 5 * 5
    gathered = [
        {tensor.name: tensor.bytes for tensor in run.result.memory.by_stage[0].tensors}["weights.gathered"]
        for run in (pairs, plain)
    ]
    assert gathered[1] < gathered[0] <= 2 * gathered[1]
    assert pairs.step_s < plain.step_s


def test_one_stage_a_rank_holds_two_micro_batches_a_hop() -> None:
    document = changed(PIPELINE, parallel={"vpp": 1, "schedule": "1f1b_ep_overlap"})
    pairs, plain = simulate(document), simulate(changed(document, parallel={"schedule": "1f1b", "overlap": {}}))
    assert pairs.step_s < plain.step_s
    most = [[rank.activations_bytes for rank in run.result.memory.by_stage] for run in (pairs, plain)]
    assert 1.6 < most[0][0] / most[1][0] < 2.1


@pytest.mark.parametrize(
    ("changes", "field", "text"),
    [
        ({"parallel": {"ep": 1}}, "parallel.ep", "1, but 1f1b_ep_overlap runs compute beside dispatch and combine; use ep: 2"),
        (
            {"recompute": {"granularity": "full", "modules": []}}, "recompute.granularity",
            "full does not go with schedule 1f1b_ep_overlap",
        ),
        (
            {"recompute": {"granularity": "selective", "modules": ["moe", "rmsnorm"]}}, "recompute.modules",
            "moe does not go with schedule 1f1b_ep_overlap",
        ),
        ({"training": {"global_batch_size": 8}}, "training.global_batch_size", "needs at least 2, not 1; next valid: 2"),
        ({"parallel": {"schedule": "interleaved_1f1b_ep_overlap"}}, "parallel.pp", "needs at least 2 pipeline ranks, not 1"),
        (
            {"parallel": {"schedule": "interleaved_1f1b_ep_overlap", "pp": 2}, "training": {"global_batch_size": 8}},
            "parallel.vpp", "needs at least 2 chunks a rank; use vpp: 2",
        ),
    ],
)  # fmt: skip
def test_contradictions_are_refused_with_a_remedy(changes: Document, field: str, text: str) -> None:
    with pytest.raises(InputError) as caught:
        load_scenario(changed(ACCUMULATION, **changes))
    found = {problem.field: problem.message for problem in caught.value.problems}
    assert text in found[field]


def test_a_dense_model_has_nothing_to_overlap() -> None:
    text = "runs compute beside dispatch and combine, and model .* has no experts; use schedule: 1f1b"
    with pytest.raises(InputError, match=text):
        load_scenario("llama-3.1-70b", ["parallel.schedule=1f1b_ep_overlap"])


def test_delayed_weight_gradients_mean_nothing_without_pairs() -> None:
    def told(**parallel: object) -> list[str]:
        document = changed(ACCUMULATION, parallel={"overlap": {"delay_wgrad": False}, **parallel})
        return [text for text in load_scenario(document).warnings if "delay_wgrad" in text]

    assert "has no meaning in 1f1b" in "".join(told(schedule="1f1b"))
    assert "has no meaning with overlap.ep none" in "".join(told(overlap={"ep": "none", "delay_wgrad": False}))
    assert not told()


SHARED = changed(
    ACCUMULATION, cluster={"num_gpus": 16}, parallel={"ep": 16, "schedule": "1f1b", "overlap": {}},
    training={"global_batch_size": 32},
)  # fmt: skip


def test_shared_experts_beside_their_layers_messages() -> None:
    """Up beside dispatch and down beside combine, forward; down beside combine(B), up beside dispatch(B), with their weight
    gradients. Where messages are longer and hold no SMs, a step is shorter by the shared experts' kernels, but for what these
    slow their messages down.
    """
    fixed = changed(SHARED, mechanisms={"sm_partition": False})
    beside, behind = (simulate(changed(fixed, parallel={"overlap": {"ep": ep}})) for ep in ("shared_expert", "none"))
    layers = [unit for unit in beside.prepared.workload.stages[0].units if unit.all_to_all]
    saved = 0.0
    for message_blocks in (
        {"dispatch_f": ["shared_f_up"], "combine_f": ["shared_f_down"]},
        {"combine_b": ["shared_b_down", "shared_w_down"], "dispatch_b": ["shared_b_up", "shared_w_up"]},
    ):
        shared, alone, slow = 0.0, 0.0, 0.0
        for unit in layers:
            for message, blocks in message_blocks.items():
                assert 0 < block_s(beside, unit, *blocks, regime="alone") < message_s(beside, unit, message, "alone")
                shared += block_s(beside, unit, *blocks, regime="alone")
                alone += message_s(beside, unit, message, "alone")
                slow += message_s(beside, unit, message, "overlapped")
        saved += shared - shared / slow * (slow - alone)
    assert behind.step_s - beside.step_s == pytest.approx(2 * saved, rel=1e-6)
    assert beside.result.memory == behind.result.memory


def test_shared_experts_are_not_computed_again_while_they_are_taken_apart() -> None:
    overlap = {"overlap": {"ep": "shared_expert"}}
    again = {"granularity": "selective", "modules": ["shared_expert"]}
    with pytest.raises(InputError, match="shared_expert does not go with overlap"):
        load_scenario(changed(SHARED, parallel=overlap, recompute=again))
    none = changed(
        SHARED, model={**ACCUMULATION["model"], "moe": {**ACCUMULATION["model"]["moe"], "num_shared_experts": 0}}
    )
    (told,) = [text for text in load_scenario(changed(none, parallel=overlap)).warnings if "overlap.ep" in text]
    assert "shared_expert has no meaning: the model has no shared experts" in told
