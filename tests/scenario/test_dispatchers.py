"""Dispatchers of a scenario: who may name one, what it sets, what is said of keys that do not act."""

from __future__ import annotations

import pytest

from simulator import load_scenario
from simulator.errors import InputError
from simulator.scenario import derived
from simulator.scenario.dispatchers import DEFAULT, DISPATCHERS

MIXTRAL = "mixtral-8x22b"


def warnings(*overrides: str) -> str:
    return "\n".join(map(str, load_scenario(MIXTRAL, overrides).warnings))


def refusal(*overrides: str) -> str:
    with pytest.raises(InputError) as error:
        load_scenario(MIXTRAL, overrides)
    return "\n".join(map(str, error.value.problems))


def test_each_dispatcher_holds_its_own_sms_unless_others_are_given() -> None:
    assert load_scenario(MIXTRAL).moe.dispatcher == DEFAULT
    for name in DISPATCHERS:
        assert derived.comm_sms(load_scenario(MIXTRAL, [f"moe.dispatcher={name}"])) == DISPATCHERS[name].comm_sms
    assert derived.comm_sms(load_scenario(MIXTRAL, ["parallel.comm_sms=7"])) == 7


def test_the_library_s_messages_are_bf16_unless_the_file_says_fp8() -> None:
    fp8 = ("precision.recipe=fp8-blockwise", "moe.dispatch_dtype=null")
    formats = {
        name: load_scenario(MIXTRAL, [*fp8, f"moe.dispatcher={name}"]).moe.dispatch_dtype for name in DISPATCHERS
    }
    assert formats == {"deepep": "fp8", "hybridep": "fp8", "alltoall": "bf16", "allgather": "bf16"}
    given = ("precision.recipe=fp8-blockwise", "moe.dispatch_dtype=fp8", "moe.dispatcher=alltoall")
    assert "moe.dispatch_dtype: fp8, which alltoall" in warnings(*given)


def test_a_gpu_that_cannot_run_a_library_is_named_with_what_it_can() -> None:
    told = refusal("moe.dispatcher=hybridep", "cluster.node=mi300x-x8")
    assert "moe.dispatcher" in told
    assert "hopper and blackwell, but mi300x is of cdna3" in told
    assert "allgather, alltoall, deepep" in told
    assert "unknown dispatcher 'deepp'" in refusal("moe.dispatcher=deepp")


def test_keys_without_meaning_say_so() -> None:
    assert "has no meaning with ep 1" in warnings("moe.dispatcher=alltoall", "parallel.ep=1")
    keys = {"dispatcher": "alltoall", "permute_fusion": "false", "router_fusion": "true", "expert_fusion": "false"}
    keys |= {"pad_copies": "true"}
    dense = load_scenario("llama-3.1-70b", [f"moe.{key}={value}" for key, value in keys.items()]).warnings
    told = [each for each in map(str, dense) if "has no experts" in each]
    assert all(any(f"moe.{key}" in each for each in told) for key in keys)
