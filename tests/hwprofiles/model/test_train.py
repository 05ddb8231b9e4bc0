"""The example's command: what it prints, what it refuses, and that nothing but its arguments moves its figures."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from math import isfinite
from typing import Any

import pytest
import torch

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.model.balance import Balancing
from hwprofiles.calibration.model.moe import MoeLayer
from hwprofiles.calibration.model.transformer import Model
from hwprofiles.calibration.numerics.numerics import Numerics
from hwprofiles.calibration.numerics.recipes import numerics
from hwprofiles.calibration.train import loop, settings
from hwprofiles.calibration.train.cli import EXIT_BAD_INPUT, EXIT_INTERRUPTED, main
from hwprofiles.calibration.train.settings import MODEL, RUNS, Training
from hwprofiles.calibration.train.text import Windows, language_reference

KEYS = [
    "loss_first", "loss_last", "loss_last_none", "loss_last_fp8", "mtp_loss_first", "mtp_loss_last", "max_violation_bias",
    "max_violation_none", "loads",
]  # fmt: skip
SHORT = ["--json", "--steps", "2", "--threads", "1"]
SHORTER = {"seq_len": 16, "sequences": 1}
CPU = torch.device("cpu")
SMALLEST = Training(steps=3, seq_len=16, sequences=1, micro_batches=1, warm_up=2)
TINY = Training(steps=2, seq_len=32, sequences=2, micro_batches=2, warm_up=2)


def silent(*seen: Any) -> None:
    """Nobody is told."""


@pytest.mark.slow
def test_same_seed_same_bytes_in_another_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = (
        "import sys; from functools import partial; from hwprofiles.calibration.train import cli, settings;"
        f"settings.Training = partial(settings.Training, **{SHORTER}); sys.exit(cli.main({SHORT}))"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert other.returncode == 0, other.stderr
    monkeypatch.setattr(settings, "Training", partial(Training, **SHORTER))
    assert main(SHORT) == 0
    printed = capsys.readouterr()
    assert printed.out == other.stdout and "bias  step    2 of 2  loss" in printed.err
    found = json.loads(other.stdout)
    assert list(found) == KEYS
    assert all(isfinite(found[key]) for key in KEYS[:-1])
    assert list(found["loads"]) == list(RUNS)
    for layers in found["loads"].values():
        # Two MoE layers and that of the multi-token-prediction module; 2 steps of 2 sequences of 16 tokens, 4 experts a token.
        assert [sum(layer) for layer in layers] == [2 * 2 * 16 * 4] * 3
        assert {len(layer) for layer in layers} == {16}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--steps", "1"], "--steps: 1 is not between 2 and 50000"),
        (["--steps", "many"], "invalid int value: 'many'"),
        (["--seed", "-1"], "--seed: -1 is not between 0 and"),
        (["--threads", "0"], "--threads: 0 is not between 1 and"),
        (["--step-size", "1"], "unrecognized arguments: --step-size"),
        (["--device", "abacus"], "--device: 'abacus' cannot be used"),
        (["--device", "meta"], "--device: 'meta' is neither a CPU nor a CUDA device; try cpu"),
    ],
)
def test_bad_input_is_one_line(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == EXIT_BAD_INPUT
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.count("\n") == 1 and not printed.out


def test_a_missing_torch_names_the_extra() -> None:
    code = (
        "import runpy, sys; sys.modules['torch'] = None; sys.argv = ['train'];"
        "runpy.run_module('hwprofiles.calibration.train', run_name='__main__')"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout) == (EXIT_BAD_INPUT, "")
    assert run.stderr.count("\n") == 1 and "pip install 'moesim[calibrate]'" in run.stderr


def test_an_interrupted_run_ends_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*asked: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "train", interrupted)
    assert main(SHORT) == EXIT_INTERRUPTED
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and not printed.out


def test_the_bias_moves_by_its_rate_against_the_load_after_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[torch.Tensor] = []
    update = MoeLayer.update_bias

    def seen(moe: MoeLayer, loads: torch.Tensor) -> None:
        before = moe.router.bias.clone()
        update(moe, loads)
        moved.append(torch.stack([moe.router.bias - before, loads.float().mean() - loads]))

    monkeypatch.setattr(MoeLayer, "update_bias", seen)
    loop.train(MODEL, RUNS["bias"], TINY, CPU, silent)
    change, wanted = torch.stack(moved).unbind(1)
    assert len(moved) == 3 * TINY.steps
    torch.testing.assert_close(change, TINY.bias_rate * wanted.sign(), rtol=0, atol=1e-7)
    moved.clear()
    loop.train(MODEL, RUNS["none"], TINY, CPU, silent)
    assert not torch.stack(moved)[:, 0].any()


def test_a_step_of_more_micro_batches_is_the_same_step() -> None:
    one, four = (
        loop.train(
            MODEL, RUNS["none"], Training(steps=3, seq_len=32, sequences=4 // cuts, micro_batches=cuts), CPU, silent
        )
        for cuts in (1, 4)
    )
    assert one.main == pytest.approx(four.main, rel=2e-3) and one.mtp == pytest.approx(four.mtp, rel=2e-3)
    assert one.main[2] < one.main[0]
    assert [[sum(layer) for layer in step] for step in one.loads] == [[4 * 4 * 32] * 3] * 3


def test_the_balance_loss_of_a_step_does_not_depend_on_its_cuts() -> None:
    one, two = (
        loop.train(
            MODEL, RUNS["bias"],
            replace(SMALLEST, sequences=2 // cuts, micro_batches=cuts, sequence_weight=30.0, bias_rate=0.0), CPU, silent,
        )
        for cuts in (1, 2)
    )  # fmt: skip
    assert one.main == pytest.approx(two.main, rel=2e-3)
    without = loop.train(MODEL, RUNS["bias"], replace(SMALLEST, sequences=2, bias_rate=0.0), CPU, silent)
    assert one.main != pytest.approx(without.main, rel=4e-3)


@pytest.mark.parametrize("setting", ["clip", "mtp_weight", "sequence_weight", "warm_up", "learning_rate", "bias_rate"])
def test_every_setting_is_one_of_the_training(setting: str) -> None:
    """Each of them alone moves the losses of the steps behind the first, or the loads."""
    usual = replace(SMALLEST, clip=0.1, bias_rate=0.05)
    other = replace(usual, **{setting: 3 * getattr(usual, setting)})
    ours, theirs = (loop.train(MODEL, RUNS["bias"], training, CPU, silent) for training in (usual, other))
    assert ours.main[0] == theirs.main[0] and ours.main[1:] != theirs.main[1:]


def test_the_seed_is_of_the_weights_and_of_the_text() -> None:
    first, other = (loop.train(MODEL, RUNS["bias"], replace(TINY, steps=1, seed=seed), CPU, silent) for seed in (0, 1))
    assert first.main != other.main and first.loads != other.loads


def test_a_device_without_a_run_s_formats_is_refused_before_the_first_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A GPU without FP8 is told from what the recipe asks of its products; here a CPU stands for it."""

    def asked(recipe: str, device: torch.device, gemms: str) -> Numerics:
        return numerics(recipe, device, "library" if recipe == "fp8-blockwise" else "emulated")

    monkeypatch.setattr(loop, "numerics", asked)
    assert main(SHORT) == EXIT_BAD_INPUT
    printed = capsys.readouterr()
    assert "fp8-blockwise" in printed.err and printed.err.count("\n") == 1 and not printed.out


