"""Law: an embedding or a head may have a stage to itself; each keeps its work, and the pipeline its order."""

from __future__ import annotations

import pytest

from simulator import load_scenario, simulate_step
from simulator.results.step_result import StepResult
from tests.laws.runs import ROUNDING

SMALL = (
    "cluster.num_gpus=4", "parallel.pp=4", "model.num_layers=4", "model.num_dense_layers=4", "training.global_batch_size=8",
    "training.seq_len=1024", "device.speed_cv=0",
)  # fmt: skip
ALONE = "E | d*2 | d*2 | L"
FREE = "mechanisms.pp_transfer=false"
PLAIN = ("mechanisms.host_stream=false", "mechanisms.power=false")


def step_of(layout: str, *overrides: str) -> StepResult:
    return simulate_step(load_scenario("llama-3.1-70b", [*SMALL, f"parallel.layers_per_stage={layout}", *overrides]))


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b"])
def test_the_last_gradient_is_waited_for(schedule: str) -> None:
    """The embedding's only backward is its weight gradient, which comes behind the whole pipeline's: the first rank is
    idle while the others compute.
    """
    step = step_of(ALONE, f"parallel.schedule={schedule}").step
    first, *others, _ = step.by_rank
    assert first.bubble_s > 0.8 * max(rank.forward_s + rank.backward_s for rank in others)
    assert first.forward_s + first.backward_s < 0.1 * step.step_s


def test_the_ends_alone_do_the_work_that_they_do_with_layers() -> None:
    """On the device: a rank that only embeds waits for its host, which issues layers ahead while the embedding runs; where the
    board's limit acts, ranks of unlike work have unlike clocks.
    """
    alone, shared = (
        sum(rank.forward_s for rank in step_of(text, FREE, *PLAIN).step.by_rank)
        for text in (ALONE, "E d*2 | d | d | L")
    )
    assert alone == pytest.approx(shared, rel=ROUNDING)


def test_ends_alone_under_interleaving() -> None:
    """Llama 3's split (arXiv:2407.21783, 3.3.2): one layer fewer in the first and in the last chunk."""
    wide = ("parallel.vpp=2", "parallel.schedule=interleaved_1f1b", "model.num_layers=6", "model.num_dense_layers=6")
    first, second, third, _ = (rank.forward_s for rank in step_of("[0, 1, 1, 1, 1, 1, 1, 0]", *wide).step.by_rank)
    embedding = step_of(ALONE).step.by_rank[0].forward_s
    assert second == pytest.approx(third, rel=ROUNDING)
    assert second / 2 < first <= (second / 2 + embedding) * (1 + ROUNDING), "an embedding alone is sent on at once"
    of_rank = step_of("[0, 1, 1, 1, 1, 1, 1, 0]", *wide, FREE).step.by_rank
    head = step_of(ALONE, FREE).step.by_rank[-1].forward_s
    assert of_rank[-1].forward_s == pytest.approx(of_rank[1].forward_s / 2 + head, rel=5e-3)


@pytest.mark.parametrize(("zero_stage", "group", "share"), [(1, "null", 1), (2, "null", 4), (2, "2", 2)])
def test_tied_copies_are_summed_in_shards_where_no_rank_keeps_more(zero_stage: int, group: str, share: int) -> None:
    """Gradients of an embedding and a head that are one matrix on two ranks, of 4 data-parallel ranks each."""
    given = (
        "cluster.num_gpus=16",
        "model.tied_embeddings=true",
        f"parallel.zero_stage={zero_stage}",
        "head.vocab_padding=128",
    )
    found = step_of(ALONE, *given, f"data_parallel.hsdp_group={group}").step.collectives
    (summed,) = (row for row in found or () if row.name == "all_reduce_embedding_copies")
    assert summed.bytes == 128_256 * 8_192 * 4 // share
