"""How long the run is and what a GPU-hour costs: controls that never simulate anything."""

from __future__ import annotations

from typing import Final, Literal

import streamlit as st

from dashboards import controls, state
from dashboards.keys import text_of
from dashboards.source import Source
from dashboards.widgets.controls import key_of
from hwprofiles.catalog import load_prices
from hwprofiles.offers import Wanted
from hwprofiles.price_records import Offer
from hwprofiles.units import GIGA, PETA
from simulator import choices
from simulator.scenario.hardware import node_of
from simulator.scenario.plan import Prices
from simulator.scenario.scenario import Scenario

PriceKind = Literal["own", "sheet", "none"]
PRICE_KINDS: Final = {"own": "own price", "sheet": "price sheet", "none": "no price"}
ANY: Final = "any"
USUAL_USD: Final = 2.0
WISHES: Final = {"provider": "Provider", "region": "Region", "commitment": "Commitment"}


def show(scenario: Scenario, source: Source) -> None:
    """Tokens, or steps, of the first phase; price."""
    _length(scenario, source)
    prices = scenario.prices or Prices()
    kind: PriceKind = "sheet" if prices.sheet is not None else "own" if prices.usd_per_gpu_hour is not None else "none"
    key = key_of("price-kind")
    st.session_state[key] = kind
    kinds = [each for each in PRICE_KINDS if each != "none" or kind == "none"]
    st.segmented_control(
        "Price of a GPU-hour", kinds, key=key, format_func=PRICE_KINDS.__getitem__, on_change=_chosen_kind, args=(scenario,)
    )  # fmt: skip
    if kind == "own":
        _own(prices)
    elif kind == "sheet":
        _sheet(prices, node_of(scenario).gpu)


def _length(scenario: Scenario, source: Source) -> None:
    """How much the first phase trains."""
    phase = scenario.phases[0]
    more = f" Of the first phase, {phase.name}, of {len(scenario.phases)}." if len(scenario.phases) > 1 else ""
    if phase.tokens is None:
        key = key_of("steps")
        st.session_state[key] = phase.steps
        st.number_input("Steps", 1, 999_999_999, key=key, on_change=_chosen_steps, help=f"Steps of the run.{more}")
        return
    key = key_of("tokens")
    st.session_state[key] = phase.tokens / GIGA
    st.number_input(
        "Tokens, in billions", 1 / GIGA, 100 * PETA / GIGA, key=key, step=100.0, format="%.6g", on_change=_chosen_tokens,
        help=f"Tokens of the run. Changing them simulates nothing.{more}",
    )  # fmt: skip


def _own(prices: Prices) -> None:
    key = key_of("price")
    st.session_state[key] = float(prices.usd_per_gpu_hour or 0.0)
    st.number_input(
        "USD a GPU-hour", 0.0, 1_000_000.0, key=key, step=0.1, format="%.2f", on_change=_chosen_price,
        help="What one GPU costs for one hour, host and network included; taken as exact.",
    )  # fmt: skip


def _sheet(prices: Prices, gpu: str) -> None:
    """The sheet, and which of its offers: of none that are wanted, all are."""
    names = [text_of(name) for name in choices.choices("prices.sheet") if name is not None]
    key = key_of("sheet")
    st.session_state[key] = prices.sheet
    st.selectbox("Sheet", names, key=key, on_change=_chosen_sheet, help="A dated price sheet of the catalogue.")
    entry = load_prices(str(prices.sheet)).entries.get(gpu)
    offers = entry.offers if entry is not None else ()
    if not offers and not prices.wanted:
        st.caption(f"This sheet has no single offers of {gpu}: its own price and range are taken.")
        return
    for column, (name, label) in zip(st.columns(len(WISHES)), WISHES.items(), strict=True):
        wish = getattr(prices, name)
        options = [ANY, *_of_offers(offers, name, prices.wanted)]
        st.session_state[key_of(name)] = wish or ANY
        column.selectbox(
            label, options if wish in (None, *options) else [*options, wish], key=key_of(name), on_change=_chosen_wish,
            args=(name,), help="Takes the sheet's offers that match: their median, and their ends as the range.",
        )  # fmt: skip


def _of_offers(offers: tuple[Offer, ...], name: str, wanted: Wanted) -> list[str]:
    """What is offered under one wish where the others are met."""
    others = {key: value for key, value in wanted.given.items() if key != name}
    matching = (offer for offer in offers if all(getattr(offer, key) == value for key, value in others.items()))
    return sorted({str(getattr(offer, name)) for offer in matching if getattr(offer, name) is not None})


def _chosen_tokens() -> None:
    found = st.session_state[key_of("tokens")]
    if found is not None:
        controls.choose("tokens", text_of(float(f"{found * GIGA:.12g}")))


def _chosen_steps() -> None:
    controls.choose("steps", text_of(st.session_state[key_of("steps")]))


def _chosen_price() -> None:
    controls.choose("price", text_of(float(f"{st.session_state[key_of('price')]:.9g}")))


def _chosen_sheet() -> None:
    state.change(price=None, provider=None, region=None, commitment=None)
    controls.choose("sheet", st.session_state[key_of("sheet")])


def _chosen_wish(name: str) -> None:
    found = st.session_state[key_of(name)]
    controls.choose(name, "null" if found == ANY else found)


def _chosen_kind(scenario: Scenario) -> None:
    """Another kind of price: the newest sheet that knows the GPU, or a price to begin with."""
    kind = st.session_state[key_of("price-kind")]
    state.change(price=None, sheet=None, provider=None, region=None, commitment=None)
    now = state.current().scenario
    prices = (now.prices if now is not None else None) or Prices()
    if kind == "own" and prices.usd_per_gpu_hour is None:
        controls.choose("price", text_of(USUAL_USD))
    elif kind == "sheet" and prices.sheet is None:
        names = [str(name) for name in choices.choices("prices.sheet") if name is not None]
        gpu = node_of(scenario).gpu
        knowing = [name for name in names if gpu in load_prices(name).entries]
        controls.choose("sheet", max(knowing or names, key=lambda name: load_prices(name).date))
