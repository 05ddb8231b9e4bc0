"""The script that Streamlit runs for every browser tab: page settings, navigation, the link. Pages are in views/."""

from __future__ import annotations

import streamlit as st

from dashboards import jobs, state
from dashboards.views import PAGES
from dashboards.widgets.problems import as_text, show_notice
from simulator.report.scenario_line import scenario_line


def main() -> None:
    """Show the page that is asked for, and put what it shows into the link."""
    st.set_page_config(page_title="moesim", page_icon="⏱️", layout="wide")
    jobs.new_run()
    state.follow_link()
    pages = [
        st.Page(page.show, title=page.title, icon=page.icon, url_path=page.slug, default=page is PAGES[0])
        for page in PAGES
    ]
    chosen = st.navigation(pages, position="top")
    if (notice := state.notice()) is not None:
        show_notice(notice)
    _show_scenario()
    chosen.run()
    state.write_link()
    jobs.end_run()


def _show_scenario() -> None:
    """Say over every page which scenario it is of."""
    scenario = state.current().scenario
    if scenario is not None:
        st.caption(as_text(scenario_line(scenario)))


main()