def test_the_rate_climbs_and_stays() -> None:
    training = Training(learning_rate=1.0, warm_up=4)
    assert [training.rate(step) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_a_run_that_diverges_says_so() -> None:
    with pytest.raises(CalibrationError, match=r"diverged|is NaN"):
        loop.train(MODEL, RUNS["none"], Training(steps=9, seq_len=16, sequences=1, learning_rate=1e30), CPU, silent)


def test_a_step_s_gradients_are_the_means_of_its_own_micro_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []

    def kept(parameters: list[torch.nn.Parameter], limit: float) -> None:
        seen.append(torch.cat([weight.grad.flatten() for weight in parameters if weight.grad is not None]))

    monkeypatch.setattr(loop, "clip", kept)
    still = replace(TINY, learning_rate=1e-30)
    loop.train(MODEL, RUNS["none"], still, CPU, silent)
    model = Model(MODEL, loop.formats(RUNS["none"], CPU), balancing=Balancing("none"), seed=still.seed)
    windows = Windows(language_reference(), still.seq_len + 2, still.seed)
    for found in seen:
        model.zero_grad()
        for _ in range(still.micro_batches):
            (model(windows.take(still.sequences)).total(still.mtp_weight) / still.micro_batches).backward()
        wanted = torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])
        assert (found - wanted).norm() < 1e-3 * wanted.norm()
