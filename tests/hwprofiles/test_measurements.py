"""Law: what the catalogue says of a measurement follows from the file of it that is committed here."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path
from statistics import mean

import pytest

import hwprofiles
from hwprofiles.catalog import load_gpu
from hwprofiles.power.constants import power_constants
from hwprofiles.provenance import Source
from hwprofiles.stack_choice import load_stack
from hwprofiles.units import PICO, TERA
from hwprofiles.yaml_file import read_yaml

FOLDER = Path(hwprofiles.__file__).parent / "measurements"
PARTITION = FOLDER / "h100-sm-partition-2026-11-24.csv"
STACK = "h800-deepseek-2024"
HEADS = {"fprop": ["alone_again_s"], "dgrad": ["alone_s", "alone_again_s"], "wgrad": ["alone_s", "alone_again_s"]}
"""Columns of runs 1 and 2 whose mean is the head's GEMM; the first of a process is twice as slow and left out."""

Row = dict[str, str]


def rows_of(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def ratios(prefix: str, run: str = "") -> list[float]:
    return [
        float(row["ratio_20"])
        for row in rows_of(PARTITION)
        if row["name"].startswith(prefix) and row["ratio_20"] and run in ("", row["run"])
    ]


def span(values: list[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"


def test_every_file_has_its_provenance() -> None:
    names = {path.stem for path in FOLDER.glob("*.csv")}
    assert PARTITION.stem in names
    for name in names:
        assert Source.model_validate(read_yaml(FOLDER / f"{name}.yaml").data["source"]).kind == "measurement"


def test_ratios_are_quotients_of_the_times() -> None:
    measured = [row for row in rows_of(PARTITION) if row["ratio_20"]]
    assert len(measured) == 2 * 23
    for row in measured:
        alone_s = min(float(row["alone_s"]), float(row["alone_again_s"]))
        assert float(row["ratio_20"]) == pytest.approx(alone_s / float(row["beside_20_s"]), abs=1e-4)


def test_work_of_gemms_is_two_flop_a_multiply_add() -> None:
    for row in rows_of(PARTITION):
        if row["m"]:
            assert float(row["flop"]) == 2.0 * int(row["m"]) * int(row["n"]) * int(row["k"])


def test_no_kernel_is_faster_than_the_datasheet() -> None:
    gpu = load_gpu("h100")
    for row in rows_of(PARTITION):
        dtype = "fp8" if "fp8" in row["name"] else "bf16"
        floor_s = float(row["flop"] or 0) / gpu.peak_flop_per_s[dtype] + float(row["bytes"] or 0) / gpu.hbm_bytes_per_s
        assert float(row["alone_s"]) > floor_s


@pytest.mark.parametrize("variant", HEADS)
def test_head_rows_are_the_means_of_the_measured_medians(variant: str) -> None:
    kernels = rows_of(FOLDER.parent / "stacks" / STACK / "kernels.csv")
    (row,) = [row for row in kernels if PARTITION.name in row["source"] and row["variant"] == variant]
    medians = [
        float(measured[column])
        for measured in rows_of(PARTITION)
        if measured["name"] == f"head_{variant}" and measured["run"] in ("1", "2")
        for column in HEADS[variant]
    ]
    hot = re.search(r"slow-down of ([0-9.]+):", row["note"])
    clock = float(hot[1]) if hot else 1.0
    for column, value in (("seconds", mean(medians)), ("low", min(medians)), ("high", max(medians))):
        assert float(row[column]) == pytest.approx(value / clock, rel=1e-3)


def optimizer_rate() -> str:
    row = next(row for row in rows_of(PARTITION) if row["run"] == "2" and row["name"].startswith("adamw"))
    return f"{float(row['bytes']) / float(row['alone_s']) / TERA:.1f} TB/s"


CLAIMS: dict[str, Callable[[], list[str]]] = {
    "overlap.attention.ratio": lambda: [
        f"run {run}: forward {span(ratios('attn_fwd', run))}, backward {span(ratios('attn_bwd', run))}" for run in "23"
    ],
    "overlap.memory.ratio": lambda: [span([r for name in ("copy", "add", "rms", "transpose") for r in ratios(name)])],
    "memory.adamw": lambda: [optimizer_rate()],
}
"""What the note of a parameter that names the file has to say."""


def test_claims_are_what_the_file_says() -> None:
    said = {key: claim() for key, claim in CLAIMS.items()}
    assert said == {
        "overlap.attention.ratio": [
            "run 2: forward 0.81 to 0.88, backward 0.87 to 0.92",
            "run 3: forward 0.86 to 0.90, backward 0.87 to 0.95",
        ],
        "overlap.memory.ratio": ["0.99 to 1.00"],
        "memory.adamw": ["3.0 TB/s"],
    }


def test_notes_of_parameters_that_name_the_file_follow_from_it() -> None:
    parameters = load_stack(STACK).parameters
    named = {key: each for key, each in parameters.items() if PARTITION.name in each.source.where}
    assert named.keys() == CLAIMS.keys()
    for key, parameter in named.items():
        assert all(text in parameter.source.note for text in CLAIMS[key]())


MODEL_STEPS = [FOLDER / f"{gpu}-model-step-2026-11-27.csv" for gpu in ("h100", "h200")]
MODEL_PRODUCTS = FOLDER / "h200-model-products-2026-11-27.csv"
EXPERT_PARALLEL = FOLDER / "h200x4-expert-parallel-2026-11-27.csv"


@pytest.mark.parametrize("path", MODEL_STEPS, ids=lambda path: path.stem)
def test_a_measured_step_holds_its_parts(path: Path) -> None:
    """Three attentions, a dense network and two with experts stand in it, each at most as long as alone."""
    rows = {(row["recipe"], row["part"]): row for row in rows_of(path)}
    recipes = {recipe for recipe, _ in rows}
    assert recipes == {"bf16", "fp8-blockwise", "fp8-row"}
    for recipe in recipes:
        for way in ("forward", "backward"):
            of = {
                part: float(rows[recipe, part][f"{way}_s"])
                for part in ("step", "attention", "dense_ffn", "moe_ffn", "moe_layer")
            }
            assert of["step"] > 0.9 * (3 * of["attention"] + of["dense_ffn"] + 2 * of["moe_ffn"])
            assert of["moe_layer"] > 0.9 * (of["attention"] + of["moe_ffn"])
    for row in rows.values():
        for way in ("forward", "backward"):
            assert float(row[f"{way}_low_s"]) <= float(row[f"{way}_s"]) <= float(row[f"{way}_high_s"])


def test_measured_products_are_counted_and_slower_than_the_datasheet() -> None:
    peak = load_gpu("h200").peak_flop_per_s
    for row in rows_of(MODEL_PRODUCTS):
        flop = 2 * int(row["rows"]) * int(row["n"]) * int(row["k"])
        assert (int(row["forward_flop"]), int(row["backward_flop"])) == (flop, 2 * flop)
        rate = peak["bf16" if row["recipe"] == "bf16" else "fp8"]
        assert float(row["forward_s"]) > flop / rate and float(row["backward_s"]) > 2 * flop / rate
        parts = [float(row[f"{part}_s"]) for part in ("operand", "fprop")] if row["fprop_s"] else []
        assert float(row["forward_s"]) > 0.6 * sum(parts)


def test_bytes_of_a_measured_dispatch_are_copies_that_left() -> None:
    """BF16 at hidden size 7,168 and 8 FP32 weights beside them. Of evenly drawn experts each place has an equal share of the
    copies, and a rank's own share does not leave it.
    """
    rows = [row for row in rows_of(EXPERT_PARALLEL) if row["wire"] == "bf16" and row["what"] == "transfers"]
    assert {row["ranks_per_node"] for row in rows} == {"1", "2", "4"}
    for row in rows:
        one = 2 * 7168 + 8 * 4
        sent = int(row["dispatch_across_bytes"] or 0) + int(row["dispatch_inside_bytes"] or 0)
        assert sent % one == 0
        legs = [("node_copies", 4 // int(row["ranks_per_node"])), ("rank_copies", int(row["ranks_per_node"]))]
        away = sum(int(row[copies]) * (places - 1) / places for copies, places in legs)
        assert sent / one == pytest.approx(away, rel=0.01)


CONTEXT_PARALLEL = FOLDER / "h200x4-context-parallel-2026-11-27.csv"


def test_attention_over_a_cut_sequence_is_its_calls_and_what_is_not_hidden() -> None:
    """Never faster than its attention calls; a2a exposes its messages, a ring hides them where the calls are long."""
    rows = rows_of(CONTEXT_PARALLEL)
    wholes = [row for row in rows if row["part"] == "whole"]
    assert {row["name"] for row in wholes} == {"a2a", "all_gather", "ring"}
    for row in wholes:
        of = {
            (each["part"], each["name"]): each
            for each in rows
            if all(each[key] == row[key] for key in ("heads", "tokens", "ranks"))
        }
        ranks = int(row["ranks"])
        calls = {
            "a2a": [("a2a", 1)],
            "all_gather": [("all_gather_front", 1), ("all_gather_back", 1)],
            "ring": [("ring_first", 1), ("ring_half_keys", ranks - 1)],
        }[row["name"]]
        for way in ("forward_s", "backward_s"):
            core_s = sum(times * float(of["core", name][way]) for name, times in calls)
            assert float(row[way]) > 0.97 * core_s
            if int(row["tokens"]) >= 65_536:
                assert float(row[way]) < 1.12 * core_s
        if row["name"] == "a2a":
            sent_s = sum(
                times * float(of["message", name]["forward_s"])
                for name, times in (("q_to_heads", 1), ("k_to_heads", 2), ("o_to_tokens", 1))
            )
            assert float(row["forward_s"]) > 0.85 * (float(of["core", "a2a"]["forward_s"]) + sent_s * 0.6)
        assert row["error"] == "" or float(row["error"]) < 0.01


TOGETHER = FOLDER / "h200x4-together-2026-11-27.csv"


def test_two_messages_on_a_host_s_links_share_them() -> None:
    """Neither is faster than alone, and together they send hardly more than one alone can."""
    rows = rows_of(TOGETHER)
    alone = {row["first"]: row for row in rows if not row["second"]}
    most = max(float(row["first_sent_bytes"]) / float(row["first_s"]) for row in alone.values())
    for row in rows:
        if row["second"]:
            rates = [float(row[f"{one}_sent_bytes"]) / float(row[f"{one}_s"]) for one in ("first", "second")]
            assert sum(rates) < 1.1 * most
            assert all(float(row[f"{one}_s"]) > float(alone[row[one]]["first_s"]) for one in ("first", "second"))


BESIDE_POWER = FOLDER / "h200x4-beside-power-2026-11-27.csv"


def test_messages_beside_kernels_cost_them_what_the_note_says() -> None:
    """Seconds of kernels lost for a second's worth of messages: (1 - kernels' share of their speed) / messages' share."""
    rows = {(row["kernels"], row["messages"]): row for row in rows_of(BESIDE_POWER)}
    lost = {}
    for (kernels, messages), row in rows.items():
        if "none" not in (kernels, messages):
            rate = "bytes_per_s" if kernels == "copy" else "flop_per_s"
            kept = float(row[rate]) / float(rows[kernels, "none"][rate])
            got = float(row["sent_bytes_per_s"]) / float(rows["none", messages]["sent_bytes_per_s"])
            assert kept < 1 and got < 1 and kept + got > 1.15
            lost[kernels, messages] = (1 - kept) / got
    assert all(0.53 < lost["gemm", kind] < 0.585 for kind in ("all_gather", "reduce_scatter", "all_to_all"))
    assert all(0.4 < each < 0.6 for each in lost.values())


def test_watts_of_messages_alone_and_beside_a_gemm() -> None:
    """link.pj_per_byte is their mean above a chip that waits; a GEMM beside messages then draws what was measured, within 8 %.

    Its FLOP cost as much more than alone as the clock is higher, to the power beta.
    """
    gpu = load_gpu("h200")
    constants, rows = power_constants(load_stack("h200-public"), gpu), rows_of(BESIDE_POWER)
    chip = constants.chip(gpu.tdp_w)
    found = {(row["kernels"], row["messages"]): {key: float(row[key]) for key in list(row)[2:]} for row in rows}
    kinds = ("all_gather", "reduce_scatter", "all_to_all")
    each = [
        (found["none", kind]["watts"] - chip.p0_w) / found["none", kind]["sent_bytes_per_s"] / PICO for kind in kinds
    ]
    given = constants.by_key["link.pj_per_byte"]
    assert (given.value, given.low, given.high) == pytest.approx((mean(each), min(each), max(each)), rel=0.01)
    for kind in kinds:
        row, speed = found["gemm", kind], found["gemm", kind]["sm_mhz"] / found["gemm", "none"]["sm_mhz"]
        flop_j = constants.value("gemm.bf16.pj_per_flop") * PICO * row["flop_per_s"] * speed**chip.beta
        watts = chip.p0_w + flop_j + constants.byte_j(row["bytes_per_s"]) + constants.sent_j(row["sent_bytes_per_s"])
        assert watts == pytest.approx(row["watts"], rel=0.08)


def steady(load: str, idle_s: float) -> dict[tuple[float, float], float]:
    """Span → seconds of arithmetic of a pass."""
    return {
        (float(row["from_s"]), float(row["to_s"])): float(row["gemm_s"]) + float(row["attention_s"])
        for row in rows_of(FOLDER / "h100-steady-power-2026-11-27.csv")
        if row["load"] == load and float(row["idle_s"]) == idle_s
    }


def test_a_chip_below_its_limit_is_slower_than_in_its_first_moments_by_what_the_constants_say() -> None:
    """Loads that wait 0.03 and 0.1 s a fifth of the time draw less than the limit."""
    constants = power_constants(load_stack("h100-public"), load_gpu("h100"))
    warm = constants.by_key["warm_speed"]
    for idle_s in (0.03, 0.1):
        times = steady("interrupted", idle_s)
        assert warm.low <= times[0.0, 0.05] / times[0.0, 4 * idle_s] <= warm.high


def test_the_limiter_acts_once_a_load_is_longer_than_its_window_and_long_waits_give_nothing_back() -> None:
    window = power_constants(load_stack("h100-public"), load_gpu("h100")).by_key["window_s"]
    full = steady("full", 0.0)[3.0, 10.0]
    for idle_s in (0.3, 1.0, 3.0):
        times = steady("interrupted", idle_s)
        assert times[0.4, 0.8] < 1.01 * times[0.1, 0.4]
        assert times[0.8, 1.6] > 1.02 * times[0.4, 0.8]
    assert window.low < 0.4 and window.high < 1.6
    assert steady("interrupted", 3.0)[0.0, 12.0] == pytest.approx(full, rel=0.005)
    assert steady("interrupted", 0.1)[0.0, 0.4] < 0.97 * full
