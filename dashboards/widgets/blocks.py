"""Blocks of the report's page inside a page of the dashboard: the same texts, tables and pictures."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboards.widgets.figure import figure, mode
from dashboards.widgets.problems import as_text
from dashboards.widgets.table import table
from simulator.report.html.blocks import Block, Card, Cards, Chart, Folded, Items, Table, Words
from simulator.report.html.charts import figure_of


def show_block(block: Block) -> None:
    """Lay a block out."""
    if isinstance(block, Words):
        if block.tone == "warning":
            st.warning(as_text(block.text))
        elif block.tone:
            st.caption(as_text(block.text))
        else:
            st.markdown(as_text(block.text))
    elif isinstance(block, Items):
        st.markdown("\n".join(f"- {as_text(text)}" for text in block.texts))
    elif isinstance(block, Table):
        _table(block)
    elif isinstance(block, Chart):
        st.markdown(f"**{as_text(block.caption)}**")
        figure(figure_of(block, mode()), block.alt, f"preview-{block.key}")
    elif isinstance(block, Folded):
        with st.expander(as_text(block.summary)):
            for inner in block.blocks:
                show_block(inner)
    elif isinstance(block, Cards):
        _cards(block)


def _table(block: Table) -> None:
    """Texts as they are; a column without a header has a name of blanks, as a frame's columns differ."""
    names = [header or " " * (place + 1) for place, header in enumerate(block.headers)]
    st.markdown(f"**{as_text(block.caption)}**")
    table(pd.DataFrame(list(block.rows), columns=names), f"preview-{block.caption}")


def _cards(block: Cards) -> None:
    narrow = [card for card in block.cards if not card.is_wide]
    for column, card in zip(st.columns(len(narrow)), narrow, strict=True):
        with column, st.container(border=True, height="stretch"):
            _card(card)
    for card in block.cards:
        if card.is_wide:
            with st.container(border=True):
                _card(card)


def _card(card: Card) -> None:
    st.caption(as_text(card.label))
    if card.value:
        st.markdown(f"#### {as_text(f'{card.sign} {card.value}'.strip())}")
    if card.range:
        st.markdown(as_text(card.range))
    marks = "\n".join(f"{place}. {as_text(note)}" for place, note in enumerate(card.notes, start=1))
    if card.is_wide:
        st.markdown(marks)
    elif card.notes:
        st.caption("  \n".join(map(as_text, card.notes)))
