"""Peaks of allocated memory beside measured ones; Megatron-LM's are read from the reference tables where these are."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from statistics import mean

import pytest

from simulator import load_scenario, simulate_step
from validation.measured_memory import (
    ERRORS,
    SOURCES,
    Peak,
    allocated,
    main,
    simumax_peaks,
    simumax_scenario,
    torch_peaks,
    torch_scenario,
)
from validation.torch_pipelines import MEASURED

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"
SIMUMAX = REFERENCE / "simumax_b200_steps.csv"
SIMUMAX_MEAN, TORCH_LARGEST = 0.05, 0.08
"""Mean error over the rows of Megatron-LM; largest error of a rank of torch's."""

MEGATRON_ROW = {
    "case": "x", "model": "llama3-405b", "parallel": "tp4pp1", "layers": "4", "micro_batches": "4", "seq": "4096", "gpus": "8"
}  # fmt: skip
TORCH_ROW = {
    "case": "x", "kind": "pp", "schedule": "Schedule1F1B", "config": {"h": 4096, "nh": 32, "nkv": 8, "d": 128, "f": 14336},
    "layers": 8, "pp": 4, "vpp": 1, "micro_batches": 8, "micro_batch_size": 1, "seq": 4096,
}  # fmt: skip
RAN = {
    "schema_version": 1, "model": "qwen3-30b-a3b", "cluster": {"node": "h800-x8", "num_gpus": 16},
    "parallel": {"pp": 2, "ep": 8, "schedule": "1f1b"}, "precision": {"recipe": "bf16"}, "moe": {"balance": "forced"},
    "training": {"seq_len": 8192, "global_batch_size": 128}, "recompute": {"granularity": "none"}, "draws": 1,
}  # fmt: skip
"""A published plan that ran on 80 GB, as far as its keys are known."""


@pytest.mark.skipif(not SIMUMAX.exists(), reason="the reference tables are not beside the checkout")
def test_peaks_of_megatron_lm_are_within_five_per_cent() -> None:
    found = list(simumax_peaks(SIMUMAX))
    assert len({peak.case for peak in found}) == 20
    assert mean(abs(peak.error_frac) for peak in found) <= SIMUMAX_MEAN


def test_peaks_of_torchs_pipelines_are_within_eight_per_cent_on_every_rank() -> None:
    found = list(torch_peaks(MEASURED))
    assert len(found) == 10 * 4 + 3
    assert max(abs(peak.error_frac) for peak in found) <= TORCH_LARGEST, [
        p for p in found if abs(p.error_frac) > TORCH_LARGEST
    ]


def test_the_committed_errors_are_those_of_every_rank_and_within_the_same_bounds() -> None:
    with ERRORS.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    sources = Counter(row["source"].split(" ")[0] for row in rows)
    errors = {
        source: [abs(float(row["error_frac"])) for row in rows if row["source"].startswith(source)]
        for source in sources
    }
    assert sources == {"SimuMax": 26, "H200": 43}
    assert mean(errors["SimuMax"]) <= SIMUMAX_MEAN
    assert max(errors["H200"]) <= TORCH_LARGEST


def test_a_rank_of_megatron_lm_by_hand() -> None:
    """Llama 3 405B cut to 4 layers, tp 4: weights, FP32 gradients, placeholders, a third of states over dp 2, activations."""
    (found,) = allocated(simumax_scenario(MEGATRON_ROW))
    h, f, t, vocab = 16384, 53248, 4096, 128256
    shapes = (h * (128 + 2 * 16) * 128 // 4, h * h // 4, 2 * h * f // 4, h * f // 4)
    params = 4 * sum(shapes) + 2 * vocab * h // 4 + 9 * h
    state = params * (2 + 4 + 12 / 2) + 2 * sum(shapes)
    layer = t * (2 * 2 * (h // 4) * 2 + 2 * (32 + 2 * 4 + 32) * 128 + 6 * f // 4 + 4 * 32)
    at_head = 2 * 2 * t // 4 * h + 2 * t * vocab // 4 + 2 * vocab // 4 * h
    assert found == pytest.approx(state + 4 * layer + at_head, rel=0.005)


def test_a_middle_rank_of_torchs_1f1b_by_hand() -> None:
    """Two layers: weights, gradients and two moments in BF16; 6.5 h and 4 f kept of a token, two micro-batches in flight at
    most on the third rank; a buffer for each of 8 micro-batches and 2 ends.
    """
    found = allocated(torch_scenario(TORCH_ROW))
    h, f, t = 4096, 14336, 4096
    params = 2 * (h * (32 + 2 * 8 + 32) * 128 + 3 * h * f)
    kept = 2 * t * (2 * (6.5 * h + 4 * f) + 4 * 32)
    least = 8 * params + 2 * kept + 8 * 2 * 2 * t * h
    at_work = 2 * t * (3 * f + 2 * h)
    assert found[2] == pytest.approx(least + at_work, rel=1e-3)
    assert found[1] - found[2] == pytest.approx(kept, rel=1e-3)


def test_a_plan_that_ran_is_not_refused() -> None:
    memory = simulate_step(load_scenario(RAN)).memory
    assert memory.verdict == "marginal"
    low, high = (memory.peak_bytes_per_gpu * (1 + end) for end in (memory.margin.low, memory.margin.high))
    assert low < memory.capacity_bytes < high


def test_the_command_tells_every_rank_as_the_committed_errors_have_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(MEASURED)]) == 0
    lines = capsys.readouterr().out.splitlines()
    committed = ERRORS.read_text(encoding="utf-8").splitlines()
    assert lines[:-1] == [committed[0], *(line for line in committed if line.endswith(SOURCES[".json"]))]
    assert lines[-1].startswith("# pipeline_steps_h200x4.json: 43 ranks, mean error ")


def test_an_error_is_predicted_over_measured() -> None:
    assert Peak("x", 0, 90, 100).error_frac == pytest.approx(-0.1)
