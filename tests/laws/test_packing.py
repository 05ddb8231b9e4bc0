"""Laws of packed documents and padding in whole steps and runs."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from simulator import load_scenario, simulate_run
from simulator.assembly.chunks import COMPUTE, NUM_STREAMS
from simulator.errors import InputError
from simulator.report import facts
from simulator.report.formats import FORMATS, ReportItem
from simulator.results.document import to_document
from simulator.scenario.scenario import Scenario
from simulator.step.operators import operator_classes
from simulator.step.prepared import prepare
from simulator.workload.documents import Documents, mean_pairs
from tests.laws.runs import Run, simulate_from

SMALL = (
    "cluster.num_gpus=32", "parallel.pp=4", "parallel.ep=8", "model.num_layers=8", "training.global_batch_size=64",
    "training.seq_len=8192", "moe.max_nodes_per_token=null", "draws=4",
    "phases=[{name: p, tokens: 1e9}]",
)  # fmt: skip


DENSE = (
    "llama-3.1-70b", "cluster.num_gpus=16", "parallel.pp=2", "model.num_layers=4", "model.num_dense_layers=4",
    "training.global_batch_size=64",
)  # fmt: skip


def plan(packing: Any = "none", *overrides: str, **training: Any) -> Scenario:
    """A small mixture of experts whose sequences are packed so."""
    given = [f"training.{key}={json.dumps(value)}" for key, value in {**training, "packing": packing}.items()]
    return load_scenario("deepseek-v3", [*SMALL, *given, *overrides])


def run(packing: Any = "none", *overrides: str, **training: Any) -> Run:
    return simulate_from(prepare(plan(packing, *overrides, **training)))


@pytest.fixture(scope="module")
def whole() -> Run:
    return run()


@pytest.fixture(scope="module")
def packed() -> Run:
    return run({"mean_tokens": 1500, "cv": 1.5})


def test_one_document_a_sequence_is_no_packing_to_the_bit(whole: Run) -> None:
    one = run({"lengths": [8192]}).result.step
    assert to_document(one) == to_document(whole.result.step)


def test_documents_attend_to_less(whole: Run, packed: Run) -> None:
    assert packed.step_s < whole.step_s
    found, flop = packed.result.step.documents, packed.result.step.model_flop_per_token
    assert found is not None and flop.attended is not None
    pairs = mean_pairs(Documents(8192, 1500, 1.5))
    assert found.attended_frac == pytest.approx(pairs / (8192**2 / 2))
    before = whole.result.step.model_flop_per_token
    assert (flop.causal, flop.noncausal) == (before.causal, before.noncausal), "the conventions stay"
    core = (before.noncausal - before.causal) * 2
    assert flop.causal - flop.attended == pytest.approx(core / 2 * (1 - found.attended_frac))
    assert whole.result.step.documents is None


def test_a_report_says_what_packing_and_padding_do(whole: Run, packed: Run) -> None:
    assert facts.packed_words(whole.result.step) == facts.useful_words(whole.result.step) == ""
    words = facts.packed_words(packed.result.step)
    assert words.startswith(
        "documents attend to themselves alone: 35.6 % of the pairs of whole sequences; the longest takes"
    )
    assert [each.lower() for each in facts.step_notes(packed.result.step)][-1:] == [f"{words.lower()}."]
    documents = packed.result.step.documents
    assert documents is not None
    alike = packed.result.step.model_copy(update={"documents": documents.model_copy(update={"added_s": -1e-6})})
    assert facts.packed_words(alike).endswith("of whole sequences")
    padded = {"useful_tokens_per_step": 393_216, "useful_tokens_per_s_per_gpu": 750.4, "tokens_per_step": 524_288}
    words = facts.useful_words(packed.result.step.model_copy(update=padded))
    assert words == "750 without the 25.0 % of padding, and the run counts these"


def test_shorter_documents_and_more_equal_ones_are_no_slower(packed: Run) -> None:
    """The random numbers are the same."""
    assert run({"mean_tokens": 600, "cv": 1.5}).step_s < packed.step_s < run({"mean_tokens": 4000, "cv": 1.5}).step_s
    assert run({"mean_tokens": 1500, "cv": 0.5}).step_s < packed.step_s


def test_the_longest_sequence_holds_its_group_and_its_pipeline(packed: Run) -> None:
    """A step is no shorter than that of alike sequences, nor than the sums of its group's longest cores on any rank."""
    found = packed.result.step.documents
    assert found is not None and found.added_s > 0 and found.longest_over_mean > 1.1
    alike = run({"mean_tokens": 1500, "cv": 1.5}, "mechanisms.document_spread=false")
    assert alike.step_s < packed.step_s
    assert alike.result.step.documents is not None and alike.result.step.documents.longest_over_mean == 1.0
    graph, seconds = packed.graph, packed.graph.class_seconds()
    for draw in range(2):
        rows = packed.draws(draw)
        assert rows is not None
        longest = rows.max(axis=1)
        compute = graph.dag.resource % NUM_STREAMS == COMPUTE
        compute[graph.tail_first :] = False
        times = seconds[graph.dag.op_class] * longest[graph.dag.draw_row]
        core_rows = graph.dag.draw_row >= graph.num_load_rows + graph.num_ranks
        assert core_rows[compute].any()
        of_rank = np.bincount(graph.dag.resource[compute & core_rows] // NUM_STREAMS, times[compute & core_rows])
        assert packed.outcome.step_s[draw] > of_rank.max()


def test_rows_of_cores_follow_micro_batch_and_rank(packed: Run) -> None:
    graph = packed.graph
    cores = graph.dag.draw_row[: graph.tail_first] - graph.num_load_rows - graph.num_ranks
    used = np.unique(cores[cores >= 0])
    assert len(used) == graph.num_ranks * graph.num_micro_batches, (
        "of the kind without a window, every rank and micro-batch"
    )
    rows = packed.draws(0)
    assert rows is not None
    of_ranks = rows[graph.num_load_rows + graph.num_ranks :].reshape(2, graph.num_ranks, graph.num_micro_batches, -1)
    speeds = rows[graph.num_load_rows : graph.num_load_rows + graph.num_ranks]
    assert of_ranks[0] / speeds[:, None] == pytest.approx(
        np.broadcast_to(of_ranks[0, 0] / speeds[0], of_ranks[0].shape)
    )
    assert of_ranks[1] == pytest.approx(np.broadcast_to(speeds[:, None], of_ranks[1].shape))


def test_equal_sequences_are_alike_and_cost_their_own_squares() -> None:
    two, four = run({"lengths": [4096, 4096]}), run({"lengths": [2048] * 4})
    assert four.step_s < two.step_s
    assert two.result.step.documents is not None and two.result.step.documents.added_s == 0.0


def test_windows_inside_documents_are_no_slower_and_have_rows_of_their_own() -> None:
    given = [*DENSE[1:], "draws=2", "training.packing={mean_tokens: 1500, cv: 1.5}"]
    windows = ["model.attention.window=512", "model.attention.window_pattern=w f"]
    free, cut = (simulate_from(prepare(load_scenario(DENSE[0], [*given, *some]))) for some in ([], windows))
    assert cut.step_s < free.step_s
    rows = cut.draws(0)
    assert rows is not None
    full, inside = rows[-cut.graph.num_core_rows :].reshape(2, -1)
    assert full.std() > 2 * inside.std() > 0
    used = np.unique(cut.graph.dag.draw_row[: cut.graph.tail_first])
    assert (used >= len(rows) - cut.graph.num_core_rows).sum() == cut.graph.num_core_rows


def test_padding_lengthens_the_run_and_not_the_step() -> None:
    given = [*DENSE[1:], "training.seq_len=8192", "draws=1", "phases=[{name: p, tokens: 1e9}]"]
    full, padded = (
        simulate_run(load_scenario(DENSE[0], [*given, f"training.padding_fraction={p}"])) for p in (0.0, 0.2)
    )
    assert padded.step.step_s == full.step.step_s
    assert padded.step.tokens_per_s_per_gpu == full.step.tokens_per_s_per_gpu
    useful = padded.step.useful_tokens_per_step
    assert useful == 64 * round(8192 * 0.8) and full.step.useful_tokens_per_step is None
    assert padded.phases[0].tokens == pytest.approx(1e9)
    assert padded.phases[0].steps * useful == pytest.approx(1e9)
    longer = 8192 / round(8192 * 0.8)
    assert padded.totals.gpu_hours.value == pytest.approx(longer * full.totals.gpu_hours.value)
    assert padded.steady_state.gpu_hours_per_trillion_tokens == pytest.approx(
        longer * full.steady_state.gpu_hours_per_trillion_tokens
    )
    note = f"Tokens/s/GPU: {facts.useful_words(padded.step)}."
    for form in ("md", "html"):
        assert note in FORMATS[form].render([ReportItem(padded)]).decode()
    short = run({"mean_tokens": 1500, "cv": 1.5}, padding_fraction=0.2)
    assert short.step_s < run({"mean_tokens": 1500, "cv": 1.5}).step_s, "padding behind documents attends to nothing"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"packing": {"lengths": [4096, 4000]}}, "sum to 8096 tokens, a sequence has 8192"),
        ({"packing": {"lengths": [8192]}, "padding_fraction": 0.5}, "4096 (seq_len 8192 less padding_fraction 0.5)"),
        ({"packing": {"mean_tokens": 100, "lengths": [8192]}}, "needs mean_tokens (with cv), or lengths alone"),
        ({"packing": {"mean_tokens": 100, "lengths": [8192]}}, "packing: none first drops what a file gives"),
        ({"packing": {"cv": 1.0}}, "needs mean_tokens (with cv), or lengths alone"),
        ({"packing": {"mean_tokens": 1.0}, "seq_len": 131_072}, "allowed at least 8"),
        (
            {"packing": {"mean_tokens": 7.81}, "seq_len": 128_000},
            "7.81 is 16,389 documents in 128000 tokens; allowed at least 8",
        ),
        ({"packing": "documents"}, "must be none or {mean_tokens: 1500, cv: 1.5}"),
        ({"padding_fraction": 1.0}, "padding_fraction"),
        ({"padding_fraction": -0.1}, "padding_fraction"),
    ],
)
def test_refusals(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=r"training\.") as error:
        plan(**given)
    assert said in str(error.value)


