"""Schedules are executed: whatever the order, losses and gradients are those of plain training on one process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pipeline_ranks as toy
import pytest
import torch
from pipeline_ranks import RECOMPUTE, Case
from processes import run_ranks

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.model.recompute import MODULES
from hwprofiles.calibration.model.transformer import Model
from hwprofiles.calibration.numerics.recipes import RECIPES, numerics
from hwprofiles.calibration.parallel import execute
from hwprofiles.calibration.parallel.order import read_order
from hwprofiles.calibration.parallel.pipeline import Pipeline
from hwprofiles.calibration.parallel.stages import build_stages, message_form, parts_of_stages
from simulator.schedule.family import SCHEDULES, build_schedule
from simulator.schedule.text import schedule_document
from simulator.step.timeline import most_in_flight


def document_of(name: str, pp: int, micro_batches: int, vpp: int | None = None) -> dict[str, Any]:
    return schedule_document(build_schedule(name, pp, micro_batches, vpp))


def by_hand(*ranks: str) -> dict[str, Any]:
    """A document of actions in the notation "0F1"."""
    rows = [[{"kind": a[1], "stage": int(a[0]), "micro_batch": int(a[2])} for a in row.split()] for row in ranks]
    count = 1 + max(entry["micro_batch"] for row in rows for entry in row)
    return {"name": "by hand", "pp": len(rows), "micro_batches": count, "ranks": rows}


SPLIT = by_hand("0F0 0F1 0I0 0W0 0F2 0B1 0I2 0W2", "1F0 1I0 1F1 1B1 1F2 1I2 1W0 1W2")
TWO = [document_of("1f1b", 2, 3), document_of("gpipe", 2, 3), document_of("interleaved_1f1b", 2, 4, 3),
       document_of("dualpipe", 2, 6), SPLIT, by_hand("0F0 0B0", ""), document_of("zb_h1", 2, 3), document_of("zb_v", 2, 4),
       document_of("dualpipe_v", 2, 4), document_of("1f1b_ep_overlap", 2, 4),
       document_of("interleaved_1f1b_ep_overlap", 2, 4)]  # fmt: skip
FOUR = [document_of("1f1b", 4, 6), document_of("gpipe", 4, 5), document_of("interleaved_1f1b", 4, 8),
        document_of("dualpipe", 4, 10), document_of("zb_h1", 4, 5), document_of("zb_v", 4, 7),
        document_of("dualpipe_v", 4, 8), document_of("1f1b_ep_overlap", 4, 6),
        document_of("interleaved_1f1b_ep_overlap", 4, 8)]  # fmt: skip


CASES_OF_TWO = [
    Case(document_of("dualpipe", 2, 4)),
    Case(document_of("1f1b", 2, 3), "tied", (3, 0)),
    Case(SPLIT, recompute=RECOMPUTE),
]
CASES_OF_FOUR = [
    Case(document_of("dualpipe", 4, 8)),
    Case(document_of("interleaved_1f1b", 4, 4), layers_per_stage=(0, 1, 0, 2, 0, 0, 1, 0)),
    Case(document_of("gpipe", 4, 2), "tied", (1, 1, 1, 0)),
]


@dataclass(frozen=True)
class Executed:
    """steps[rank][document], model_steps[rank][case], refusals[rank]; gradients by document (model: by case) and rank."""

    documents: list[dict[str, Any]]
    cases: list[Case]
    steps: list[list[dict[str, Any]]]
    model_steps: list[list[dict[str, Any]]]
    refusals: list[list[str]]
    folder: Path

    def gradients(self, document: int, rank: int, prefix: str = "") -> dict[str, torch.Tensor]:
        return torch.load(self.folder / f"{prefix}{document}-{rank}.pt")  # type: ignore[no-any-return]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((TWO, CASES_OF_TWO), id="two ranks", marks=pytest.mark.slow),
        pytest.param((FOUR, CASES_OF_FOUR), id="four ranks", marks=pytest.mark.slow),
    ],
)
def executed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Executed:
    (documents, cases), folder = request.param, tmp_path_factory.mktemp("ranks")
    bad = documents[3] if documents is TWO else None
    found = run_ranks(toy.everything, documents[0]["pp"], folder, documents, cases, str(folder), bad)
    steps, model_steps, refusals = map(list, zip(*found, strict=True))
    return Executed(documents, cases, steps, model_steps, refusals, folder)


def test_every_schedule_of_the_product_is_executed() -> None:
    for documents in (TWO, FOUR):
        assert set(SCHEDULES) <= {document["name"] for document in documents}


def test_losses_and_gradients_are_those_of_plain_training(executed: Executed) -> None:
    for number, document in enumerate(executed.documents):
        num_stages = 1 + max(entry["stage"] for actions in document["ranks"] for entry in actions)
        losses, gradients = toy.plain_step(num_stages, document["micro_batches"])
        met: set[str] = set()
        for rank, steps in enumerate(executed.steps):
            assert steps[number]["losses"] == pytest.approx(losses, rel=1e-14)
            assert steps[number]["is_repeatable"]
            for name, gradient in executed.gradients(number, rank).items():
                met.add(name)
                torch.testing.assert_close(gradient, gradients[name], rtol=1e-12, atol=1e-13)
        assert met == set(gradients)


def test_copies_of_a_parameter_get_the_same_bytes(executed: Executed) -> None:
    first = {}
    for rank in range(len(executed.steps)):
        for name, gradient in executed.gradients(3, rank).items():
            assert torch.equal(gradient, first.setdefault(name, gradient))
    assert len(first) == 1 + len(executed.steps)


def test_as_many_graphs_are_alive_as_the_schedule_says(executed: Executed) -> None:
    """Counted by the runner, and by marks that the graphs themselves keep."""
    for number, document in enumerate(executed.documents):
        if document["name"] in SCHEDULES:
            schedule = build_schedule(document["name"], document["pp"], document["micro_batches"], document["vpp"])
            expected = [most_in_flight(actions) for actions in schedule.ranks]
            assert [steps[number]["in_flight"] for steps in executed.steps] == expected
            assert [steps[number]["most_alive"] for steps in executed.steps] == expected
        assert all(steps[number]["alive"] == 0 for steps in executed.steps)


def test_a_rank_is_told_what_is_wrong_instead_of_waiting(executed: Executed) -> None:
    for rank, refusals in enumerate(executed.refusals):
        if refusals:
            differs, misshapen, deserted = refusals
            told = f"the output of stage 0, micro-batch {3 * rank} is torch.float64 (2, 3, 5)"
            assert misshapen == f"form: {told}; messages are torch.float32 (2, 3, 5)"
            assert differs == "layers.layer1: differs between ranks 0 and 1; the copies of a tensor must start equal"
            words = "pipeline: rank 0 at 1F3 waits for the output of stage 0, micro-batch 3 from rank 1: "
            assert deserted.startswith(words) if rank == 0 else deserted == ""


def test_a_model_with_experts_and_mtp_modules_trains_as_on_one_process(executed: Executed) -> None:
    """Whatever the layers a stage, the losses, every parameter's gradient, the loads and the biases after them are the same."""
    for number, case in enumerate(executed.cases):
        losses, gradients, loads = toy.plain_model_step(case)
        met: set[str] = set()
        for rank, steps in enumerate(executed.model_steps):
            assert steps[number]["losses"] == pytest.approx(losses, rel=1e-13)
            for name, gradient in executed.gradients(number, rank, "model-").items():
                met.add(name)
                close = 1e-12 * float(gradients[name].abs().max())
                torch.testing.assert_close(
                    gradient, gradients[name], rtol=0, atol=close, msg=lambda text, n=name: f"{n}: {text}"
                )
            for name, counts in steps[number]["loads"].items():
                assert counts == loads[name].tolist()
                moved = (loads[name].sum() - 6 * loads[name]).sign() * 0.01
                assert steps[number]["biases"][f"{name}.router.bias"] == pytest.approx(moved.tolist())
        assert met == set(gradients)
        assert {name for steps in executed.model_steps for name in steps[number]["loads"]} == set(loads)


