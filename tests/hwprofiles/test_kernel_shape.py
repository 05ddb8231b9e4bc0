"""One list of kernels: what is counted, what stacks measured and what their parameters speak of are all in it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from hwprofiles.kernels import shape as shape_module
from hwprofiles.kernels.shape import KERNELS, KernelShape
from hwprofiles.stack_choice import load_stack, stack_names
from simulator import load_scenario
from simulator.step.prepared import prepare

NOT_KERNELS = {"memory.default", "memory.launch_floor_s"}


@pytest.mark.parametrize("preset", ["deepseek-v3", "mixtral-8x22b", "llama-3.1-70b"])
def test_everything_counted_has_a_class(preset: str) -> None:
    stages = prepare(load_scenario(preset)).workload.stages
    assert {op.shape.op for stage in stages for unit in stage.units for op in unit.ops()} <= set(KERNELS)


@pytest.mark.parametrize("name", stack_names())
def test_fractions_of_bandwidth_are_of_memory_bound_kernels(name: str) -> None:
    stack = load_stack(name)
    for key in {*stack.parameters, *stack.assumptions} - NOT_KERNELS:
        if key.startswith("memory."):
            assert KERNELS[key.split(".")[1]].bound == "memory"


def test_an_unknown_kernel_is_no_shape() -> None:
    with pytest.raises(ValueError, match=r"op: 'gem'; allowed: adamw, .*unpermute"):
        KernelShape("gem")


def test_the_class_decides_what_makes_two_calls_the_same() -> None:
    for op, kernel in KERNELS.items():
        same_bytes = KernelShape(op, m=1, seq=1, bytes=8).key == KernelShape(op, m=2, seq=2, bytes=8).key
        assert same_bytes == (kernel.bound == "memory")
        assert (kernel.category == "memory_bound") == (kernel.bound == "memory")


def test_shapes_need_nothing_of_the_rest() -> None:
    tree = ast.parse(Path(shape_module.__file__).read_text(encoding="utf-8"))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert modules == {"__future__", "collections.abc", "dataclasses", "types", "typing"}
