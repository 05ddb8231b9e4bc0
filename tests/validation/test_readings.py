"""What is read in a row's words, and what its source says beside it."""

from __future__ import annotations

import pytest

from simulator import not_modelled
from simulator.scenario import releases
from simulator.scenario.releases import Release, Switch, load_release, set_switches
from tests.validation.instrument.made_up import run
from tests.validation.test_statable import LLAMA, MIXTRAL, drafted, value
from validation.instrument.document import summary
from validation.published import sources
from validation.published.draft import Assumed
from validation.published.eligible import CASES
from validation.published.labels import labels
from validation.published.problems import bad_values
from validation.published.row import Row, read_rows
from validation.published.sources import Fact, filled_in
from validation.published.state import Statement, state


@pytest.mark.parametrize(
    ("notes", "balance"),
    [("force-balanced", "forced"), ("forced balance", "forced"), ("routing: dropless", "natural")],
)
def test_routing_by_words(notes: str, balance: str) -> None:
    """Of software that is not known too, whose file has no words of its own."""
    assert value(drafted(MIXTRAL | {"notes": notes, "framework": ""}), "moe.balance") == balance


@pytest.mark.parametrize(
    ("notes", "modules"), [("w/o MTP", 0), ("no MTP", 0), ("without MTP", 0), ("one MTP module", 1), ("", None)]
)
def test_mtp_by_words(notes: str, modules: int | None) -> None:
    section = drafted(MIXTRAL | {"notes": notes}).scenario["model"]
    assert section.get("mtp", {}).get("num_modules") == modules


@pytest.mark.parametrize("words", ["8 nodes (RoCE)", "RoCE 400G network"])
def test_a_network_that_is_named_is_not_assumed(words: str) -> None:
    draft = drafted(LLAMA | {"notes": words})
    assert value(draft, "cluster.fabric") == "roce-400g-rail"
    assert not any(each.key == "cluster.fabric" for each in draft.assumed)


def test_what_a_row_states_goes_before_its_source_but_for_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = (
        Fact(cases=("x",), model="Llama", columns={"mbs": 1, "vpp": 3}, source="s"),
        Fact(cases=("x",), model="Llama", columns={"gbs": 128}, source="t", corrects=True),
        Fact(cases=("x",), model="Other", columns={"seq": 1}, source="u"),
    )
    monkeypatch.setattr(sources, "facts", lambda: facts)
    row, read = filled_in(Row(LLAMA | {"vpp": ""}))
    assert [row.text(name) for name in ("mbs", "vpp", "gbs", "seq")] == ["2", "3", "128", "8192"]
    assert read == (Assumed("vpp", "3", "s", is_sourced=True), Assumed("gbs", "128", "t", is_sourced=True))


@pytest.mark.parametrize("factor", [0.9, 0.98, 1.02, 1.1])
def test_a_step_time_and_a_speed_of_one_row_agree_within_their_rounding(factor: float) -> None:
    speed = factor * 64 * 8192 / 8 / 2.0
    problems = bad_values(Row(LLAMA | {"step_time_s": "2.0", "tokens_per_s_per_gpu": f"{speed:.1f}"}))
    assert bool(problems) == (abs(factor - 1) > 0.03)


def test_mfu_is_a_fraction() -> None:
    assert bad_values(Row(LLAMA | {"mfu": "1.01"}))
    assert not bad_values(Row(LLAMA | {"mfu": "0.99"}))


def test_what_a_release_says_is_not_assumed() -> None:
    each = (Assumed("a", 1, "w"), Assumed("b", 1, "w", is_sourced=True))
    assert [Statement("x", "p", {}, None, {}, given).completeness for given in (each, each[1:])] == [
        "1 assumed", "complete",
    ]  # fmt: skip


def test_only_rows_of_the_committed_list_are_missed() -> None:
    rows = [run("MBRIDGE-001", None), run("mine-1", None), run("MBRIDGE-002", None, quantity="")]
    assert summary(rows)["missed"] == ["MBRIDGE-001"]


def test_a_label_is_the_first_word_that_fits() -> None:
    assert labels(Row({"notes": "vanilla TP beside async TP"}))["overlap"] == "none"
    assert labels(Row({"notes": "HybridEP, not DeepEP"}))["dispatcher"] == "hybridep"


def test_a_condition_reads_the_default_of_a_key_that_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    switch = Switch(when={"precision.recipe": "bf16", "parallel.tp": 1}, set={"parallel.zero_stage": 2}, source="s")
    monkeypatch.setattr(releases, "load_release", lambda name: Release(summary="s", switches=(switch,)))
    assert [entry.key for entry in set_switches("any", {}, "h100")] == ["parallel.zero_stage"]
    assert not set_switches("any", {"parallel": {"tp": 2}}, "h100")


def test_of_an_extended_release_and_its_own_switch_the_own_counts() -> None:
    base, own = load_release("megatron-core@recipes"), load_release("megatron-lm@23e00ed")
    assert own.switches[: len(base.switches)] == base.switches
    assert len(own.switches) > len(base.switches)


def test_a_value_that_nothing_computes_yet_sets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    planned = not_modelled.Planned("value", "parallel.schedule", "leave it out", values=("newest",))
    monkeypatch.setattr(not_modelled, "TABLE", (*not_modelled.TABLE, planned))
    switch = Switch(set={"parallel.schedule": "newest"}, source="s")
    monkeypatch.setattr(releases, "load_release", lambda name: Release(summary="s", switches=(switch,)))
    data: dict[str, object] = {}
    (entry,) = set_switches("any", data, "h100")
    assert (entry.is_modelled, data) == (False, {})


def test_graphs_of_the_notes_go_before_a_release_that_reads_other_words_of_them() -> None:
    """Both halves of an ablation note "launch-bound vs graphed"; the source's detail says which half a row is."""
    rows = {row.text("case_id"): row for row in read_rows(CASES)}
    plans = {name: state(rows[f"GB200-3P-{name}"]).scenario for name in ("007", "008")}
    assert plans["007"] is not None and plans["008"] is not None
    assert (plans["007"].host.cuda_graph, plans["008"].host.cuda_graph) == ("none", "full_iteration")
    assert plans["008"].moe.host_sync == "none"
