"""What compares several processes with one tells a difference from none, and the commands say so; on a group of one rank."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from hwprofiles.calibration.model.config import Ffn, Moe
from hwprofiles.calibration.numerics import check as numerics_check
from hwprofiles.calibration.parallel import check as parallel_check
from hwprofiles.calibration.parallel import comparing, execute
from hwprofiles.calibration.parallel.groups import ExpertGroup, expert_group
from hwprofiles.calibration.parallel.step_end import sum_dense_gradients

CPU = torch.device("cpu")
MOE = Moe(4, 2, Ffn(8), num_shared=1, score="sigmoid")
DOCUMENT = {
    "name": "by hand", "pp": 1, "micro_batches": 1,
    "ranks": [[{"kind": kind, "stage": stage, "micro_batch": 0} for kind, stage in (("F", 0), ("F", 1), ("B", 1), ("B", 0))]],
}  # fmt: skip


@pytest.fixture
def group() -> Iterator[ExpertGroup]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield expert_group(MOE.num_experts, 1)
    dist.destroy_process_group()


def test_the_worst_tensor_tells_whether_a_layer_is_within(group: ExpertGroup, monkeypatch: pytest.MonkeyPatch) -> None:
    case, outcome = comparing.CASES[0], comparing.outcome
    assert comparing.compare(group, case, MOE, 16, 5, CPU)["is_within"]

    def off(*args: Any) -> dict[str, torch.Tensor]:
        found = outcome(*args)
        return found if len(args) == 3 else found | {"input": found["input"] * 1.01}

    monkeypatch.setattr(comparing, "outcome", off)
    found = comparing.compare(group, case, MOE, 16, 5, CPU)
    assert not found["is_within"] and found["difference"] == pytest.approx(0.01)


def test_a_parameter_that_nothing_reached_counts_with_zeros(group: ExpertGroup) -> None:
    model, frozen = nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False)
    model.bias.grad = torch.ones(2)
    sum_dense_gradients(nn.Sequential(model, frozen), group)
    assert model.weight.grad is not None and not model.weight.grad.any() and bool(model.bias.grad.all())
    assert frozen.weight.grad is None


@pytest.mark.usefixtures("group")
def test_a_pipeline_that_gives_other_numbers_is_not_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert execute.compare(DOCUMENT, CPU)["is_equal"]
    plain = execute.plain

    def off(*args: Any) -> Any:
        losses, gradients = plain(*args)
        name = max(gradients)
        return losses, gradients | {name: gradients[name] * (1 + 1e-8)}

    monkeypatch.setattr(execute, "plain", off)
    found = execute.compare(DOCUMENT, CPU)
    assert not found["is_equal"] and found["gradients_apart"] == pytest.approx(1e-8, rel=0.01)
    monkeypatch.setattr(execute, "plain", lambda *args: ([2 * loss for loss in plain(*args)[0]], plain(*args)[1]))
    assert not execute.compare(DOCUMENT, CPU)["is_equal"]


# The commands


def test_a_pipeline_that_differs_ends_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {"schedule": "x", "pp": 1, "stages": 2, "micro_batches": 1, "loss": 1.0, "loss_plain": 2.0, "gradients_apart": 0.5,
             "most_in_flight": [1], "is_equal": False}  # fmt: skip
    monkeypatch.setattr(execute, "execute", lambda *_: found)
    (tmp_path / "x.json").write_text("{}")
    assert execute.main([str(tmp_path / "x.json")]) == 1 and "NOT EQUAL" in capsys.readouterr().out


def test_a_pipeline_of_more_ranks_than_gpus_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    (tmp_path / "x.json").write_text(json.dumps(DOCUMENT))
    assert execute.main([str(tmp_path / "x.json"), "--device", "cuda"]) == 2
    assert "--device: is cuda, with 0 GPUs for 1 ranks; use --device cpu" in capsys.readouterr().err


def test_experts_that_differ_end_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x.json"

    def measured(*_: Any, **__: Any) -> None:
        out.write_text(
            json.dumps({"equality": [{"recipe": "a", "is_within": True}, {"recipe": "b", "is_within": False}]})
        )

    monkeypatch.setattr(torch.multiprocessing, "start_processes", measured)
    assert parallel_check.main(["-o", str(out), "--device", "cpu", "--small"]) == 1
    assert capsys.readouterr().err == 'differs: {"recipe": "b", "is_within": false}\n'


def test_products_that_differ_end_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        numerics_check.comparing, "compare", lambda recipe, *_: [{"recipe": recipe, "equal": recipe == "fp8-row"}]
    )
    monkeypatch.setattr(numerics_check, "time_layers", lambda *_: [])
    monkeypatch.setattr(numerics_check, "time_parts", lambda *_: [])
    assert numerics_check.main(["-o", str(tmp_path / "x.json"), "--device", "cpu", "--small"]) == 1
    assert capsys.readouterr().err == "differs: {'recipe': 'fp8-blockwise', 'equal': False}\n"
