"""What if: figures are the command line's, each control sets its key, what cannot be is explained and mended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dashboards import answers, exported, jobs, remedied
from dashboards.answers import FIRST_DRAWS
from dashboards.controls import CONTROLS, LABELS
from dashboards.jobs import Job
from dashboards.keys import BY_NAME, text_of
from dashboards.link import pack
from dashboards.source import UPLOADED, Source
from dashboards.widgets.controls import key_of
from dashboards.work import remedies as work
from simulator import load_scenario, simulate_run
from simulator.choices import choices
from simulator.report import headline
from simulator.scenario.layers import ScenarioText
from tests.dashboards.inline import Inline
from tests.dashboards.pages import link_of, opened, texts

TINY = """\
schema_version: 1
extends: mixtral-8x22b
name: tiny
model: {num_layers: 4}
cluster: {num_gpus: 16}
parallel: {pp: 2}
training: {global_batch_size: 32}
phases: [{name: pretrain, tokens: 1e9}]
draws: 1
"""
LINK = {"text": pack(TINY)}


def of_tiny(*overrides: str) -> Source:
    return Source(UPLOADED, TINY, overrides)


def answer(source: Source) -> dict[str, str]:
    """Label → text of the headline figures that the command line prints, but for memory."""
    return {each.label: each.value for each in headline.figures(simulate_run(source.load())) if each.key != "memory"}


def figures(page: AppTest) -> dict[str, str]:
    return {plain(each.label): plain(each.value) for each in page.metric}


def plain(text: str) -> str:
    return text.replace("\\", "")


@pytest.fixture(scope="module")
def page() -> Iterator[AppTest]:
    """The page of the small scenario, opened once; every test moves what it moves back again."""
    jobs.install(Inline())
    yield opened(**LINK)
    jobs.install(None)


def test_figures_are_those_of_the_command_line(page: AppTest) -> None:
    assert not page.exception
    assert figures(page) == answer(of_tiny())
    said = plain(texts(page))
    expected = headline.figures(simulate_run(of_tiny().load()))
    assert all(each.range in said for each in expected if each.key != "memory")
    verdict = next(each for each in expected if each.key == "memory")
    alerts = [plain(each.value) for kind in (page.success, page.warning, page.error) for each in kind]
    assert any(
        all(words in alert for words in (verdict.note, verdict.range, verdict.value.capitalize())) for alert in alerts
    )


BOX, NUMBER, SWITCH, SEVERAL = "selectbox", "number_input", "toggle", "multiselect"
MOVES: dict[str, tuple[str, Any, str]] = {
    "node": (BOX, "h200-x8", "h200-x8"),
    "gpus": (NUMBER, 32, "32"),
    "fabric": (BOX, "ib-800g-rail", "ib-800g-rail"),
    "pp": (NUMBER, 1, "1"),
    "vpp": (NUMBER, 2, "2"),
    "tp": (NUMBER, 2, "2"),
    "cp": (NUMBER, 2, "2"),
    "cp_comm": (BOX, "a2a", "a2a"),
    "ep": (NUMBER, 4, "4"),
    "etp": (NUMBER, 2, "2"),
    "zero": (BOX, "2", "2"),
    "sp": (SWITCH, True, "true"),
    "schedule": (BOX, "gpipe", "gpipe"),
    "batch": (NUMBER, 64, "64"),
    "micro": (NUMBER, 2, "2"),
    "seq": (NUMBER, 2048, "2048"),
    "framework": (BOX, "megatron-core@0.9", "megatron-core@0.9"),
    "attention": (BOX, "fa2", "fa2"),
    "grouped_gemm": (BOX, "loop", "loop"),
    "casts": (BOX, "transformer-engine-2026", "transformer-engine-2026"),
    "power_cap": (NUMBER, 400, "400"),
    "recipe": (BOX, "fp8-blockwise", "fp8-blockwise"),
    "optimizer": (BOX, "adamw-bf16", "adamw-bf16"),
    "recompute": (BOX, "full", "full"),
    "modules": (SEVERAL, ["swiglu"], "[swiglu]"),
    "balance": (BOX, "forced", "forced"),
    "nodes": (NUMBER, 1, "1"),
    "dispatcher": (BOX, "alltoall", "alltoall"),
    "issued_by": (BOX, "eager", "eager"),
    "graphs": (SEVERAL, ["attn"], "[attn]"),
    "host_sync": (BOX, "none", "none"),
    "off_optimizer": (NUMBER, 0.5, "0.5"),
    "off_activations": (NUMBER, 0.25, "0.25"),
}  # fmt: skip
"""Control → its widget, the value that it is moved to, and the text in the link."""
OFTEN = {"node", "pp", "sp", "schedule", "batch", "modules", "balance", "nodes", "graphs", "off_optimizer"}
"""Controls that are moved in every run: of each kind of widget and each section of a scenario one; the others take longer."""
OF_FP8 = {"scaling": "delayed", "primary": "quantised"}
"""Controls that only some recipes have → the value that each is moved to."""


def widget(page: AppTest, kind: str, name: str) -> Any:
    return getattr(page, kind)(key=key_of(name))


def test_every_control_is_moved_once() -> None:
    assert {*MOVES, "domain", "hsdp", *OF_FP8} == {control.name for control in CONTROLS}
    assert set(LABELS) <= set(BY_NAME)


def test_a_long_name_has_the_whole_width() -> None:
    """At 1280 px half a column holds about ten letters."""
    named = [control for control in CONTROLS if control.kind == "choice"]
    for control in named:
        longest = max(len(text_of(each)) for each in choices(str(BY_NAME[control.name].path)))
        assert control.is_wide or longest <= 10, control.name


@pytest.mark.parametrize(
    "name", [name if name in OFTEN else pytest.param(name, marks=pytest.mark.slow) for name in sorted(MOVES)]
)
def test_a_control_sets_its_key_and_shows_what_the_command_line_computes(name: str, page: AppTest) -> None:
    kind, value, text = MOVES[name]
    before = widget(page, kind, name).value
    widget(page, kind, name).set_value(value).run()
    try:
        assert not page.exception
        assert link_of(page)[name] == text
        assert widget(page, kind, name).value == value
        shown = of_tiny(f"{BY_NAME[name].path}={text}")
        if shown.error() is None:
            assert figures(page) == answer(shown)
            assert all(metric.delta for metric in page.metric), "beside the preset as it is"
        else:
            assert "This combination cannot be" in texts(page)
    finally:
        widget(page, kind, name).set_value(before).run()
    assert name not in link_of(page)


def test_a_recipe_brings_its_own_controls(page: AppTest) -> None:
    assert not any(box.key == key_of(name) for box in page.selectbox for name in OF_FP8)
    widget(page, BOX, "recipe").set_value("fp8-tensor").run()
    before = {name: widget(page, BOX, name).value for name in OF_FP8}
    for name, value in OF_FP8.items():
        widget(page, BOX, name).set_value(value).run()
        assert link_of(page)[name] == value and not page.exception
    sets = [f"{BY_NAME[name].path}={value}" for name, value in {"recipe": "fp8-tensor", **OF_FP8}.items()]
    assert figures(page) == answer(of_tiny(*sets))
    for name, value in {**before, "recipe": "bf16"}.items():
        widget(page, BOX, name).set_value(value).run()
    assert not {"recipe", *OF_FP8} & set(link_of(page))


def test_the_whole_iteration_is_a_graph_of_its_own(page: AppTest) -> None:
    """The latest choice counts, and no choice is one that cannot be written; nothing chosen is none."""
    for chosen, text in (
        (["attn", "full_iteration"], "full_iteration"),
        (["full_iteration", "moe_router"], "[moe_router]"),
        (["moe_preprocess"], "[moe_router, moe_preprocess]"),
        (["moe_router", "moe_preprocess", "moe"], "[moe]"),
        (["attn", "moe", "moe_router"], "[attn, moe_router]"),
    ):
        widget(page, SEVERAL, "graphs").set_value(chosen).run()
        assert not page.exception
        assert link_of(page)["graphs"] == text
        assert widget(page, SEVERAL, "graphs").value == (text.strip("[]").split(", "))
    widget(page, SEVERAL, "graphs").set_value([]).run()
    assert "graphs" not in link_of(page)


def test_a_shard_group_is_asked_where_parameters_are_shared(page: AppTest) -> None:
    assert not any(each.key == key_of("hsdp") for each in page.number_input)
    widget(page, BOX, "zero").set_value("3").run()
    try:
        widget(page, NUMBER, "hsdp").set_value(4).run()
        assert not page.exception
        assert link_of(page)["hsdp"] == "4"
    finally:
        widget(page, NUMBER, "hsdp").set_value(None).run()
        widget(page, BOX, "zero").set_value("1").run()


def test_a_given_imbalance_is_a_number_of_its_own(page: AppTest) -> None:
    widget(page, BOX, "balance").set_value("given imbalance").run()
    assert link_of(page)["balance"] == "{load_imbalance: 1.2}"
    widget(page, NUMBER, "imbalance").set_value(1.5).run()
    assert link_of(page)["balance"] == "{load_imbalance: 1.5}"
    widget(page, BOX, "balance").set_value("learned").run()
    assert not page.exception
    assert "balance" not in link_of(page)


def test_price_and_tokens_simulate_nothing(page: AppTest) -> None:
    known = set(jobs.start().jobs)
    cost = figures(page)["Cost"]
    widget(page, NUMBER, "price").set_value(4.0).run()
    widget(page, NUMBER, "tokens").set_value(2.0).run()
    assert link_of(page)["price"] == "4.0" and link_of(page)["tokens"] == "2000000000.0"
    assert figures(page)["Cost"] != cost
    assert figures(page) == answer(of_tiny("phases.pretrain.tokens=2e9", "prices.usd_per_gpu_hour=4"))
    assert set(jobs.start().jobs) == known
    widget(page, NUMBER, "price").set_value(2.0).run()
    widget(page, NUMBER, "tokens").set_value(1.0).run()
    assert "price" not in link_of(page)


def test_a_sheet_and_its_offers_can_be_taken(page: AppTest) -> None:
    page.button_group(key=key_of("price-kind")).set_value("sheet").run()
    assert not page.exception
    assert link_of(page)["sheet"] == "market-2026-05"
    commitments = widget(page, BOX, "commitment")
    widget(page, BOX, "commitment").set_value(commitments.options[1]).run()
    assert link_of(page)["commitment"] == commitments.options[1]
    assert not page.exception
    page.button_group(key=key_of("price-kind")).set_value("own").run()
    assert "sheet" not in link_of(page) and "commitment" not in link_of(page)


def test_a_pinned_baseline_stands_beside_every_later_change(page: AppTest) -> None:
    widget(page, NUMBER, "price").set_value(4.0).run()
    page.button(key="pin").click().run()
    assert all(not metric.delta for metric in page.metric), "the baseline itself"
    assert "pinned" in link_of(page)
    was = figures(page)["Cost"]
    widget(page, NUMBER, "price").set_value(2.0).run()
    deltas = {plain(metric.label): plain(str(metric.delta)) for metric in page.metric}
    assert deltas["Cost"] == "-50.0 %, better"
    assert deltas["Step"] == "as in the baseline"
    assert f"was {was}" in plain(texts(page))
    page.button(key="unpin").click().run()
    assert "pinned" not in link_of(page)
    assert all(not metric.delta for metric in page.metric), "the preset as it is"


def test_what_cannot_be_is_explained_and_the_nearest_values_mend_it(page: AppTest) -> None:
    widget(page, NUMBER, "pp").set_value(3).run()
    assert "16 GPUs do not divide by pp 3" in plain(texts(page))
    labels = {plain(button.label): button for button in page.button}
    assert {"Pipeline, pp: 2", "GPUs: 24"} <= set(labels), sorted(labels)
    labels["GPUs: 24"].click().run()
    assert not page.exception and page.metric
    assert link_of(page)["gpus"] == "24" and link_of(page)["pp"] == "3"
    widget(page, NUMBER, "pp").set_value(2).run()
    widget(page, NUMBER, "gpus").set_value(16).run()


IMPOSSIBLE = [
    ("deepseek-v3", ("parallel.pp=7",)),
    ("deepseek-v3", ("cluster.num_gpus=1000",)),
    ("deepseek-v3", ("training.global_batch_size=15000",)),
    ("deepseek-v3", ("parallel.schedule=interleaved_1f1b",)),
    ("deepseek-v3", ("cluster.node=a100-x8",)),
    ("deepseek-v3", ("parallel.zero_stage=3",)),
    ("mixtral-8x22b", ("parallel.ep=3",)),
    ("mixtral-8x22b", ("parallel.ep=3", "parallel.pp=13")),
    ("llama-3.1-70b", ("parallel.tp=5",)),
]


@pytest.mark.parametrize(("preset", "overrides"), IMPOSSIBLE)
def test_every_button_of_an_impossible_combination_loads(preset: str, overrides: tuple[str, ...]) -> None:
    source = Source(preset, None, overrides)
    offers = remedied.offers(source, work.remedies(source))
    assert any(offer.solves for offer in offers)
    paths = {name: BY_NAME[name].path for offer in offers for name in offer.changes}
    for offer in (each for each in offers if each.solves):
        kept = {override.partition("=")[0]: override.partition("=")[2] for override in overrides}
        for name, text in offer.changes.items():
            path = str(paths[name]).replace("{first}", "pretrain")
            kept.pop(path, None)
            if text is not None:
                kept[path] = text
        Source(preset, None, tuple(f"{path}={text}" for path, text in kept.items())).load()


def test_a_first_answer_says_so_and_is_refined(inline_jobs: Inline, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the refinement is not done the page shows the first answer, with its words and without intervals."""
    ask = inline_jobs.ask

    def first_only(key: str, function: str, arguments: tuple[Any, ...], later: bool, session: str) -> Job:
        return Job(key, function, arguments, later, 0) if later else ask(key, function, arguments, later, session)

    with monkeypatch.context() as patched:
        patched.setattr(inline_jobs, "ask", first_only)
        page = opened(**LINK, draws="4")
        assert not page.exception
        assert f"of {FIRST_DRAWS} of 4 draws; interval follows" in plain(texts(page))
        assert "Follows with all draws." in texts(page)
    early, few = figures(page), answer(of_tiny(f"draws={FIRST_DRAWS}"))
    assert early["Tokens/s/GPU"] == few["Tokens/s/GPU"] and early["MFU"] == few["MFU"]
    page.run()
    assert figures(page) == answer(of_tiny("draws=4"))
    assert "interval follows" not in texts(page) and "Follows with all draws." not in texts(page)


