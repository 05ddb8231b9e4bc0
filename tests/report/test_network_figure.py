"""The picture of the network: all that is drawn stands apart, is coloured by its use, and is told in words."""

from __future__ import annotations

from functools import cache
from typing import Any

import plotly.graph_objects as go
import pytest

from simulator import load_scenario
from simulator.report.figures.network import alt, network_figure
from simulator.report.frames.network import collectives_frame, links_frame
from simulator.report.network_words import collective_words, hottest_sentence, link_words, place_sentence
from simulator.report.theme import PAGES, Mode
from simulator.results.network_view import TRAFFICS, NetworkView
from simulator.step.collectives import collective_times
from simulator.step.graph import build_graph
from simulator.step.network_load import network_view
from simulator.step.prepared import prepare

STEP_S = 2.0


@cache
def made(**cluster: Any) -> tuple[NetworkView, Any]:
    gpus = cluster.get("num_gpus", 64)
    document = {
        "model": "deepseek-v2-lite",
        "cluster": {"node": "h800-x8", "num_gpus": gpus, "fabric": "ib-400g-8plane", **cluster},
        "parallel": {"pp": min(2, gpus // 8), "ep": min(16, gpus // 2), "schedule": "1f1b"},
        "training": {"seq_len": 4096, "global_batch_size": 2 * gpus},
        "precision": "bf16",
        "draws": 1,
    }
    step = prepare(load_scenario(document))
    graph = build_graph(step)
    return network_view(step, graph, STEP_S), graph


def view(**cluster: Any) -> NetworkView:
    return made(**cluster)[0]


CLUSTERS = [
    {},
    {"fabric": "ib-400g-fattree"},
    {"fabric": "roce-400g-rail-3layer", "num_gpus": 1024},
    {"node": "gb200-nvl72", "fabric": "ib-800g-rail-3layer", "num_gpus": 256},
    {"node": "mi300x-x8", "fabric": "roce-400g-rail"},
    {"num_gpus": 8},
]


@pytest.mark.parametrize("cluster", CLUSTERS, ids=str)
def test_every_node_is_drawn_once_and_none_on_another(cluster: dict[str, Any]) -> None:
    seen = view(**cluster)
    figure = network_figure(seen)
    marks = [
        (x, y)
        for trace in figure.data
        if isinstance(trace, go.Scatter) and trace.marker.symbol is not None
        for x, y in zip(trace.x, trace.y, strict=True)
    ]
    assert len(marks) == len(set(marks)) == sum(node.kind != "scale_up" for node in seen.nodes)
    assert all(0 <= x <= 1 for x, _ in marks)
    lines = [trace for trace in figure.data if trace.mode == "lines"]
    assert sum(list(trace.x).count(None) for trace in lines) == len(seen.drawn)
    left, right = figure.layout.xaxis.range
    assert all(left <= note.x <= right for note in figure.layout.annotations)


def test_the_hottest_links_are_the_widest_and_in_bold() -> None:
    seen = view()
    figure = network_figure(seen)
    widths = [trace.line.width for trace in figure.data if trace.mode == "lines"]
    shares = [seen.share(link) for link in seen.links]
    assert sorted(range(len(widths)), key=widths.__getitem__) == sorted(range(len(shares)), key=shares.__getitem__)
    (bold,) = (note.text for note in figure.layout.annotations if "(hottest)" in note.text)
    assert bold.startswith("<b>NIC of each GPU (hottest)</b>")


def test_a_kind_of_traffic_alone_has_its_own_scale_and_words() -> None:
    seen = view()
    assert seen.hottest("tp") is None
    assert hottest_sentence(seen, "tp") == "No gathers and reductions inside layers (tensor parallel) in this step."
    texts = [alt(seen, traffic) for traffic in TRAFFICS]
    assert len(set(texts)) == len(texts)
    for traffic in TRAFFICS:
        network_figure(seen, "dark", traffic)
    scales = [
        trace.marker.cmax
        for which in (None, "pp")
        for trace in network_figure(seen, traffic=which).data  # type: ignore[arg-type]
        if trace.marker.showscale
    ]
    assert scales[0] > scales[1]


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_it_stands_on_its_page(mode: Mode) -> None:
    figure = network_figure(view(), mode)
    assert figure.layout.paper_bgcolor == "rgba(0,0,0,0)"
    assert {shape.fillcolor for shape in figure.layout.shapes} == {PAGES[mode].surface, PAGES[mode].background}


def test_words_say_what_the_view_holds() -> None:
    seen = view()
    text = alt(seen)
    assert place_sentence(seen) in text and hottest_sentence(seen) in text
    assert "64 GPUs in 8 scale-up domains of 8" in text and "8 leaf switches" in text and "in 8 planes" in text
    link = seen.hottest()
    assert link is not None
    assert f"{100 * seen.share(link):.1f} %" in hottest_sentence(seen)
    assert "no traffic leaves the domain" in place_sentence(view(num_gpus=8))
    assert link_words(view(node="gb200-nvl72", fabric="ib-800g-rail-3layer", num_gpus=256), "nic") == "NIC of each GPU"


def test_collectives_have_names_that_people_say() -> None:
    said = {
        "dispatch_f.beside_compute": "dispatch, forward, beside compute",
        "combine_b": "combine, backward",
        "reduce_scatter_expert": "reduce-scatter, experts",
        "tp_all_gather": "TP all-gather",
        "etp_reduce_scatter": "expert TP reduce-scatter",
        "all_reduce_embedding_copies": "all-reduce embedding copies",
        "grad_norm": "grad norm",
    }
    assert {name: collective_words(name) for name in said} == said


def test_frames_hold_the_figures_in_si() -> None:
    seen, graph = made()
    frame = links_frame(seen)
    assert list(frame["load_bytes"]) == [link.load() for link in seen.links]
    assert frame[[f"{traffic}_bytes" for traffic in TRAFFICS]].sum(axis=1).to_list() == pytest.approx(
        frame["load_bytes"].to_list()
    )
    rows = collective_times(graph)
    table = collectives_frame(rows)
    assert len(table) == len(rows)
    assert list(table["seconds"]) == sorted(table["seconds"], reverse=True)
