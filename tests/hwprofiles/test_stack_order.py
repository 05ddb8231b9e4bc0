"""Which stack serves a GPU that is not told one, and what validation may leave out of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hwprofiles import catalog, transfer
from hwprofiles.catalog import CatalogError, list_names, load_gpu
from hwprofiles.efficiencies import Efficiencies, load_efficiencies
from hwprofiles.kernels.shape import KernelShape
from hwprofiles.kernels.table import kernel_seconds
from hwprofiles.leave_out import NOTHING, LeftOut
from hwprofiles.same_chip import datasheet_distance, equal_chips, is_same_chip
from hwprofiles.stack_choice import (
    STACK_KINDS,
    default_stack,
    has_public,
    like_for_like,
    load_stack,
    stack_kind,
    stack_names,
    stack_provenance,
)
from hwprofiles.stack_records import Stack
from hwprofiles.transfer import CLASSES
from tests.hwprofiles.conftest import forget
from tests.hwprofiles.test_transfer import SHAPES, can_run

GPUS = list_names("gpus")
MEASURED_ON = sorted({group.gpu for group in load_efficiencies().groups if group.gpu})
KERNELS_ON = {group.gpu for group in load_efficiencies().groups if not group.prefix.startswith(("power", "sustained"))}
PAIRS = [(a, b) for a in GPUS for b in GPUS if a < b and is_same_chip(load_gpu(a), load_gpu(b))]


def left(gpus: str = "", sources: str = "", families: str = "") -> LeftOut:
    return LeftOut(frozenset(gpus.split()), frozenset(sources.split()), frozenset(families.split()))


def values(stack: Stack) -> dict[str, tuple[Any, ...]]:
    return {key: (p.value, p.low, p.high, p.basis, p.unit, p.source) for key, p in stack.parameters.items()}


def folder(root: Path, name: str, gpu: str, is_default: str) -> None:
    (root / "stacks" / name).mkdir(parents=True)
    (root / "stacks" / name / "provenance.yaml").write_text(
        f"gpu: {gpu}\ndescription: d\nsoftware: s\nstate: first_launches\nis_default: {is_default}\n"
        "sources: {bench: {kind: measurement, where: here}}\n"
    )


def test_the_order_is_marked_then_measured_then_public_then_transfer(
    own_catalogue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (own_catalogue / "stacks").unlink()
    group = {"prefix": "memory", "gpu": "h200", "source": "s", "values": {"default": (0.5, 0.5, 0.5)}}
    table = Efficiencies.model_validate({
        "families": ("hopper",), "other_gpu_residual": (1.0, 1.0, 1.0), "other_family_residual": (1.0, 1.0, 1.0),
        "sources": {"s": {"kind": "measurement", "where": "w"}}, "groups": (group,),
    })  # fmt: skip
    monkeypatch.setattr(transfer, "load_efficiencies", lambda: table)
    found = []
    for step in (
        lambda: None,
        lambda: folder(own_catalogue, "h200-lab", "h200", "false"),
        lambda: folder(own_catalogue, "h200-measured", "h200", "false"),
        lambda: folder(own_catalogue, "h200-best", "h200", "true"),
    ):
        step()
        forget()
        found.append(default_stack("h200"))
    assert found == ["h200-public", "h200-public", "h200-measured", "h200-best"]
    assert default_stack("b200") == "b200-transfer" and "b200-public" not in stack_names()
    assert [stack_kind(name) for name in found] == ["public", "public", "measured", "measured"]
    assert default_stack("h200", left(sources="bench")) == "h200-public"
    assert default_stack("h200", left("h200")) == "h200-transfer"
    forget()


@pytest.mark.parametrize("gpu", GPUS)
def test_the_catalogue_s_defaults_follow_the_order(gpu: str) -> None:
    marked = [name for name in catalog.measured_stacks() if catalog.read_provenance(name).is_default]
    own = [name for name in marked if catalog.read_provenance(name).gpu == gpu]
    is_public = bool(equal_chips(gpu) & KERNELS_ON)
    assert has_public(gpu) == is_public
    measured = [name for name in catalog.measured_stacks() if name == f"{gpu}-measured"]
    expected = next(iter([*own, *measured]), f"{gpu}-public" if is_public else f"{gpu}-transfer")
    assert default_stack(gpu) == default_stack(gpu, NOTHING) == expected


def test_h100_and_h800_are_one_chip_and_their_neighbours_are_not() -> None:
    assert equal_chips("h100") == equal_chips("h800") == {"h100", "h800"}
    for gpu in ("h200", "h20", "b200", "gb200", "b300", "gb300", "a100", "a100-40gb"):
        assert equal_chips(gpu) == {gpu}
    h100 = load_gpu("h100")
    for key in ("num_sms", "hbm_bytes_per_s", "l2_bytes", "boost_clock_hz", "tdp_w"):
        other = h100.model_copy(update={key: 2 * getattr(h100, key)})
        assert not is_same_chip(h100, other), key
    assert is_same_chip(h100, h100.model_copy(update={"hbm_bytes": 2 * h100.hbm_bytes}))
    assert datasheet_distance(load_gpu("h100"), load_gpu("h800")) == 0.0
    assert datasheet_distance(load_gpu("h100"), load_gpu("h200")) < datasheet_distance(
        load_gpu("h100"), load_gpu("h20")
    )


@pytest.mark.parametrize(("gpu", "twin"), PAIRS)
@pytest.mark.parametrize("made", ["public", "transfer"])
def test_equal_datasheets_get_equal_answers(gpu: str, twin: str, made: str) -> None:
    """Kernels in seconds, links in shares of their own rate, with the same ranges, bases and sources."""
    one, other = load_stack(f"{gpu}-{made}"), load_stack(f"{twin}-{made}")
    assert values(one) == values(other)
    for shape in SHAPES:
        if can_run(shape, gpu):
            costs = [kernel_seconds(shape, stack, load_gpu(stack.gpu), "alone") for stack in (one, other)]
            assert costs[0] == costs[1]


def test_there_is_a_pair_to_try() -> None:
    assert ("h100", "h800") in PAIRS


@pytest.mark.parametrize("gpu", sorted(gpu for gpu in KERNELS_ON if gpu))
def test_a_public_stack_prefers_its_own_to_a_neighbour_s(gpu: str) -> None:
    """Whatever was measured on the GPU or an equal chip is all that its key takes, and is no transfer."""
    table, chips = load_efficiencies(), equal_chips(gpu)
    family = load_gpu(gpu).family
    own = {
        f"{group.prefix}.{name}".lstrip(".")
        for group in table.groups
        for name in group.values
        if group.gpu in chips and (not group.only_families or family in group.only_families)
    }
    checked = 0
    for key, parameter in load_stack(f"{gpu}-public").parameters.items():
        told = parameter.source.where.removeprefix("reached on ").partition(":")[0].split(" and ")
        is_own = key in own or key.replace("_bytes_per_s", "_bytes_per_flop") in own
        checked += is_own
        if is_own:  # a stated share is no fit of anybody's
            assert parameter.basis == ("assumed" if parameter.source.kind == "assumed" else "interpolated"), key
        else:
            assert parameter.basis != "interpolated", key
        assert not is_own or set(told) <= chips, key
    assert checked > 0


@pytest.mark.parametrize("gpu", MEASURED_ON)
def test_what_is_left_out_serves_nobody(gpu: str) -> None:
    chips = equal_chips(gpu)
    without = left(gpu)
    for name in sorted(chips):
        assert default_stack(name, without) == f"{name}-transfer"
    for name in GPUS:
        for parameter in load_stack(f"{name}-transfer", without).parameters.values():
            where, _, _ = parameter.source.where.partition(":")
            assert not where.startswith("reached on ") or not chips & set(where[11:].split(" and "))
    assert f"left out: GPU {gpu}" in load_stack(f"{gpu}-transfer", without).description


def test_sources_and_families_can_be_left_out_too() -> None:
    trace = left(sources="trace")
    where = load_efficiencies().sources["trace"].where
    assert any(where in parameter.source.where for parameter in load_stack("h100-public").parameters.values())
    assert not [p for p in load_stack("h100-public", trace).parameters.values() if where in p.source.where]
    assert default_stack("h800", trace) == "h800-public", "the stack of the training trace rests on it"
    blackwell = load_stack("b200-transfer", left(families="blackwell"))
    assert "reached on h" in blackwell.parameters["gemm.bf16.eta"].source.where
    assert "no GEMM was measured on a GPU of the family blackwell" in blackwell.provenance.caveat
    assert default_stack("h800", left(families="hopper")) == "h800-transfer"
    nothing = load_stack("a100-transfer", left(families="ampere hopper blackwell cdna3 cdna4"))
    keys = set(nothing.parameters)
    for link in ("nvlink", "nic"):
        assert {f"link.{link}.{op}" for op in ("all_to_all", "ring", "p2p")} <= keys, "bounds of no GPU stay"
    assert "gemm.bf16.eta" not in nothing.parameters and nothing.provenance.caveat == ""


def test_nothing_left_out_is_the_usual_stack_and_a_left_out_one_is_another() -> None:
    assert not NOTHING and load_stack("h100-public", LeftOut()).sha256 == load_stack("h100-public").sha256
    assert load_stack("h100-public", left("h200")).sha256 != load_stack("h100-public").sha256
    assert str(left("b h", "z", "f")) == "GPU b, h; source z; family f"


def test_a_measured_stack_that_is_left_out_is_refused_with_the_remedy() -> None:
    for without in (left("h800"), left("h100"), left(sources="deepep"), left(families="hopper")):
        with pytest.raises(CatalogError, match=r"h800-deepseek-2024 rests on what is left out .*; use .*h800-transfer"):
            load_stack("h800-deepseek-2024", without)
    assert load_stack("h800-deepseek-2024", left("b200")) == load_stack("h800-deepseek-2024")


def test_a_gpu_of_which_nothing_is_public_says_what_to_take() -> None:
    with pytest.raises(CatalogError, match=r"nothing public was measured on h20: .* use h20-transfer"):
        load_stack("h20-public")


def test_a_description_says_what_the_own_measurements_are_of() -> None:
    assert stack_provenance("b200-public").description.startswith("public measurements on b200: GEMM, attention, ")
    assert "on h100 and h800: GEMM" in stack_provenance("h800-public").description
    first = {group.prefix.partition(".")[0] for group in load_efficiencies().groups}
    assert first <= CLASSES.keys(), "each has a word"
    assert list(STACK_KINDS) == ["measured", "public", "transferred"]


def test_two_gpus_are_compared_on_stacks_of_one_kind() -> None:
    assert like_for_like("h100", "b200") == ("h100-public", "b200-public")
    assert like_for_like("h100", "h20") == ("h100-transfer", "h20-transfer")


def test_fits_of_one_key_have_the_same_constants() -> None:
    """Otherwise a fit would borrow what it lacks from another one."""
    found: dict[str, set[frozenset[str]]] = {}
    for group in load_efficiencies().groups:
        if group.prefix.startswith(("gemm.", "attention.")) and len(group.values) > 1:
            found.setdefault(group.prefix, set()).add(frozenset(group.values))
    assert not {prefix for prefix, names in found.items() if len(names) > 1}


def test_a_gpu_s_own_rate_is_not_slower_than_its_twin_s_any_more() -> None:
    """H100 and H800 differed by 10 % when a GPU's own rows were left out of its own stack."""
    shape = KernelShape("gemm", "fprop", "fp8-block", 4096, 7168, 2048)
    seconds = {
        gpu: kernel_seconds(shape, load_stack(f"{gpu}-transfer"), load_gpu(gpu), "alone").seconds
        for gpu in ("h100", "h800")
    }
    assert seconds["h100"] == seconds["h800"]
    apart = kernel_seconds(shape, load_stack("h100-transfer", left("h100")), load_gpu("h100"), "alone").seconds
    assert abs(apart / seconds["h100"] - 1.0) > 0.005, "leaving its rows out shows"
