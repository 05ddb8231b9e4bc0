"""A result document is closed, finite and consistent, and the same result is written as the same bytes."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from simulator.errors import InconsistentSimulation
from simulator.results.document import canonical, to_document, to_json
from simulator.results.interval import Estimate, Interval
from simulator.results.run_result import from_json
from simulator.results.step_memory import Memory, StageMemory
from simulator.results.step_result import PART_NAMES, AssumptionRow, Basis, PartTimes, RankTimes, StepTimes, parts_of

TEXT = (Path(__file__).parent / "data" / "made_up_run.json").read_text()
DOCUMENT = json.loads(TEXT)

CONTRACT: dict[str, Any] = {
    "": "schema_version scenario scenario_sha256 version stack stack_sha256 stack_kind dropped seed defaults_used model "
    "step memory placement phases totals steady_state price assumptions not_modelled warnings basis",
    "model": "num_parameters num_active_parameters num_mtp_parameters",
    "step": "step_s interval tokens_per_step tokens_per_s_per_gpu model_flop_per_token tflops mfu bubble_s "
    "exposed_comm_s optimizer_s by_rank parts by_category binding collectives",
    "step.mfu": "bf16_dense_causal bf16_dense_noncausal",
    "step.parts": "edge mean middle",
    "memory": "capacity_bytes usable_bytes peak_bytes_per_gpu fits margin verdict by_stage",
    "placement": "gpus_per_domain domain_gpus rule num_domains gpus_used gpus_paid gpus_idle expert_groups",
    "totals": "gpu_hours wall_s cost_usd",
    "totals.gpu_hours": "value low high",
    "steady_state": "gpu_hours_per_trillion_tokens gpu_hours cost_usd",
    "basis": "measured interpolated extrapolated transferred assumed",
}
ROWS = {
    "step.by_rank": "pp_rank forward_s backward_s weight_s overlapped_f_b_s bubble_s optimizer_s",
    "step.by_category": "category seconds share",
    "step.binding": "what seconds why",
    "step.collectives": "name ranks nodes bytes seconds gb_per_s counted_as limit basis",
    "placement.expert_groups": "groups ranks_by_domain is_simulated",
    "memory.by_stage": "pp_rank weights_bytes gradients_bytes optimizer_bytes activations_bytes "
    "buffers_bytes peak_bytes tensors",
    "memory.by_stage.0.tensors": "name kind bytes",
    "phases": "name kind tokens steps step_s wall_s gpu_hours cost_usd ramp",
    "assumptions": "key value low high source effect_on_gpu_hours",
}


def at(path: str) -> Any:
    value: Any = DOCUMENT
    for key in filter(None, path.split(".")):
        value = value[int(key) if key.isdecimal() else key]
    return value


@pytest.mark.parametrize("path", CONTRACT)
def test_keys_are_those_of_the_contract_in_its_order(path: str) -> None:
    assert list(at(path)) == CONTRACT[path].split()


@pytest.mark.parametrize("path", ROWS)
def test_keys_of_rows_are_those_of_the_contract(path: str) -> None:
    assert list(at(path)[0]) == ROWS[path].split()


def test_read_and_written_again_it_is_the_same_bytes() -> None:
    assert to_json(from_json(TEXT)) == TEXT
    assert TEXT.isascii()
    assert TEXT.endswith("}\n")


def test_no_key_of_a_rank_but_its_parts_ends_in_s() -> None:
    assert {key for key in RankTimes.model_fields if key.endswith("_s")} == set(PART_NAMES)


def test_what_was_not_computed_is_absent() -> None:
    result = from_json(TEXT)
    step = result.step.model_copy(update={"exposed_comm_s": None})
    assert "exposed_comm_s" not in to_document(result.model_copy(update={"step": step}))["step"]
    assert "null" not in to_json(AssumptionRow(key="a", value=1.0, source="b"))


def test_nulls_of_the_scenario_are_values_and_stay() -> None:
    assert to_document(from_json(TEXT))["scenario"]["reliability"] is None


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(ValidationError, match="extra"):
        from_json(json.dumps(DOCUMENT | {"surprise": 1}))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "1.0", True])
def test_numbers_are_finite_numbers(value: Any) -> None:
    with pytest.raises(ValidationError):
        Interval(low=value, high=value)


def test_nan_is_never_written() -> None:
    with pytest.raises(ValueError, match="no JSON number"):
        to_json({"a": [float("nan")]})
    with pytest.raises(TypeError, match="set"):
        to_json({"a": {1}})


def test_canonical_values_do_not_depend_on_the_order_of_keys() -> None:
    one, other = {"b": [{"d": 1, "c": 2}], "a": 3}, {"a": 3, "b": [{"c": 2, "d": 1}]}
    assert to_json(canonical(one)) == to_json(canonical(other))
    assert list(canonical(one)) == ["a", "b"]


def rank(pp_rank: int, **parts: float) -> RankTimes:
    return RankTimes(pp_rank=pp_rank, **{name: parts.get(name, 0.0) for name in PART_NAMES})


def test_parts_summarise_the_ranks() -> None:
    ranks = [rank(0, forward_s=4.0), rank(1, forward_s=3.0, bubble_s=1.0), rank(2, forward_s=2.0, bubble_s=2.0)]
    parts = parts_of(ranks)
    assert parts.edge.forward_s == 4.0
    assert parts.middle.forward_s == 3.0
    assert parts.mean == PartTimes(**(dict.fromkeys(PART_NAMES, 0.0) | {"forward_s": 3.0, "bubble_s": 1.0}))
    assert {part.total_s for part in (parts.edge, parts.middle, parts.mean)} == {4.0}


def test_parts_that_do_not_sum_to_the_step_are_a_broken_simulation() -> None:
    step = from_json(TEXT).step
    wrong = (*step.by_rank[:-1], rank(3, forward_s=step.step_s / 2))
    fields = {name: getattr(step, name) for name in StepTimes.model_fields}
    with pytest.raises(InconsistentSimulation, match="rank 3"):
        StepTimes(**(fields | {"by_rank": wrong}))
    with pytest.raises(InconsistentSimulation, match="outside its interval"):
        StepTimes(**(fields | {"interval": Interval.exact(step.step_s / 2)}))


def stage(pp_rank: int, peak_bytes: float) -> StageMemory:
    return StageMemory(
        pp_rank=pp_rank,
        weights_bytes=1,
        gradients_bytes=1,
        optimizer_bytes=1,
        activations_bytes=1,
        buffers_bytes=1,
        peak_bytes=peak_bytes,
    )


def test_tensors_sum_to_their_kinds_and_these_to_the_peak() -> None:
    rows = DOCUMENT["memory"]["by_stage"]
    whole = StageMemory.model_validate_json(json.dumps(rows[0]))
    assert whole.bytes_of("weights") == rows[0]["weights_bytes"]
    tensors = rows[0]["tensors"]
    swapped = [tensors[0] | {"kind": "buffers"}, *tensors[1:]]
    less = [tensors[0] | {"bytes": tensors[0]["bytes"] - 1}, *tensors[1:]]
    for wrong in ({"tensors": swapped}, {"tensors": less}, {"tensors": tensors[1:]}, {"peak_bytes": 1}):
        with pytest.raises(InconsistentSimulation, match="pipeline rank 0"):
            StageMemory.model_validate_json(json.dumps(rows[0] | wrong))


def test_memory_fits_where_the_worst_stage_does() -> None:
    stages = [stage(0, 5), stage(1, 8.2), stage(2, 10)]
    margin = Estimate(value=1.0, low=0.0, high=2.0)
    assert Memory.of(12, 10, stages, margin).fits
    assert not Memory.of(12, 9, stages, margin).fits
    assert Memory.of(12, 9, stages, margin).worst_stage.pp_rank == 2
    assert stages[1].peak_bytes == 9, "a part of a byte is a byte"


@pytest.mark.parametrize(
    ("capacity", "verdict"), [(9.9, "does not fit"), (10.0, "marginal"), (11.9, "marginal"), (12.0, "fits")]
)
def test_between_the_lowest_and_the_highest_margin_a_plan_is_marginal(capacity: float, verdict: str) -> None:
    """The peak is 8: with a margin of a quarter of it, and half of it, it needs 10 to 12."""
    found = Memory.of(round(10 * capacity), 999, [stage(0, 80)], Estimate(value=0.3, low=0.25, high=0.5))
    assert (found.verdict, found.fits) == (verdict, True)


def test_shares_by_basis_sum_to_one() -> None:
    basis = Basis.of_seconds({"measured": 3.0, "assumed": 1.0})
    assert (basis.measured, basis.assumed, basis.transferred) == (0.75, 0.25, 0.0)
    with pytest.raises(InconsistentSimulation, match="sum to"):
        Basis(measured=0.5, interpolated=0.4, extrapolated=0.0, transferred=0.0, assumed=0.0)


def test_intervals_are_ordered() -> None:
    with pytest.raises(ValidationError, match="above"):
        Interval(low=2.0, high=1.0)
    with pytest.raises(ValidationError, match="not between"):
        Estimate(value=3.0, low=1.0, high=2.0)
    assert Estimate.exact(2.0).interval == Interval.exact(2.0)
    total = Estimate(value=2.0, low=1.0, high=4.0).times(3.0) + Estimate.exact(1.0)
    assert total == Estimate(value=7.0, low=4.0, high=13.0)
