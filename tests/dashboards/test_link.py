"""The link says what differs, is read back to the same, and nothing in it does harm."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from urllib.parse import parse_qs, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards import state
from dashboards.keep import Keep
from dashboards.keys import BY_NAME, PAGE_KEYS, SCENARIO_KEYS
from dashboards.link import Asked, pack, read, unpack, write
from dashboards.source import UPLOADED, Source
from simulator.check import load_scenario
from tests.dashboards.pages import link_of, opened, texts

TEXT = "schema_version: 1\nextends: mixtral-8x22b\nname: mine\ndraws: 1\n"

VALID = {
    "node": "h100-x8", "gpus": "1024", "fabric": "ib-400g-rail", "stack": "h100-transfer", "tp": "2", "pp": "8", "vpp": "2",
    "ep": "32", "etp": "1", "zero": "2", "sp": "true", "schedule": "1f1b", "batch": "15360", "micro": "2", "seq": "4096",
    "recipe": "bf16", "recompute": "full", "balance": "learned", "nodes": "4", "tokens": "14800000000000.0", "price": "2.5",
    "sheet": "market-2025-03", "draws": "2", "seed": "7", "domain": "null", "hsdp": "8", "grad_every": "step",
    "overlap_ep": "pair", "overlap_pp": "true", "overlap_tp": "none", "optimizer": "adamw-bf16", "weight_cache": "per_step",
    "modules": "[rmsnorm, swiglu]", "remethod": "block", "relayers": "2", "drop": "probs", "pad": "true", "steps": "100",
    "ramp": "null", "ramp_from": "4096", "ramp_below": "gpipe", "provider": "lambda", "region": "us-east-1",
    "commitment": "1-year", "scaling": "delayed", "primary": "quantised", "casts": "transformer-engine-2025",
    "framework": "megatron-core@0.9", "attention": "fa3", "grouped_gemm": "loop", "power_cap": "650",
    "cp": "2", "cp_comm": "a2a", "dispatcher": "alltoall", "permute_fusion": "false",
    "issued_by": "eager", "graphs": "[attn, moe_router]", "host_sync": "none", "off_optimizer": "0.5",
    "off_activations": "0.25",
}  # fmt: skip


def nothing(key: str) -> str | None:
    return None


def one(**parameters: str) -> Mapping[str, Sequence[str]]:
    return {name: [text] for name, text in parameters.items()}


def browser(parameters: Mapping[str, str]) -> Mapping[str, Sequence[str]]:
    """Parameters after their way through an address."""
    return parse_qs(urlencode(parameters), keep_blank_values=True)


def test_an_empty_link_is_the_default_without_a_notice() -> None:
    assert read({}, nothing).asked == Asked()
    assert read({}, nothing).notice is None
    assert load_scenario(Asked().base) == Asked().source.load()


def test_every_key_of_the_scenario_is_read_and_written() -> None:
    assert set(VALID) | {"show"} >= {key.name for key in SCENARIO_KEYS} - {key.name for key in PAGE_KEYS}
    for name, text in VALID.items():
        found = read(one(preset="deepseek-v3", **{name: text}), nothing)
        assert found.notice is None, name
        assert read(browser(write(found.asked, str)), nothing).asked == found.asked
        (override,) = found.asked.source.overrides
        key = BY_NAME[name]
        assert override == f"{str(key.path).replace('{first}', 'pretrain')}={text}"
        assert not any(problem.field == "" for problem in found.asked.source.problems()), name


def test_a_change_reaches_the_scenario() -> None:
    asked = read(one(preset="deepseek-v3", pp="8", schedule="1f1b", tokens="1e12", draws="1"), nothing).asked
    scenario = asked.source.load()
    expected = load_scenario(
        "deepseek-v3", ["parallel.pp=8", "parallel.schedule=1f1b", "phases.pretrain.tokens=1e12", "draws=1"]
    )
    assert scenario == expected


def test_the_link_holds_only_what_differs() -> None:
    assert write(Asked(), str) == {"preset": "deepseek-v3"}
    assert write(Asked(values={"pp": "8"}), str) == {"preset": "deepseek-v3", "pp": "8"}


BAD_TEXTS = [
    "inf", "-inf", "nan", "1e999", "-1", "0x10", "1_000", "٣", "８", "9" * 400, "1" + "0" * 399, "1.5.5", "1e", "e5", "", " ",
    "8 ", "8\n", "+8", "<script>alert(1)</script>", "'; DROP TABLE x", "../../etc/passwd", "{}", "[1]", "null", "true8", "a=b",
    "\x00", "\ud83d".encode("utf-8", "replace").decode(), "𝟠", "deepseek-v3\u202e", "x" * 600_000, "%00", "{{7*7}}", "=1+1",
    "1e-400", "0.0000000000000000000001", "1e99", "99999999999999999999", "__import__('os')",
]  # fmt: skip


@pytest.mark.parametrize("name", [key.name for key in SCENARIO_KEYS])
def test_bad_texts_stand_for_the_default_with_one_notice(name: str) -> None:
    for text in BAD_TEXTS:
        found = read(one(preset="mixtral-8x22b", **{name: text}), nothing)
        value = found.asked.values.get(name)
        if value is None:
            assert found.asked.source == Source("mixtral-8x22b")
            assert found.notice is not None and name in found.notice
            assert len(found.notice) < 600 and "\n" not in found.notice
        else:  # a text that is one: some are within some key's bounds
            assert (value == "null" or float(value) >= 0) and not found.left_out


@pytest.mark.parametrize("text", BAD_TEXTS)
@pytest.mark.parametrize("name", ["preset", "text", "kept", "pinned", "from", "to", "second", "nonsense", "GPUS"])
def test_bad_texts_elsewhere_do_no_harm(name: str, text: str) -> None:
    found = read({name: [text]}, nothing)
    assert found.asked.source == Source("deepseek-v3")
    assert found.notice is None or len(found.notice) < 600


@pytest.mark.parametrize(
    ("name", "beyond"),
    [("gpus", "10000001"), ("gpus", "0"), ("price", "1000001"), ("tokens", "1e18"), ("tokens", "0.5"), ("pp", "1025")],
)
def test_values_beyond_their_bounds_are_left_out(name: str, beyond: str) -> None:
    found = read({name: [beyond]}, nothing)
    assert found.asked == Asked() and found.notice is not None and BY_NAME[name].allowed in found.notice


def test_repeated_keys_and_unknown_ones_are_left_out() -> None:
    found = read({"pp": ["8", "4"], "gpu": ["1024"], "ep": ["32"], "pq": ["1"]}, nothing)
    assert found.asked.values == {"ep": "32"}
    assert found.notice is not None
    assert "pp (given more than once)" in found.notice
    assert "gpu (unknown; did you mean gpus?)" in found.notice


def test_a_link_that_the_server_cut_is_said_to_be_too_long() -> None:
    found = read(one(overlong="1", pp="8"), nothing)
    assert found.asked == Asked(values={"pp": "8"})
    assert found.notice is not None and "longer than" in found.notice
    assert "overlong" not in write(found.asked, str)


def test_a_thousand_unknown_keys_are_one_short_notice() -> None:
    found = read({f"key{number}": ["1"] for number in range(1_000)}, nothing)
    assert found.notice is not None and len(found.notice) < 600
    assert "996 more" in found.notice


@given(
    st.dictionaries(
        st.sampled_from([*BY_NAME, "preset", "text", "kept", "pinned", "x"]), st.lists(st.text(max_size=30))
    )
)
def test_no_link_raises(parameters: dict[str, list[str]]) -> None:
    found = read(parameters, nothing)
    assert found.asked.source.key
    again = read(browser(write(found.asked, str)), nothing)
    assert again.asked == found.asked and again.notice is None


def test_an_uploaded_text_travels_in_the_link() -> None:
    asked = Asked(UPLOADED, TEXT, {"pp": "7"})
    parameters = write(asked, str)
    assert set(parameters) == {"text", "pp"}
    found = read(browser(parameters), nothing)
    assert found.asked == asked and found.notice is None
    assert found.asked.source.load().name == "mine"


def test_a_long_text_is_kept_on_the_server_and_said_to_be_gone_when_it_is() -> None:
    keep = Keep()
    text = TEXT + "".join(f"# {hash(str(number))}\n" for number in range(2_000))
    asked = Asked(UPLOADED, text)
    parameters = write(asked, keep.put)
    assert set(parameters) == {"kept"} and len(parameters["kept"]) == 32
    assert read(browser(parameters), keep.get).asked == asked
    gone = read(browser(parameters), nothing)
    assert gone.asked == Asked()
    assert gone.notice is not None and "upload it again" in gone.notice


def test_a_pinned_scenario_travels_with_its_changes() -> None:
    pinned = read(one(preset="mixtral-8x22b", pp="7", tokens="1e12"), nothing).asked.source
    asked = replace(Asked(values={"gpus": "1024"}), pinned=pinned)
    found = read(browser(write(asked, str)), nothing)
    assert found.asked == asked and found.notice is None
    of_text = replace(asked, pinned=Source(UPLOADED, TEXT, ("parallel.pp=7",)))
    assert read(browser(write(of_text, str)), nothing).asked == of_text


def test_what_is_packed_does_not_grow_without_bound() -> None:
    assert unpack(pack(TEXT)) == TEXT
    bomb = base64.urlsafe_b64encode(zlib.compress(b"a" * 50_000_000, 9)).decode().rstrip("=")
    assert unpack(bomb) is None
    for broken in ("", "abc", "====", pack(TEXT)[:-4], pack(TEXT) + pack(TEXT), "é" * 10):
        assert unpack(broken) is None


def test_kept_texts_are_bounded() -> None:
    keep = Keep(max_texts=2, max_characters=10)
    first, second = keep.put("aaaa"), keep.put("bbbb")
    assert keep.get(first) == "aaaa"
    third = keep.put("cc")
    assert (keep.get(first), keep.get(second), keep.get(third)) == ("aaaa", None, "cc")
    keep.put("d" * 9)
    assert keep.get(first) is None


# Whole pages


@pytest.mark.usefixtures("inline_jobs")
def test_a_page_with_a_bad_link_shows_the_default_and_one_notice() -> None:
    bad = {
        "gpus": "inf",
        "pp": "9" * 400,
        "schedule": "<script>alert(1)</script>",
        "x": "x" * 100_000,
        "price": "1e999",
    }
    page = opened("memory", preset="mixtral-8x22b", draws="1", **bad)
    assert not page.exception and not page.error
    assert len(page.warning) == 1
    assert link_of(page) == {"preset": "mixtral-8x22b", "draws": "1"}
    again = opened("memory", **link_of(page))
    assert not again.warning


@pytest.mark.usefixtures("inline_jobs")
def test_an_impossible_combination_is_explained_and_stays_in_the_link() -> None:
    page = opened("memory", preset="mixtral-8x22b", pp="9", draws="1")
    assert not page.exception
    assert "parallel" in texts(page) and "9" in texts(page)
    assert link_of(page) == {"preset": "mixtral-8x22b", "pp": "9", "draws": "1"}


@pytest.mark.usefixtures("inline_jobs")
def test_going_back_takes_the_link_over_and_a_link_that_lags_behind_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    page = opened("memory", preset="mixtral-8x22b", draws="1")
    page.query_params["draws"] = "2"
    assert link_of(page.run())["draws"] == "1"
    page.query_params["draws"] = "2"
    monkeypatch.setattr(state, "is_history_navigation", lambda: True)
    assert link_of(page.run())["draws"] == "2"


def test_an_uploaded_scenario_reads_no_file_of_the_server() -> None:
    for text in (
        "schema_version: 1\nextends: ../presets/deepseek-v3.yaml\n",
        "schema_version: 1\nextends: deepseek-v3\nmodel: ./models/mixtral-8x22b.yaml\n",
        "schema_version: 1\nextends: deepseek-v3\nmodel: /etc/hostname\n",
        "schema_version: 1\nextends: deepseek-v3\nstack: ../../secret\n",
        "schema_version: 1\nextends: deepseek-v3\ncluster: {node: ../x, num_gpus: 8}\n",
        "schema_version: 1\nextends: deepseek-v3\nprices: {sheet: ../x}\n",
    ):
        (problem,) = {problem.field: problem for problem in Source(UPLOADED, text).problems()}.values()
        assert problem.field in ("extends", "model", "stack", "cluster.node", "prices.sheet")
        assert problem.where.startswith(UPLOADED)
    assert Source("../x.yaml").problems() and Source("deepseek-v3", None, ("model=./x.yaml",)).problems()
