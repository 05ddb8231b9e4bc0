"""What a step's timeline says: the draw of the result, operators in the field's terms with their kernels, who holds what."""

from __future__ import annotations

from math import fsum

import numpy as np
import pytest

from simulator import load_scenario, simulate_step
from simulator.errors import InputError
from simulator.results.timeline import BUBBLE, COMPUTE, EXPOSED, NUM_STREAMS, StepTimeline
from simulator.schedule import SCHEDULES, build_schedule, next_valid_micro_batches
from simulator.schedule.action import Action, Kind
from simulator.step.operators import BLOCK_WORDS, label_words
from simulator.step.timeline import most_in_flight, step_timeline
from simulator.workload.op import BLOCKS
from tests.laws.runs import changed
from tests.laws.scenarios import Document
from tests.laws.test_data_parallel import MOE

SUM = 1e-9
PIPE = changed(MOE, cluster={"num_gpus": 16}, parallel={"pp": 2}, training={"global_batch_size": 64})


def under(schedule: str, document: Document = PIPE) -> Document:
    return changed(document, parallel={"schedule": schedule, "vpp": SCHEDULES[schedule].fewest_chunks})


def timeline(document: Document) -> StepTimeline:
    return step_timeline(load_scenario(document))


@pytest.mark.parametrize("schedule", SCHEDULES.names())
def test_where_nothing_is_random_the_sums_are_the_result_documents(schedule: str) -> None:
    document = under(schedule)
    found, step = timeline(document), simulate_step(load_scenario(document)).step
    assert (found.step_s, found.mean_step_s, found.num_draws) == (step.step_s, step.step_s, 1)
    assert found.mean_bubble_s == pytest.approx(step.bubble_s, rel=SUM)
    assert found.mean_exposed_comm_s == pytest.approx(step.exposed_comm_s, rel=SUM)
    assert found.optimizer_s == pytest.approx(step.optimizer_s, rel=SUM)
    for told, rank in zip(found.by_rank, step.by_rank, strict=True):
        assert told.model_dump() == pytest.approx(rank.model_dump(), rel=SUM, abs=SUM * step.step_s)
    mean = dict.fromkeys(found.categories, 0.0)
    for rank_ in range(found.num_ranks):
        for name, seconds in found.by_category(rank_).items():
            mean[name] += seconds / found.num_ranks
    for each in step.by_category:
        if each.category not in (BUBBLE, EXPOSED, "optimizer"):
            assert mean[each.category] == pytest.approx(each.seconds, rel=SUM), each.category


def test_the_first_draw_on_the_pipeline_that_holds_the_others() -> None:
    document = changed(PIPE, moe={"balance": "learned"}, device={"speed_cv": 0.05}, draws=3)
    found = timeline(document)
    assert (found.draw, found.num_draws, found.mean_step_s) == (0, 3, None)
    first = simulate_step(load_scenario(changed(document, draws=1))).step
    assert (found.step_s, found.optimizer_s) == (first.step_s, pytest.approx(first.optimizer_s, rel=SUM))
    assert (found.lane.count, found.lane.why[:10]) == (4, "its last b")
    last = found.end_s[(found.stream_of % NUM_STREAMS == COMPUTE) & (found.action >= 0)].max()
    assert last + found.optimizer_s == pytest.approx(found.step_s, rel=SUM)
    assert step_timeline(load_scenario(document), mean_step_s=2.0).mean_step_s == 2.0


def test_another_schedule_is_as_if_the_scenario_said_so() -> None:
    found = step_timeline(load_scenario(PIPE), schedule="gpipe")
    assert found.schedule == "gpipe"
    assert found.step_s == timeline(under("gpipe")).step_s
    with pytest.raises(InputError, match="needs at least 2 chunks"):
        step_timeline(load_scenario(PIPE), schedule="interleaved_1f1b")


def test_operators_have_their_kernels_with_shape_and_source() -> None:
    found = timeline(PIPE)
    busy = [each for each in found.classes if not each.is_idle]
    assert all(each.kernels for each in busy)
    for each in busy:
        gaps = each.by_category.get("kernel_gaps", 0.0) + each.by_category.get("interference", 0.0)
        alone = fsum(kernel.seconds for kernel in each.kernels) + gaps
        if each.category == "data_parallel":  # beside kernels it takes longer than alone
            assert alone <= each.seconds * (1 + SUM), each.label
        else:
            assert alone == pytest.approx(each.seconds, rel=SUM), each.label
        assert {kernel.basis for kernel in each.kernels} >= set(each.by_basis), each.label
    core = next(each for each in busy if each.label == "layer 2, attention forward, core")
    (kernel,) = core.kernels
    assert (core.passes, core.category, kernel.op, kernel.dtype) == ("F", "attention", "attention_fwd", "bf16")
    assert dict(kernel.sizes) == {"batch": 1, "seq": 4096, "heads": 8, "head_dim_qk": 128, "head_dim_v": 128}
    assert kernel.source
    experts = next(each for each in busy if each.label == "layer 2, routed experts forward")
    up = next(kernel for kernel in experts.kernels if kernel.name == "expert_up")
    assert (up.op, dict(up.sizes)["groups"]) == ("grouped_gemm fprop", 2)
    sent = next(each for each in busy if each.label == "layer 2, dispatch")
    assert dict(sent.kernels[-1].sizes) == {"ranks": 4, "nodes": 1}
    assert sent.kernels[-1].num_bytes > 0


