"""The HTML report: one file, its sections in order, tables and pictures that everybody can read, nothing from outside."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache
from html.parser import HTMLParser
from itertools import cycle

from simulator.cli.report import MAX_SOURCES
from simulator.report.formats import FORMATS, ReportItem
from simulator.report.html.charts import as_script_data
from simulator.report.html.document import IN_SHORT, MAX_IN_FULL, TEMPLATES
from simulator.results.document import to_json
from simulator.results.run_result import FrameworkSwitch, GpuHourPrice, RunResult, TakenOffer, from_json
from simulator.results.step_power import RankWatts, StepWatts
from tests.report.made import small_item
from tests.report.payloads import PAYLOADS, poisoned
from tests.report.test_console import RESULT, changed

MAX_BYTES = 6_000_000


class Seen(HTMLParser):
    """Elements with their attributes, and the text of each kind of element."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)
        self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts[self._open[-1]][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def html(*results: RunResult) -> str:
    return FORMATS["html"].render([ReportItem(result) for result in results]).decode()


@cache
def plain() -> str:
    return html(RESULT)


@cache
def seen() -> Seen:
    return Seen(plain())


def test_the_first_screen_answers_what_a_boss_asks_and_the_sections_follow() -> None:
    titles = [text for text in seen().texts["h2"] if text]
    order = [
        "In short", "Inputs", "Where the time goes", "Memory by stage", "Phases and cost", "Assumptions",
        "Where durations come from", "What the total contains", "What is not modelled", "Provenance",
        "How right the method is",
    ]  # fmt: skip
    assert [title for title in titles if title in order] == order
    assert seen().texts["h3"][:5] == ["Cost", "Wall clock", "Does it fit?", "How sure?", "What would change it?"]
    cards = plain().replace("\u00a0", " ").partition('class="cards"')[2].partition("</section>")[0]
    for figure in ("5.49 M USD", "5.11 to 6.09 M USD", "55.8 d", "51.9 to 62.0 d", "2.00 USD per GPU-hour"):
        assert figure in cards, figure


def test_a_scenario_without_a_price_has_hours_in_the_first_place() -> None:
    totals = RESULT.totals.model_copy(update={"cost_usd": None})
    found = Seen(html(changed(totals=totals, price=None)))
    assert found.texts["h3"][0] == "GPU-hours"
    assert not any("USD" in text for text in found.texts["p"])


def test_the_file_is_small_and_asks_nobody() -> None:
    assert len(plain().encode()) <= MAX_BYTES
    for tag, attributes in seen().elements:
        assert tag not in ("link", "img", "iframe", "object", "embed", "form", "base")
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
        assert not [name for name in attributes if name.startswith("on")]


def test_only_the_two_scripts_of_the_page_may_run() -> None:
    policy = next(meta["content"] for meta in seen().all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    scripts = [
        text
        for attributes, text in zip(seen().all("script"), seen().texts["script"], strict=True)
        if attributes.get("type") is None
    ]
    assert len(scripts) == 2
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    allowed = " ".join(f"'sha256-{each}'" for each in hashes)
    assert f"script-src {allowed};" in policy
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy


def test_every_picture_says_the_same_in_words_and_every_table_names_its_columns() -> None:
    pictures = [attributes for _, attributes in seen().elements if attributes.get("role") == "img"]
    assert len(pictures) >= 3
    assert all(len(attributes["aria-label"] or "") > 40 for attributes in pictures)
    assert all(attributes.get("scope") in ("col", "row") for attributes in seen().all("th"))
    assert len(seen().all("caption")) == len(seen().all("table"))
    keys = [attributes["id"] for _, attributes in seen().elements if "id" in attributes]
    assert len(keys) == len(set(keys))
    anchors = {(attributes["href"] or "")[1:] for attributes in seen().all("a")}
    assert anchors <= set(keys)


def test_a_picture_s_data_are_those_of_the_result_and_what_is_dark_differs() -> None:
    data = {
        attributes["id"]: json.loads(text)
        for attributes, text in zip(seen().all("script"), seen().texts["script"], strict=True)
        if attributes.get("type") == "application/json"
    }
    bars = data["time-categories-data"]
    assert bars["data"][0]["x"][-1] == RESULT.step.step_s
    assert bars["layout"]["height"] > 0
    assert all(path[0] in ("data", "layout") for path, _ in bars["dark"])
    assert any("color" in str(path[-1]) for path, _ in bars["dark"])


def of_texts(*texts: str) -> RunResult:
    """The made-up result, all of whose free texts are these in turn."""
    document = poisoned(json.loads(to_json(RESULT)), cycle(texts))
    return from_json(json.dumps(document))


def test_a_text_is_no_element_no_attribute_and_no_script() -> None:
    clean = [(tag, sorted(attributes)) for tag, attributes in Seen(html(of_texts("word"))).elements]
    shown = ""
    for turn in (0, 7, 20):  # what is told shortly may be cut: every payload comes to several places
        found = Seen(html(of_texts(*PAYLOADS[turn:], *PAYLOADS[:turn])))
        assert [(tag, sorted(attributes)) for tag, attributes in found.elements] == clean
        shown += " ".join(text for tag in ("h1", "td", "th", "li", "p") for text in found.texts[tag])
    assert [payload for payload in PAYLOADS if payload not in shown] == []


def test_the_step_is_drawn_where_it_was_simulated_and_else_a_sentence_says_why() -> None:
    item = small_item()
    drawn = FORMATS["html"].render([item]).decode()
    assert len(drawn.encode()) <= MAX_BYTES
    assert 'id="timeline-bars-data"' in drawn
    without = ReportItem(item.result, None, "There is none: <b>why</b>.")
    told = FORMATS["html"].render([without]).decode()
    assert "There is none: &lt;b&gt;why&lt;/b&gt;." in told
    assert 'id="timeline-bars-data"' not in told


def test_no_template_lets_a_text_through_as_it_is() -> None:
    templates = sorted(TEMPLATES.iterdir())
    assert len(templates) >= 3
    for path in templates:
        text = path.read_text()
        assert not re.search(r"\|\s*safe|autoescape|Markup", text), path.name
        assert not re.search(r"\{\{[^}]*[-+*/][^}]*\}\}", text), f"{path.name} computes"


def test_several_scenarios_stand_side_by_side_before_each_is_told() -> None:
    other = changed(scenario=RESULT.scenario | {"name": "other", "seed": 7})
    found = Seen(html(RESULT, other))
    titles = [text for text in found.texts["h2"] if text]
    assert titles[:4] == ["Side by side", "other beside made-up", "made-up", "other"]
    keys = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(keys) == len(set(keys))
    rows = [text for text in found.texts["td"] if text]
    assert rows.count("5.49 M USD (5.11 to 6.09 M USD)") == 2
    assert "seed" in found.texts["th"]


def test_many_scenarios_are_told_in_short_and_the_file_stays_small() -> None:
    item = small_item()
    for count in (MAX_IN_FULL, MAX_SOURCES):
        content = FORMATS["html"].render([item] * count)
        assert len(content) <= MAX_BYTES
        assert (IN_SHORT in content.decode()) == (count > MAX_IN_FULL)


def test_the_price_names_its_sheet_and_the_offers_that_it_is_the_middle_of() -> None:
    offer = TakenOffer(
        provider="<b>Cloud", region=None, commitment="one year", usd_per_gpu_hour=2.35, low=2.35, high=2.35, date="2026-03",
        source="somewhere",
    )  # fmt: skip
    price = GpuHourPrice(
        usd_per_gpu_hour=2.35, low=1.5, high=3.0, source="sheet-x", sheet="sheet-x", date="2026-05", commitment="one year",
        offers=(offer,),
    )  # fmt: skip
    found = Seen(html(changed(price=price)))
    cells = found.texts["td"]
    for text in ("2.35 USD (1.50 USD to 3.00 USD)", "sheet-x", "2026-05", "one year", "2.35 USD", "–"):
        assert text in cells, text
    assert "<b>Cloud" in found.texts["th"]


def test_data_of_a_picture_cannot_end_its_element_and_is_what_it_was() -> None:
    """Whatever a figure lets through: no letter that a browser would look at before JSON is read."""
    data = {"text": ["</script><script>alert(1)</script>", "<!--", "]]>", "a & b", "line\u2028end\u2029"]}
    text = str(as_script_data(data))
    assert not set(text) & set("<>&\u2028\u2029")
    assert json.loads(text) == data


def test_watts_and_what_a_framework_set_are_told_where_there_are_any() -> None:
    """In documents of earlier releases there are none."""
    assert "a GPU draws" not in plain() and "by the framework" not in plain()
    rank = RankWatts(pp_rank=0, mean_w=640.0, speed=0.93)
    power = StepWatts(mean_w=640.0, limit_w=700.0, speed=0.93, limited=True, kwh_per_step=0.25, by_rank=(rank,))
    switches = (
        FrameworkSwitch(key="kernels.grouped_gemm", value="loop", source="its recipe", is_modelled=True),
        FrameworkSwitch(key="moe.dispatcher", value="alltoall", source="its recipe", is_modelled=False),
    )
    step = RESULT.step.model_copy(update={"power": power})
    text = html(
        changed(step=step, framework_switches=switches, scenario={**RESULT.scenario, "framework": "nemo@24.07"})
    )
    assert "a GPU draws 640 W of 700, the slowest rank's chip at 0.93 of its burst speed" in "".join(
        Seen(text).texts["p"]
    )
    assert "nemo@24.07 (1)" in text and "kernels.grouped_gemm" in text and "moe.dispatcher" not in text