@pytest.mark.parametrize("recompute", [(), MODULES], ids=["kept", "recomputed"])
@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_gradients_of_inputs_and_weights_apart_are_those_together(recipe: str, recompute: tuple[str, ...]) -> None:
    """The graph is walked twice: with every function of the model's own, and everything that is made again."""
    together = gradients_of_one_rank("0F0 1F0 1B0 0B0", recipe, ())
    apart = gradients_of_one_rank("0F0 1F0 1I0 0I0 0W0 1W0", recipe, recompute)
    assert set(apart) == set(together) and len(apart) > 20
    for name, gradient in apart.items():
        assert torch.equal(gradient, together[name]), name


def gradients_of_one_rank(actions: str, recipe: str, recompute: tuple[str, ...]) -> dict[str, torch.Tensor]:
    order, formats = read_order(by_hand(actions)), numerics(recipe)
    config = execute.config_of(order)
    batches = execute.micro_batches(order, config, torch.device("cpu"))
    stages = build_stages(config, formats, order, 0, recompute=recompute)
    Pipeline(order, stages, message_form(config, formats, batches[0])).step(batches)
    return {name: parameter.grad for stage in stages.values() for name, parameter in stage.named_parameters()}


@pytest.mark.parametrize("actions", ["0F0 1F0 2F0 2B0 1B0 0B0", "0F0 1F0 2F0 2I0 1I0 0I0 2W0 1W0 0W0"])
@pytest.mark.parametrize(("layers", "frozen"), [((2, 0, 2), None), ((1, 2, 1), 0), ((1, 2, 1), 1)])
def test_a_stage_may_have_no_weight_that_is_trained(actions: str, layers: tuple[int, ...], frozen: int | None) -> None:
    order, config, formats = read_order(by_hand(actions)), toy.CONFIGS["moe"], numerics("float64")
    batches, model = execute.micro_batches(order, config, torch.device("cpu")), Model(config, formats)
    model(batches[0]).total().backward()
    expected = {name: parameter.grad for name, parameter in model.named_parameters()}
    stages = build_stages(config, formats, order, 0, layers_per_stage=layers)
    if frozen is not None:
        stages[frozen].requires_grad_(False)
    Pipeline(order, stages, message_form(config, formats, batches[0])).step(batches)
    for stage in stages.values():
        for name, parameter in stage.named_parameters():
            if parameter.requires_grad:
                torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-12, atol=1e-15)
            else:
                assert parameter.grad is None


