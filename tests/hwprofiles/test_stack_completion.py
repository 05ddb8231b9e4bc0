"""What a measured stack lacks comes from what is public of its GPU: own first, no fit of two halves, told by sources."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hwprofiles import stack_choice, transfer
from hwprofiles.catalog import load_gpu, measured_stacks, read_stack
from hwprofiles.kernels.shape import KernelShape
from hwprofiles.kernels.table import kernel_seconds
from hwprofiles.leave_out import LeftOut
from hwprofiles.parameter_keys import HELD, gemm_stem, key_problem, part_problems
from hwprofiles.stack_completion import completed
from hwprofiles.stack_folders import open_folder
from hwprofiles.stack_records import Parameter, Stack
from tests.stack_folder import SOURCE, write_folder

PUBLIC = stack_choice.load_stack("h100-public")
FAMILY = ("t0_s", "t_tile_s", "st_bytes_per_s", "l2_bytes_per_s", "eta", "ecap", "eb", "residual")


def stack_of(path: Path, lines: str = "") -> Stack:
    folder = write_folder(path)
    with (folder / "parameters.yaml").open("a") as file:
        file.write(lines)
    return stack_choice.load_stack(open_folder(folder).stack.name)


def lines_of(*keys: str, value: float = 0.5) -> str:
    return "".join(
        f"{key}: {{value: {value}, unit: '1', basis: interpolated, state: sustained, {SOURCE}}}\n" for key in keys
    )


def test_own_rows_and_parameters_go_first_and_the_rest_is_public(tmp_path: Path) -> None:
    stack, gpu = stack_of(tmp_path / "mine"), load_gpu("h100")
    row = kernel_seconds(KernelShape("gemm", "fprop", m=4096, n=4096, k=4096), stack, gpu, "alone")
    assert (row.seconds, row.basis) == (4e-4, "measured")
    step = KernelShape("adamw", bytes=10**9)
    assert kernel_seconds(step, stack, gpu, "alone").source.startswith("a test")
    for shape in (
        KernelShape("gemm", "fprop", dtype="fp8-block", m=4096, n=4096, k=4096),
        KernelShape("attention_fwd", batch=1, seq=4096, heads=16, head_dim_qk=128, head_dim_v=128, library="fa3"),
        KernelShape("cross_entropy", bytes=10**9),
    ):
        own, public = (kernel_seconds(shape, each, gpu, "alone") for each in (stack, PUBLIC))
        assert (own.seconds, own.low, own.high, own.basis) == (public.seconds, public.low, public.high, public.basis)
        assert "of h100-public: the stack itself has none" in own.source
    key = "memory.cross_entropy"
    assert stack.parameters[key].state == PUBLIC.provenance.state


def test_no_fit_is_made_of_two_halves(tmp_path: Path) -> None:
    """Constants of the folder's bf16 GEMMs hold for all its passes; grouped ones, other formats and libraries stay public."""
    own = [f"gemm.bf16.{name}" for name in FAMILY] + ["attention.bf16.fwd.cudnn.d128.rate_share"]
    stack = stack_of(tmp_path / "mine", lines_of(*own))
    gemms = {key for key in stack.parameters if key.startswith("gemm.bf16.") and not gemm_stem(key).is_grouped}
    assert gemms == {f"gemm.bf16.{name}" for name in FAMILY}
    cores = {key for key in stack.parameters if key.startswith("attention.bf16.fwd.cudnn.")}
    assert cores == {own[-1]}
    for kept in (
        "gemm.bf16.grouped.eta",
        "gemm.fp8-block.eta",
        "attention.bf16.bwd.cudnn.t0_s",
        "attention.bf16.fwd.fa3.t0_s",
    ):
        assert stack.parameters[kept].value == PUBLIC.parameters[kept].value


def test_a_ratio_stands_for_its_neighbours_and_a_scale_or_a_default_for_nothing_else() -> None:
    """Ratios beside held SMs are of one measurement; what other software takes longer is no constant of the formula."""

    def own(key: str) -> Stack:
        return completed(replace(PUBLIC, parameters={key: PUBLIC.parameters["memory.rmsnorm"]}), PUBLIC)

    assert own("overlap.gemm.ratio").parameters.keys() & HELD == {"overlap.gemm.ratio"}
    eta = "gemm.bf16.wgrad.eta"
    assert own("gemm.bf16.wgrad.scale").parameters[eta].value == PUBLIC.parameters[eta].value
    share = "memory.copy"
    assert own("memory.default").parameters[share].value == PUBLIC.parameters[share].value


def test_ratios_beside_held_sms_are_of_one_measurement(tmp_path: Path) -> None:
    own = ["overlap.comm_sms", *(f"overlap.{kind}.ratio" for kind in ("gemm", "attention", "memory"))]
    stack = stack_of(tmp_path / "mine", lines_of(*own))
    assert all(stack.parameters[key].value == 0.5 for key in own)
    assert (
        stack.parameters["overlap.collective.gemm.ratio"].value
        == PUBLIC.parameters["overlap.collective.gemm.ratio"].value
    )


def test_a_public_share_falls_with_what_belongs_to_it() -> None:
    def with_own(*keys: str) -> Stack:
        entry = PUBLIC.parameters["memory.routing_map"]
        bare = Stack("mine", "h100", "", PUBLIC.kernels, PUBLIC.provenance, parameters=dict.fromkeys(keys, entry))
        return completed(bare, PUBLIC)

    assert "memory.routing_map.latency_s" in with_own("memory.rope").parameters
    assert "memory.routing_map.latency_s" not in with_own("memory.routing_map").parameters
    assert "memory.routing_map" in with_own("memory.default").parameters


def test_what_is_left_out_completes_nothing(tmp_path: Path) -> None:
    name = open_folder(write_folder(tmp_path / "mine")).stack.name
    sources = frozenset(load_sources())
    left = LeftOut(sources=sources)
    expected = transfer.build_stack("public" if stack_choice.has_public("h100", left) else "transfer", "h100", left)
    stack = stack_choice.load_stack(name, left)
    assert stack.parameters["gemm.fp8-block.eta"].value == expected.parameters["gemm.fp8-block.eta"].value
    assert stack.parameters["gemm.fp8-block.eta"] != stack_choice.load_stack(name).parameters["gemm.fp8-block.eta"]


def load_sources() -> set[str]:
    """Sources of the FP8 GEMMs that are known of the H100."""
    from hwprofiles.efficiencies import load_efficiencies

    groups = load_efficiencies().groups
    return {group.source for group in groups if group.gpu == "h100" and group.prefix.startswith("gemm.fp8-block")}


def test_a_whole_stack_gets_nothing() -> None:
    assert stack_choice.load_stack("h800-notrace") == read_stack("h800-notrace")


@pytest.mark.parametrize("name", ["h100-public", "b200-public", *measured_stacks()])
def test_keys_of_shipped_stacks_are_known(name: str) -> None:
    stack = stack_choice.load_stack(name)
    assert not [(key, key_problem(key)) for key in stack.parameters if key_problem(key)]
    assert not list(
        part_problems({key: entry for key, entry in stack.parameters.items() if isinstance(entry, Parameter)})
    )
