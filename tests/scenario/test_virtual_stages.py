"""Virtual stages: vpp chunks a rank, their layout, and which schedules have them."""

from __future__ import annotations

import pytest

from simulator import load_scenario
from simulator.errors import InputError
from simulator.scenario import derived

INTERLEAVED = ["parallel.schedule=interleaved_1f1b", "phases=[{name: short, steps: 2}]"]
BASE = ["cluster.num_gpus=64", "parallel.ep=8", "parallel.pp=8", "training.global_batch_size=512", "draws=1"]


def refused(*options: str) -> str:
    with pytest.raises(InputError) as caught:
        load_scenario("mixtral-8x22b", [*BASE, *options])
    return str(caught.value)


def counts(*options: str) -> list[int]:
    scenario = load_scenario("mixtral-8x22b", [*BASE, *INTERLEAVED, *options])
    return [stage.count("m") for stage in derived.layout(scenario)]


def test_chunks_share_the_layers_evenly_or_as_the_head_allows() -> None:
    assert counts("parallel.vpp=7") == [1] * 56
    assert counts("parallel.vpp=2") == [3, *(4,) * 9, *(3,) * 5, 2]
    assert sum(counts("parallel.vpp=3")) == 56


def test_a_list_or_text_names_every_chunk() -> None:
    given = [4] * 8 + [3] * 8
    assert counts("parallel.vpp=2", f"parallel.layers_per_stage={given}") == given
    text = "E m*4 | (m*4)*13 | L"
    problem = refused(*INTERLEAVED, "parallel.vpp=2", f"parallel.layers_per_stage={text}")
    assert "the layout has 15 stages; pp * vpp is 16" in problem
    alone = "E m*4 | (m*4)*12 | m*3 | m | L"
    assert counts("parallel.vpp=2", f"parallel.layers_per_stage={alone}") == [4] * 13 + [3, 1, 0]
    ends = "E | (m*4)*14 | L"
    assert counts("parallel.vpp=2", f"parallel.layers_per_stage={ends}") == [0, *[4] * 14, 0]
    empty = [4] * 14 + [0, 0]
    assert "stage 14 has no layer; each stage needs one, the embedding or the head" in refused(
        *INTERLEAVED, "parallel.vpp=2", f"parallel.layers_per_stage={empty}"
    )


def test_the_schedule_says_whether_there_are_chunks() -> None:
    both = refused("parallel.vpp=2", "parallel.schedule=1f1b")
    assert "parallel.vpp: vpp 2, but 1f1b has no virtual stages; use vpp: 1, or schedule: interleaved_1f1b" in both
    assert "interleaved_1f1b_ep_overlap" not in both, "of dense models too"
    assert "needs at least 2 chunks a rank; use vpp: 2, or schedule: 1f1b" in refused(*INTERLEAVED)


def test_more_chunks_than_layers() -> None:
    problem = refused(*INTERLEAVED, "parallel.vpp=8")
    assert (
        "parallel.vpp: pp 8 * vpp 8 = 64 pipeline stages for 56 layers; allowed vpp up to 7, or pp up to 7" in problem
    )
    assert "parallel.pp: pp 64 * vpp 2 = 128 pipeline stages for 56 layers; allowed pp up to 28" in refused(
        *INTERLEAVED, "parallel.vpp=2", "parallel.pp=64"
    )
    assert "parallel.pp: 64 pipeline stages for 56 layers; allowed pp up to 56" in refused("parallel.pp=64")


def test_too_few_pipeline_ranks_of_a_schedule_name_the_next() -> None:
    problem = refused(*INTERLEAVED, "parallel.vpp=2", "parallel.pp=1")
    assert "needs at least 2 pipeline ranks, not 1; next valid 2, or schedule: 1f1b" in problem
    assert "not 5; next valid 6, or schedule: 1f1b" in refused("parallel.schedule=dualpipe", "parallel.pp=5")


def test_micro_batches_go_in_groups_of_the_pipeline_ranks() -> None:
    problem = refused(*INTERLEAVED, "parallel.vpp=2", "training.global_batch_size=160")
    assert "needs a multiple of the pipeline ranks (8) as micro-batches, not 20" in problem
    assert "which is 128 or 192 sequences" in problem


def test_a_ramp_below_the_pipeline_ranks_needs_a_schedule_of_chunks() -> None:
    ramp = "phases=[{name: a, tokens: 1e9, batch_ramp: {from: 32, over_tokens: 1e8, schedule_below: 1f1b}}]"
    problem = refused(INTERLEAVED[0], "parallel.vpp=2", ramp)
    assert "schedule_below: 1f1b cannot run the chunks of interleaved_1f1b: a rank holds other stages" in problem
    assert "start the ramp at 64 sequences or more" in problem
    alone = refused(INTERLEAVED[0], "parallel.vpp=2", ramp.replace(", schedule_below: 1f1b", ""))
    assert (
        "batch_ramp.from: 32 sequences are 4 micro-batches a pipeline, interleaved_1f1b needs 8; allowed at least 64"
        in alone
    )
    assert "schedule_below" not in alone


def test_other_chunks_drop_an_inherited_layout() -> None:
    base = load_scenario("deepseek-v3", ["parallel.layers_per_stage=E d*3 m | (m*4)*14 | m mtp L"])
    assert len(derived.layout(base)) == 16
    changed = load_scenario(
        "deepseek-v3", ["parallel.vpp=2", "parallel.schedule=interleaved_1f1b", "phases.pretrain.batch_ramp=null",
                        "training.global_batch_size=16384"],
    )  # fmt: skip
    assert len(derived.layout(changed)) == 32


def test_a_schedule_without_chunks_drops_inherited_ones_and_their_layout() -> None:
    changed = load_scenario("llama-3.1-405b", ["parallel.schedule=1f1b"])
    assert (changed.parallel.vpp, changed.parallel.layers_per_stage) == (1, None)
    (note,) = [text for text in changed.warnings if "parallel.schedule" in text]
    assert 'falls: parallel.vpp 8, parallel.layers_per_stage "E | (d)*126 | L"' in note
    kept = load_scenario("llama-3.1-405b", ["parallel.schedule=interleaved_1f1b", "seed=1"])
    assert kept.parallel.vpp == 8
    uneven = load_scenario("llama-3.1-70b", [f"parallel.layers_per_stage={[5] * 16}", "parallel.schedule=gpipe"])
    assert uneven.parallel.layers_per_stage == (5,) * 16
    with pytest.raises(InputError, match="vpp 2, but 1f1b has no virtual stages"):
        load_scenario("llama-3.1-405b", ["parallel.schedule=1f1b", "parallel.vpp=2"])


def test_a_ramp_is_not_blamed_for_chunks_that_the_schedule_has_not() -> None:
    with pytest.raises(InputError) as caught:
        load_scenario("deepseek-v3", ["parallel.vpp=2"])
    assert [problem.field for problem in caught.value.problems] == ["parallel.vpp"]