def test_one_rank_hands_over_to_itself() -> None:
    document = by_hand("0F0 1F0 0F1 1B0 1F1 0I0 1B1 0W0 0B1")
    pipeline = toy.toy_pipeline(document, 0)
    losses, gradients = toy.plain_step(2, 2)
    assert pipeline.step(toy.micro_batches(2)).losses == pytest.approx(losses)
    for stage in pipeline.stages.values():
        for name, parameter in stage.named_parameters():
            torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-12, atol=1e-13)


def test_mtp_losses_count_as_much_as_asked() -> None:
    order, formats = read_order(by_hand("0F0 1F0 1B0 0B0")), numerics("float64")
    config = execute.config_of(order)
    batches = execute.micro_batches(order, config, torch.device("cpu"))
    stages = build_stages(config, formats, order, 0, mtp_weight=0.05)
    step = Pipeline(order, stages, message_form(config, formats, batches[0])).step(batches)
    assert step.loss == pytest.approx(Model(config, formats)(batches[0]).total(0.05).item(), rel=1e-12)


def test_other_processes_stages_or_micro_batches_than_the_schedules_are_refused() -> None:
    with pytest.raises(CalibrationError, match=r"^pp: the schedule has 2 ranks, the group 1; start 2 processes$"):
        toy.toy_pipeline(TWO[0], 0)
    alone = by_hand("0F0 1F0 1B0 0B0")
    pipeline = toy.toy_pipeline(alone, 0)
    with pytest.raises(CalibrationError, match=r"^micro_batches: 2 given; the schedule by hand has 1$"):
        pipeline.step(toy.micro_batches(2))
    unlike = toy.toy_pipeline(by_hand("0F0 1F0 1B0 0B0 0F1 1F1 1B1 0B1"), 0)
    one, other = toy.micro_batches(2)
    with pytest.raises(
        CalibrationError, match=r"^micro_batches: are of shapes \(2, 3\), \(2, 4\); all have to be alike$"
    ):
        unlike.step([one, other[:, 1:]])
    with pytest.raises(CalibrationError, match=r"^stages: rank 0 holds 0, 1 in the schedule; given 1$"):
        Pipeline(pipeline.order, {1: pipeline.stages[1]}, pipeline._form)


@pytest.mark.slow
def test_the_command_says_whether_a_printed_schedule_gives_plain_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = tmp_path / "schedule.json"
    printed.write_text(json.dumps(document_of("dualpipe", 2, 4)))
    assert execute.main([str(printed), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["is_equal"] and 0 < found["gradients_apart"] < 1e-12 and found["loss_apart"] < 1e-14
    assert found["loss"] == pytest.approx(found["loss_plain"]) == pytest.approx(1.3 * 4.2, abs=0.3)
    assert found["most_in_flight"] == [3, 3] and found["stages"] == 2
    assert "gradients apart by 9.9e-01 of the largest entry: NOT EQUAL" in execute.words(
        found | {"is_equal": False, "gradients_apart": 0.99}
    )


def test_layers_are_spread_over_stages_as_asked_or_evenly() -> None:
    config = toy.CONFIGS["moe"]  # an embedding, four layers, a head and two MTP modules: parts 0 to 7
    assert parts_of_stages(config, 3) == [range(0, 3), range(3, 4), range(4, 8)]
    assert parts_of_stages(config, 3, (0, 4, 0)) == [range(0, 1), range(1, 5), range(5, 8)]
    assert parts_of_stages(config, 1) == [range(0, 8)]
    for counts, words in (
        ((2, 2), "is 2, 2: 2 stages; the schedule has 3"),
        ((2, 1, 2), "is 2, 1, 2: 5 layers; the model has 4"),
        ((5, -1, 0), "is 5, -1, 0: 4 layers; the model has 4, none less than 0"),
    ):
        with pytest.raises(CalibrationError, match=f"^layers_per_stage: {words}$"):
            parts_of_stages(config, 3, counts)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON: Expecting"),
        (json.dumps(TWO[0] | {"pp": 3}), "execute: pp: is 3, but ranks has 2 lists"),
        (
            json.dumps(by_hand("0F0 0B0 0F1 0B1", "1F1 1B1 1F0 1B0")),
            "execute: ranks[0][1]: deadlock: rank 0 at 0B0 waits",
        ),
    ],
)
def test_the_command_refuses_what_cannot_be_executed(
    text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = tmp_path / "schedule.json"
    printed.write_text(text)
    assert execute.main([str(printed)]) == 2
    assert words in capsys.readouterr().err