def test_a_library_that_computes_all_pairs_is_refused_and_long_documents_are_told() -> None:
    with pytest.raises(
        InputError, match=r"unfused computes every pair of a sequence, .*; use fa1 or fa2 or .*, or write"
    ):
        plan({"mean_tokens": 9000}, "kernels.attention=unfused")
    assert plan(
        "none", "training.packing={lengths: [8192]}", "training.packing=none", "training.packing={mean_tokens: 99}"
    )
    warnings = plan({"mean_tokens": 9000}).warnings
    assert any("documents are cut where a sequence ends" in str(each) for each in warnings)


@pytest.mark.parametrize(
    ("cut", "options", "said"),
    [
        ("documents", ("parallel.cp=2",), "multiple of 2 * cp = 4 tokens, about 1.5 % of all"),
        ("documents", ("parallel.cp=4",), "multiple of 2 * cp = 8 tokens, about 3.5 % of all"),
        ("documents", (), ""),
        ("sequence", ("parallel.cp=2", "parallel.cp_comm=all_gather"), ""),
    ],
)
def test_what_cut_documents_are_padded_by_is_told(cut: str, options: tuple[str, ...], said: str) -> None:
    packing = f"training.packing={{mean_tokens: 100, cut: {cut}}}"
    warnings = load_scenario(DENSE[0], [*DENSE[1:], "training.seq_len=8192", packing, *options]).warnings
    told = [each for each in warnings if "each document is padded" in each]
    assert len(told) == bool(said) and all(said in each for each in told)
    assert all(each.startswith("overrides[") for each in told), "where packing was given"


def test_a_timeline_tells_the_parts_of_a_core_in_words() -> None:
    """A ring has several calls of the core, with sums between them."""
    given = ["training.packing={mean_tokens: 1500, cv: 1.5}", "parallel.cp=2", "parallel.cp_comm=ring"]
    graph = simulate_from(prepare(load_scenario(DENSE[0], [*DENSE[1:], *given]))).graph
    labels = {each.label for each in operator_classes(graph)}
    for part in ("up to the core", "core", "between parts of the core", "behind the core"):
        assert f"layer 1, attention backward, {part}" in labels