@pytest.mark.parametrize(
    ("label", "has_experts", "expected"),
    [
        ("layer_12.attn_f.before_core", True, ("F", "layer 12, attention forward, up to the core")),
        ("layer_3.mlp_f_local", True, ("F", "layer 3, shared experts forward")),
        ("layer_0.mlp_f_local", False, ("F", "layer 0, FFN forward")),
        ("layer_3.mlp_b_routed.routed", True, ("I", "layer 3, routed experts backward")),
        ("layer_3.mlp_w.routed", True, ("W", "layer 3, shared experts weight gradients, routed experts")),
        ("layer_3.combine_b", True, ("I", "layer 3, combine backward (a dispatch)")),
        ("mtp_head_0.mlp_w", False, ("W", "head of MTP module 0, weight gradients")),
        ("head.mlp_f_local", False, ("F", "head, forward")),
        ("stage_3.send_b", False, ("I", "stage 3, gradient sent to the stage before")),
        ("stage_1.layer_4.all_gather_dense", False, ("", "stage 1, layer 4, parameters gathered of dense parts")),
        ("stage_1.stage_1.reduce_scatter_expert", False, ("", "stage 1, gradients reduce-scattered of routed experts")),
        ("grad_norm", False, ("", "norm of the gradients")),
        ("rank_0.optimizer", False, ("", "rank 0, optimizer")),
    ],
)
def test_labels_are_told_in_the_fields_terms(label: str, has_experts: bool, expected: tuple[str, str]) -> None:
    assert label_words(label, has_experts=has_experts) == expected


def test_every_block_of_a_unit_has_words() -> None:
    assert set(BLOCK_WORDS) >= set(BLOCKS) - {"combine_b_cast"}


def test_every_operator_knows_its_micro_batch() -> None:
    """Each stage's first attention, forward: once a micro-batch, in the action that says so; transfers too."""
    for schedule in SCHEDULES.names():
        document = under(schedule)
        found = timeline(
            changed(document, parallel={"overlap": {"pp": False}}) if schedule.endswith("1f1b") else document
        )
        for label in ("layer 2, attention forward, core", "stage 0, output sent to the next stage"):
            kinds = [i for i, each in enumerate(found.classes) if each.label == label]
            actions = found.action[np.isin(found.op_class, kinds)]
            micro_batches = found.actions[actions, 1]
            assert sorted(micro_batches) == list(range(found.num_micro_batches)), (schedule, label)
            assert all("F" in found.action_names[action] for action in actions)


@pytest.mark.parametrize(
    ("schedule", "pp", "micro_batches", "expected"),
    [
        ("gpipe", 3, 5, [5, 5, 5]),
        ("1f1b", 4, 9, [4, 3, 2, 1]),
        ("1f1b", 4, 2, [2, 2, 2, 1]),
        ("dualpipe", 4, 20, [5] * 4),
    ],
)
def test_micro_batches_in_flight_as_the_closed_forms_say(
    schedule: str, pp: int, micro_batches: int, expected: list[int]
) -> None:
    order = build_schedule(schedule, pp, micro_batches)
    assert [most_in_flight(actions) for actions in order.ranks] == expected


def test_activations_are_held_until_the_weight_gradients() -> None:
    kinds: tuple[Kind, ...] = ("F", "F", "I", "F", "I", "F", "W", "W")
    assert most_in_flight([Action(kind, 0, 0) for kind in kinds]) == 4


@pytest.mark.parametrize("schedule", SCHEDULES.names())
def test_one_rank_and_shared_layers(schedule: str) -> None:
    """pp 1 with FSDP and tensor parallelism, where the schedule can: the compute stream is filled to the step's end."""
    rule = SCHEDULES[schedule]
    pp = 1 if rule.rank_problem(1) is None else 2
    (smallest,) = next_valid_micro_batches(schedule, pp, 1)[-1:]
    document = changed(
        MOE, cluster={"num_gpus": 16},
        parallel={"pp": pp, "schedule": schedule, "vpp": rule.fewest_chunks, "tp": 2, "sequence_parallel": True,
                  "zero_stage": 0 if rule.overlaps_pairs else 3},
        training={"global_batch_size": smallest * 16 // 2 // pp},
    )  # fmt: skip
    found = timeline(document)
    for rank in range(pp):
        compute = found.slices(rank, COMPUTE, 0.0, found.step_s)
        assert found.start_s[compute][1:] == pytest.approx(found.end_s[compute][:-1], abs=SUM * found.step_s)
        assert (found.start_s[compute][0], found.end_s[compute][-1]) == (0.0, pytest.approx(found.step_s, rel=SUM))
        assert found.by_category(rank)["tp_collectives"] > 0
