"""Where keys do not fit, the nearest values that do are offered: each of them loads."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from simulator import load_scenario
from simulator.check import unfit
from simulator.errors import InputError
from simulator.remedies import Remedy, remedies, value_of, with_value
from simulator.scenario.load import UnfitScenario
from simulator.scenario.scenario import Scenario

V3, MIXTRAL, DENSE = "deepseek-v3", "mixtral-8x22b", "llama-3.1-70b"


def offered(preset: str, *overrides: str) -> tuple[Remedy, ...]:
    def load(more: Sequence[str]) -> Scenario:
        return load_scenario(preset, [*overrides, *more])

    try:
        load(())
    except InputError as error:
        found = remedies(error, load)
        for each in found:
            if each.solves:
                load(each.overrides)
            else:
                assert_mends_a_part(error, each)
        return found
    raise AssertionError(f"{overrides} fit")


def assert_mends_a_part(error: InputError, remedy: Remedy) -> None:
    assert isinstance(error, UnfitScenario)
    changed = error.scenario
    for key, value in remedy.changes:
        changed = with_value(changed, key, value)
    assert {field for field, _ in unfit(changed)} < {field for field, _ in unfit(error.scenario)}


def values(found: Sequence[Remedy], key: str) -> list[object]:
    """Of remedies that set this key alone."""
    return [each.changes[0][1] for each in found if each.solves and [name for name, _ in each.changes] == [key]]


@pytest.mark.parametrize(
    ("preset", "overrides", "key", "expected"),
    [
        (V3, ["parallel.pp=7"], "parallel.pp", [4, 8]),
        (V3, ["cluster.num_gpus=2000"], "cluster.num_gpus", [1024, 2048]),
        (V3, ["cluster.num_gpus=1000"], "cluster.num_gpus", [1024]),
        (V3, ["cluster.num_gpus=100000"], "cluster.num_gpus", [4096]),
        (V3, ["training.global_batch_size=15000"], "training.global_batch_size", [14848, 15104]),
        (V3, ["parallel.ep=48"], "parallel.ep", [32, 64]),
        (V3, ["parallel.tp=2"], "parallel.sequence_parallel", [True]),
        (V3, ["cluster.node=a100-x8"], "precision.recipe", ["bf16", "fp16"]),
        (V3, ["parallel.vpp=4"], "parallel.vpp", [1]),
        (DENSE, ["parallel.ep=8"], "parallel.ep", [1]),
        (MIXTRAL, ["parallel.tp=3"], "parallel.tp", [1]),
    ],
)
def test_the_nearest_values_that_fit_are_offered(
    preset: str, overrides: list[str], key: str, expected: list[object]
) -> None:
    assert values(offered(preset, *overrides), key) == expected


def test_schedules_that_take_the_plan_are_offered() -> None:
    """A newcomer's schedule may be among them."""
    assert {"1f1b", "gpipe"} <= set(values(offered(V3, "parallel.zero_stage=2"), "parallel.schedule"))


def test_dualpipes_micro_batches_are_offered_as_batches() -> None:
    """31 micro-batches of 128 sequences: DualPipe needs twice its 16 ranks."""
    found = offered(V3, f"training.global_batch_size={31 * 128}", "phases.pretrain.batch_ramp=null")
    assert values(found, "training.global_batch_size") == [32 * 128]


def test_what_was_asked_for_can_be_kept_by_changing_more_than_one_key() -> None:
    found = offered(V3, "parallel.schedule=interleaved_1f1b")
    keeping = [dict(each.changes) for each in found if each.solves and "parallel.schedule" not in dict(each.changes)]
    assert {"parallel.vpp": 2, "training.global_batch_size": 14336} in keeping


def test_what_no_single_key_mends_is_offered_in_parts() -> None:
    found = offered(MIXTRAL, "parallel.tp=3")
    assert any(not each.solves for each in found), "more GPUs, for the one that keeps tp"


def test_other_errors_have_no_remedy() -> None:
    with pytest.raises(InputError) as raised:
        load_scenario(V3, ["parallel.schedule=none_such"])
    assert remedies(raised.value, lambda more: None) == ()


def test_random_changes_are_refused_with_remedies_that_load() -> None:
    """Of 10 random pairs of numbers, what is offered for those that do not fit loads (asserted by `offered`)."""
    rng = random.Random(0)
    keys = {"parallel.pp": 20, "parallel.tp": 9, "parallel.ep": 24, "cluster.num_gpus": 600, "training.micro_batch_size": 5,
            "training.global_batch_size": 3000, "parallel.etp": 5, "parallel.vpp": 4}  # fmt: skip
    refused = 0
    for _ in range(10):
        overrides = [f"{key}={rng.randint(1, keys[key])}" for key in rng.sample(sorted(keys), 2)]
        try:
            load_scenario(MIXTRAL, overrides)
        except InputError:
            refused += 1
            offered(MIXTRAL, *overrides)
    assert refused > 4


def test_a_key_is_read_and_set_by_its_dotted_name() -> None:
    scenario = load_scenario(V3)
    assert value_of(scenario, "phases.pretrain.batch_ramp.from") == 3072
    changed = with_value(scenario, "phases.pretrain.batch_ramp.from", 4096)
    assert value_of(changed, "phases.pretrain.batch_ramp.from") == 4096
    with pytest.raises(LookupError):
        value_of(scenario, "prices.none_such")