def test_a_first_answer_is_compared_with_the_same_draws_of_the_baseline(
    inline_jobs: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What changes nothing shows no difference, though few draws have another mean than all."""
    ask = inline_jobs.ask
    base = Source(UPLOADED, TINY.replace("draws: 1", "draws: 4"), ())
    assert answers.first_known(base) is None
    page = opened(text=pack(base.text or ""))
    early, whole = answers.first_known(base), answers.of(base).result
    assert early is not None and whole is not None
    assert not early.step.binding and whole.step.binding
    assert early.step.step_s == simulate_run(answers.first_draws(base.load())).step.step_s != whole.step.step_s

    def first_only(key: str, function: str, arguments: tuple[Any, ...], later: bool, session: str) -> Job:
        known = key in inline_jobs.jobs or not later
        return ask(key, function, arguments, later, session) if known else Job(key, function, arguments, later, 0)

    monkeypatch.setattr(inline_jobs, "ask", first_only)
    widget(page, SWITCH, "sp").set_value(True).run()
    assert "interval follows" in plain(texts(page))
    deltas = {plain(metric.label): plain(str(metric.delta)) for metric in page.metric}
    assert deltas["Step"] == deltas["Cost"] == "as in the baseline"


@pytest.mark.parametrize(
    ("preset", "overrides"),
    [
        ("deepseek-v3", ()),
        (
            "deepseek-v3",
            ("cluster.num_gpus=1024", "phases.pretrain.batch_ramp.from=4096", "moe.balance={load_imbalance: 1.3}"),
        ),
        ("deepseek-v3", ("cluster.node=h200-x8", "recompute.modules=[rmsnorm]", "moe.max_nodes_per_token=null")),
        ("llama-3.1-70b", ("parallel.tp=4", "prices.sheet=market-2026-05")),
    ],
)
def test_the_scenario_file_loads_to_what_is_shown(preset: str, overrides: tuple[str, ...]) -> None:
    source = Source(preset, None, overrides)
    text = exported.scenario_file(source)
    again = load_scenario(ScenarioText(text, "exported.yaml"), reads_files=False)
    assert again == source.load()
    assert again.dropped == source.load().dropped
    assert f"extends: {preset}" in text
    whole = exported.scenario_file(Source("scenario.yaml", text))
    assert load_scenario(ScenarioText(whole, "whole.yaml"), reads_files=False) == source.load()


@pytest.mark.usefixtures("inline_jobs")
def test_warnings_stand_before_the_figures_that_they_are_about() -> None:
    """A price of another GPU is told where the cost is read."""
    told = in_order(opened(**LINK, node="h200-x8").main)
    warned = next(place for place, (_, text) in enumerate(told) if "is the price of the GPU h100" in text)
    assert warned < next(place for place, (kind, _) in enumerate(told) if kind == "metric")


@pytest.mark.usefixtures("inline_jobs")
def test_what_a_warning_names_can_be_pressed() -> None:
    """A price sheet of the new GPU; not the stack that would not load there, nor what is set already."""
    page = opened(**LINK, node="h200-x8")
    (button,) = [each for each in page.button if (each.key or "").startswith("named-")]
    assert plain(button.label) == "Set Price sheet: market-2026-05"
    button.click().run()
    assert link_of(page)["sheet"] == "market-2026-05"
    assert "is the price of the GPU h100" not in plain(texts(page))


def test_named_values_are_offered_once_and_only_where_they_load() -> None:
    lines = [
        "like for like: `--set training.seq_len=8192` beside `--set parallel.pp=3`",
        "or --set training.seq_len=8192, --set cluster.num_gpus=16; --set nothing=1",
    ]
    offered = remedied.named(of_tiny(), lines)
    assert [dict(each.changes) for each in offered] == [{"seq": "8192"}]


def in_order(block: Any) -> list[tuple[str, str]]:
    """(kind, text) of the elements of a page, from top to bottom."""
    if hasattr(block, "children"):
        return [found for child in block.children.values() for found in in_order(child)]
    return [(block.type, str(getattr(block, "value", "")))]


def test_a_plan_that_does_not_fit_is_told_what_makes_room(inline_jobs: Inline) -> None:
    page = opened(preset="llama-3.1-70b", draws="1", gpus="16", tp="1", pp="2", batch="16", recompute="none", steps="1")
    said = plain(texts(page))
    assert not page.exception
    assert "Does not fit" in said
    assert "what needs less" in said
    assert any((button.key or "").startswith("room-") for button in page.button)


def test_another_preset_begins_anew(page: AppTest) -> None:
    page.selectbox(key="set-preset").set_value("llama-3.1-70b").run()
    assert link_of(page) == {"preset": "llama-3.1-70b"}
