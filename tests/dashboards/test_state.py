"""What a tab asks for: changed by controls, kept by the link, explained where it is impossible."""

from __future__ import annotations

from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dashboards import jobs
from dashboards.pool import Job
from dashboards.worker import Failure
from simulator.errors import Problem
from tests.dashboards.inline import Inline
from tests.dashboards.pages import link_of, opened, texts

pytestmark = pytest.mark.usefixtures("inline_jobs")

TEXT = "schema_version: 1\nextends: mixtral-8x22b\nname: mine\ndraws: 1\n"


def script() -> None:
    """A page whose buttons call the functions that controls call."""
    import streamlit as st

    from dashboards import state

    text = "schema_version: 1\nextends: mixtral-8x22b\nname: mine\ndraws: 1\n"
    long = text + "".join(f"# {number * 7919 % 65537:x}\n" for number in range(3_000))
    state.follow_link()
    st.button("pp", on_click=state.change, kwargs={"pp": "7", "price": "2"})
    st.button("back", on_click=state.change, kwargs={"pp": None})
    st.button("start", on_click=state.start, args=("llama-3.1-70b",))
    st.button("upload", on_click=state.upload, args=(text,))
    st.button("long", on_click=state.upload, args=(long,))
    st.button("pin", on_click=state.pin)
    st.button("unpin", on_click=state.unpin)
    st.button("range", on_click=state.set_page, kwargs={"from": "0.5", "to": "1.5"})
    st.button("whole", on_click=state.set_page, kwargs={"from": None})
    asked = state.current()
    st.write(asked.scenario.name if asked.scenario else "impossible")
    st.write(asked.source.overrides)
    st.write(repr(asked.pinned))
    st.write(f"on the server: {state.is_kept_on_server()}")
    st.write(f"from {state.page('from')} pp {state.value('pp')}")
    state.write_link()


def page() -> AppTest:
    test = AppTest.from_function(script, default_timeout=60)
    test.query_params["preset"] = "mixtral-8x22b"
    return test.run()


def click(test: AppTest, label: str) -> AppTest:
    next(button for button in test.button if button.label == label).click()
    test.run()
    assert not test.exception
    return test


def test_controls_change_the_link_and_take_changes_back() -> None:
    test = click(page(), "pp")
    assert link_of(test) == {"preset": "mixtral-8x22b", "pp": "7", "price": "2.0"}
    assert "pp 7" in texts(test)
    assert link_of(click(test, "back")) == {"preset": "mixtral-8x22b", "price": "2.0"}
    assert link_of(click(test, "start")) == {"preset": "llama-3.1-70b"}


def test_a_reloaded_link_asks_for_the_same() -> None:
    test = click(click(click(page(), "pp"), "pin"), "range")
    again = AppTest.from_function(script, default_timeout=60)
    again.query_params.update(link_of(test))
    again.run()
    assert link_of(again) == link_of(test)
    assert texts(again) == texts(test)


def test_what_is_pinned_stays_while_the_scenario_changes() -> None:
    test = click(click(page(), "pin"), "pp")
    assert link_of(test)["pinned"] == "preset=mixtral-8x22b"
    assert "Source(base='mixtral-8x22b', text=None, overrides=())" in texts(test)
    assert "pinned" not in link_of(click(test, "unpin"))


def test_a_page_keeps_its_own_values_and_gives_them_back() -> None:
    test = click(page(), "range")
    assert (link_of(test)["from"], link_of(test)["to"]) == ("0.5", "1.5")
    assert "from 0.5" in texts(test)
    assert "from" not in link_of(click(test, "whole"))


def test_a_short_upload_is_in_the_link_and_a_long_one_on_the_server() -> None:
    test = click(page(), "upload")
    assert set(link_of(test)) == {"text"} and "mine" in texts(test) and "on the server: False" in texts(test)
    click(test, "long")
    assert set(link_of(test)) == {"kept"} and "mine" in texts(test) and "on the server: True" in texts(test)


def test_what_no_link_can_say_is_the_programmers_error() -> None:
    def wrong() -> None:
        import streamlit as st

        from dashboards import state

        for name, text in (("pp", "inf"), ("pq", "1"), ("price", "-1")):
            try:
                state.change(**{name: text})
            except ValueError as error:
                st.write(f"refused {error}")

    assert texts(AppTest.from_function(wrong).run()).count("refused") == 3


# Waiting for jobs


class Fixed(Inline):
    """Hands out one job as it is."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.job = job

    def ask(self, key: str, function: str, arguments: tuple[Any, ...], later: bool, session: str) -> Job:
        return self.job


def waiting() -> None:
    import streamlit as st

    from dashboards import jobs
    from dashboards.widgets.waiting import value_of

    value = value_of(jobs.of(len, "abc"), "Counting [letters]")
    st.write(f"value {value}")


def shown(job: Job) -> AppTest:
    jobs.install(Fixed(job))
    test = AppTest.from_function(waiting, default_timeout=20).run()
    assert not test.exception
    return test


def test_a_value_that_is_there_is_shown() -> None:
    job = Job("key", "f", (), False, 0, state="done", value=3)
    job.done.set()
    assert texts(shown(job)) == "value 3"


def test_work_in_progress_says_how_far_it_is() -> None:
    job = Job("key", "f", (), False, 0, state="running", progress=0.5, words="2 of 4")
    test = shown(job)
    assert texts(test) == "value None"
    assert "2 of 4" in str(test.get("progress")[0].proto) and "50" in str(test.get("progress")[0].proto)
    assert "turn" in str(shown(Job("key", "f", (), False, 0)).get("progress")[0].proto)


def test_a_failure_is_shown_in_words_and_can_be_tried_again() -> None:
    error = Failure((Problem("", "parallel.pp", "is *bad* <b>"),), is_input=True)
    job = Job("key", "f", (), False, 0, state="failed", error=error)
    job.done.set()
    test = shown(job)
    assert r"parallel\.pp" in texts(test) and r"\*bad\* \<b\>" in texts(test)
    assert not test.button
    job.error = Failure((Problem("", "", "the process ended"),), is_input=False)
    assert [button.label for button in shown(job).button] == ["Try again"]


def test_the_router_keeps_what_changed_from_page_to_page() -> None:
    for slug in ("memory", "accuracy"):
        assert link_of(opened(slug, preset="mixtral-8x22b", draws="1", price="3"))["price"] == "3.0"
