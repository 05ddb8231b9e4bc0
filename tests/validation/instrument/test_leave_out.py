"""What a row's prediction may not know, and that it does not."""

from __future__ import annotations

import pytest

from hwprofiles.leave_out import LeftOut
from hwprofiles.stack_choice import default_stack, load_stack
from simulator.step.step import simulate_step
from tests.validation.instrument.test_prediction import SMALL
from validation.instrument.leave_out import MODES, LeaveOut, left_out, publishers, source_names
from validation.instrument.prediction import outcome
from validation.published.row import Row
from validation.published.state import state

ROW = Row(SMALL | {"step_time_s": "2.0", "source_url": "https://arxiv.org/abs/2405.04434"})
DEEPSEEK = {"trace", "deepgemm", "deepgemm_wgrad", "deepep"}


def test_what_is_left_out_of_a_row() -> None:
    assert left_out("gpu", "h100", "x") == LeftOut(gpus=frozenset({"h100"}))
    assert left_out("family", "h100", "x") == LeftOut(families=frozenset({"hopper"}))
    assert not left_out("source", "h100", "https://github.com/NVIDIA-NeMo/Megatron-Bridge")
    found = left_out("source", "h100", ROW.text("source_url"))
    assert found.sources >= DEEPSEEK
    assert not found.sources & {"nccl", "aiconfigurator_gemm", "cudnn"}


def test_sources_of_publishers_are_named_once() -> None:
    patterns = [each for publisher in publishers().values() for each in publisher.sources]
    assert len(set(patterns)) == len(patterns)
    exact = {each for each in patterns if "*" not in each}
    assert exact <= source_names()


@pytest.mark.parametrize("mode", MODES)
def test_a_row_is_predicted_by_what_is_left(mode: LeaveOut) -> None:
    without = left_out(mode, "h100", ROW.text("source_url"))
    found, usual, scenario = outcome(ROW, mode), outcome(ROW), state(ROW).scenario
    assert scenario is not None
    name = default_stack("h100", without)
    try:
        blind = simulate_step(scenario.model_copy(update={"stack": name}), stack=load_stack(name, without))
    except LookupError:
        assert (found.skipped_because or "").startswith("no rate of a kernel: ")
        return
    assert found.figure is not None
    assert usual.figure is not None
    assert (found.figure.step_s, found.stack) == (blind.step.step_s, name)
    assert found.figure.step_s != usual.figure.step_s
    assert (found.as_json()["left_out"], usual.as_json()["left_out"]) == (str(without), None)


def test_a_row_whose_source_measured_no_kernels_is_predicted_as_ever() -> None:
    row = Row(SMALL | {"step_time_s": "2.0", "source_url": "https://example.org"})
    assert outcome(row, "source").figure == outcome(row).figure
