"""The example's text and figures."""

from __future__ import annotations

import pytest
import torch

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.train.figures import Record, figures, violation
from hwprofiles.calibration.train.settings import MODEL, Training
from hwprofiles.calibration.train.text import NUM_BYTES, Windows, language_reference


def test_the_text_is_prose_and_outlasts_the_default_run() -> None:
    text, training = language_reference(), Training()
    assert max(text) < NUM_BYTES == MODEL.vocab_size
    assert text.count(b" the ") > 3000
    read = training.steps * training.micro_batches * training.sequences * (training.seq_len + 1 + MODEL.num_mtp)
    assert read < len(text)


def test_each_piece_comes_once_before_any_comes_again() -> None:
    text = bytes(range(200))
    windows = Windows(text, 10, seed=3)
    drawn = torch.cat([windows.take(8) for _ in range(5)])
    assert drawn.dtype == torch.int64 and drawn.shape == (40, 10)
    for epoch in drawn.split(20):
        assert bytes(epoch[epoch[:, 0].argsort()].flatten().tolist()) == text


def test_the_seed_is_the_order() -> None:
    first, again, other = (Windows(language_reference(), 64, seed).take(16) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_text_shorter_than_a_sequence_is_refused() -> None:
    with pytest.raises(CalibrationError, match="3 bytes; a sequence needs 4"):
        Windows(b"abc", 4, 0)


def test_violation_is_of_the_worst_layer() -> None:
    assert violation([[1, 1, 1, 1], [4, 2, 1, 1], [3, 1, 2, 2]]) == 1.0


def test_figures_are_means_of_the_first_5_and_the_last_20_steps() -> None:
    steps = range(1, 41)
    loads = tuple(((step, 1), (2, 2)) for step in steps)
    bias, none, fp8 = (
        Record(tuple(factor * step for step in steps), tuple(-factor * step for step in steps), loads)
        for factor in (1.0, 2.0, 3.0)
    )
    found = figures({"bias": bias, "none": none, "fp8": fp8})
    assert found["loads"] == {name: [[610, 20], [40, 40]] for name in ("bias", "none", "fp8")}
    assert (found["loss_first"], found["loss_last"], found["loss_last_none"], found["loss_last_fp8"]) == (
        3.0,
        30.5,
        61.0,
        91.5,
    )
    assert (found["mtp_loss_first"], found["mtp_loss_last"]) == (-3.0, -30.5)
    assert found["max_violation_bias"] == found["max_violation_none"] == 610 / 315 - 1
