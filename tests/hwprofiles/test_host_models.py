"""Small models of the torch model: what layers take the host comes back from them, and what they run is what they say."""

from __future__ import annotations

from typing import Any

import pytest

from hwprofiles.calibration.machine import host_fit
from hwprofiles.calibration.machine.host_models_fit import parts
from hwprofiles.hosts import torch_model
from hwprofiles.hosts.torch_model import CHUNKS, LAYERS, PARTS, WEIGHTS, key
from hwprofiles.parameter_keys import key_problem

torch = pytest.importorskip("torch")

from hwprofiles.calibration.host import models  # noqa: E402

PLAIN = {part: (idx + 2) * 1e-3 for idx, part in enumerate(PARTS)}
"""Seconds of each part that are made up."""
BESIDE = {"one": "dense", "one_longer": "dense", "weight": "dense", "waited": "dense"}


def rows(recipe: str, seconds: dict[str, float]) -> dict[str, dict[str, Any]]:
    """What small models of such layers would be measured at, twice as long backward."""
    found = {}
    for name, layers in LAYERS.items():
        whole = seconds["head"] + layers * seconds[BESIDE.get(name, name)]
        whole += (CHUNKS - 1) * seconds["chunk"] if name == "one_longer" else 0.0
        whole += layers * WEIGHTS * seconds["weight"] if name == "weight" else 0.0
        whole += seconds["waited"] if name == "waited" else 0.0
        for times, phase in ((1, "forward"), (2, "backward")):
            text = f"torch_model {name} {recipe} {phase}"
            value = times * whole
            found[text] = {"name": text, "host_s": value, "low_s": 0.9 * value, "high_s": 1.2 * value, "device": "cuda"}
    return found


def test_seconds_of_parts_come_back() -> None:
    found = {each.key: each for each in parts({**rows("bf16", PLAIN), **rows("fp8-row", PLAIN)})}
    assert len(found) == 2 * 2 * len(PARTS)
    for part, seconds in PLAIN.items():
        for recipe in ("bf16", "fp8-row"):
            each = found[key(recipe, part, "b")]
            assert found[key(recipe, part, "f")].value == pytest.approx(seconds)
            assert each.value == pytest.approx(2 * seconds)
            assert (each.low, each.high) == pytest.approx((0.9 * each.value, 1.2 * each.value))


def test_parts_of_models_that_were_not_measured_are_left_out() -> None:
    whole = rows("bf16", PLAIN)
    short = {name: row for name, row in whole.items() if " latent_q " not in name}
    assert {each.key for each in parts(whole)} - {each.key for each in parts(short)} == {
        key("bf16", "latent_q", way) for way in "fb"
    }
    assert not list(parts({name: row for name, row in whole.items() if " one " not in name}))


def test_a_disturbed_model_takes_no_negative_seconds() -> None:
    disturbed = rows("bf16", PLAIN)
    disturbed["torch_model weight bf16 forward"]["host_s"] = 1e-9
    assert next(each for each in parts(disturbed) if each.key == key("bf16", "weight", "f")).value == 0.0


def test_their_parameters_are_known_keys_and_others_are_refused() -> None:
    made = host_fit.parameters(list(rows("fp8-blockwise", PLAIN).values()), "made up", "2026-11-28")
    own = [name for name in made if name.startswith("host.torch_model.")]
    assert len(own) == 2 * len(PARTS)
    assert not [name for name in own if key_problem(name)]
    assert "dense" in str(key_problem("host.torch_model.bf16.dens_f_s"))
    assert "recipe" in str(key_problem("host.torch_model.bf61.dense_f_s"))


def test_small_models_have_their_layers_and_drop_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one of each way of running, on a CPU."""
    monkeypatch.setattr(models, "CHUNK", 16)
    monkeypatch.setattr(models, "HIDDEN", 32)
    assert set(models.SMALL) == set(LAYERS)
    assert set(PARTS) - set(models.SMALL) == {"head", "chunk"}
    for name in ("one_longer", "again"):
        run = models._Run(name, models.SMALL[name], "bf16", torch.device("cpu"))
        model, tokens = run.built
        assert len(model.layers) == LAYERS[name]
        assert tokens.shape[1] - 1 == 16 * models.SMALL[name].chunks
        run.forward().backward()
        assert all(weight.grad is not None for weight in model.parameters())
        run.ready()
        assert all(weight.grad is None for weight in model.parameters())


def test_fresh_weights_are_new_versions() -> None:
    small = models.Small(models.SMALL["one"].layer, is_fresh=True)
    run = models._Run("one", small, "bf16", torch.device("cpu"))
    weight = run.built[0].layers[0].attention.output.weight
    before = weight._version
    run.ready()
    assert weight._version > before


def test_models_take_turns_and_each_has_both_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model once a round, the medians its own; no fresh weights in BF16."""
    order: list[str] = []

    def sample(run: models._Run) -> tuple[float, float, float, float]:
        order.append(f"{run.name} {run.recipe}")
        rounds = order.count(order[-1])
        return float(rounds), 1.0, float(10 * rounds), 1.0

    monkeypatch.setattr(models._Run, "sample", sample)
    found = list(models.rows(torch.device("cpu"), 3))
    number = len(torch_model.RECIPES) * len(LAYERS) - 1
    assert len(found) == 2 * number
    assert len({(row.variant, row.phase) for row in found}) == len(found)
    rounds = order[models.WARM_UP * number :]
    assert rounds == rounds[:number] * 3
    assert {row.host_s for row in found if row.phase == "forward"} == {models.WARM_UP + 2.0}
    assert {row.host_s for row in found if row.phase == "backward"} == {10 * (models.WARM_UP + 2.0)}


def test_a_sample_has_both_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "CHUNK", 16)
    monkeypatch.setattr(models, "HIDDEN", 32)
    small = models.Small(models.SMALL["one"].layer)
    run = models._Run("one", small, "bf16", torch.device("cpu"))
    assert len(run.sample()) == 4
    assert min(run.sample()) > 0
