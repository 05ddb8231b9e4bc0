"""Sizes of a model: read from the catalogue's values, or refused by field, value and what is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.model.config import Ffn, Gqa, Layer, Mla, ModelConfig, Moe, Rope
from hwprofiles.yaml_file import read_yaml
from simulator.scenario.model_catalog import MODELS, load_model, model_names
from tests.hwprofiles.model.tiny import EXPERTS, MLA, deepseek

LATENT: Mapping[str, Any] = {
    "kind": "mla", "num_heads": 4, "q_lora_rank": 0, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4,
    "v_head_dim": 8,
}  # fmt: skip
GROUPED: Mapping[str, Any] = {"kind": "gqa", "num_heads": 4, "num_kv_heads": 2, "head_dim": 8}
ROUTED: Mapping[str, Any] = {"num_routed_experts": 16, "top_k": 4, "expert_intermediate_size": 24}
VALUES: Mapping[str, Any] = {
    "name": "written", "hidden_size": 32, "num_layers": 4, "vocab_size": 64, "attention": GROUPED, "num_dense_layers": 1,
    "dense_ffn": {"intermediate_size": 48}, "moe": ROUTED, "mtp": {"num_modules": 1},
}  # fmt: skip


def changed(path: str, value: Any) -> dict[str, Any]:
    """VALUES with one value in another place; sections by dots."""
    section, _, key = path.rpartition(".")
    return {**VALUES, section: {**VALUES[section], key: value}} if section else {**VALUES, key: value}


@pytest.mark.parametrize("name", model_names())
def test_every_layer_of_the_catalogue_is_the_simulators(name: str) -> None:
    config, model = ModelConfig.of(read_yaml(MODELS / f"{name}.yaml").data), load_model(name)
    assert "".join("m" if isinstance(layer.ffn, Moe) else "d" for layer in config.layers) == model.layers
    for number, layer in enumerate(config.layers):
        theirs = model.at_layer(number).attention.model_dump(exclude={"kind", "window_pattern"})
        assert {key: getattr(layer.attention, key) for key in theirs} == theirs
        if isinstance(layer.ffn, Moe):
            assert model.moe is not None and layer.ffn.group_top == (2 if model.moe.router_bias else 1)
            ours = (
                layer.ffn.num_experts,
                layer.ffn.top_k,
                layer.ffn.expert.width,
                layer.ffn.num_shared,
                layer.ffn.has_bias,
            )
            moe = model.moe
            assert ours == (
                moe.num_routed_experts, moe.top_k, moe.expert_intermediate_size, moe.num_shared_experts, moe.router_bias
            )  # fmt: skip
            assert layer.ffn.clamp == moe.clamp
            assert layer.ffn.is_normalised == (moe.top_k > 1)
        else:
            assert model.dense_ffn is not None and layer.ffn.width == model.dense_ffn.intermediate_size
    assert (config.num_mtp, config.tied_embeddings) == (model.mtp.num_modules, model.tied_embeddings)


def test_what_no_time_depends_on_can_be_said_too() -> None:
    moe = {**ROUTED, "weight_scale": 16.0, "is_normalised": False}
    config = ModelConfig.of(
        {**VALUES, "moe": moe, "mtp": None, "layer_pattern": None}, rope=Rope(factor=40.0), norm_eps=1e-5
    )
    assert config.rope.factor == 40.0 and config.norm_eps == 1e-5 and config.num_mtp == 0
    ffn = config.layers[1].ffn
    assert isinstance(ffn, Moe) and (ffn.weight_scale, ffn.is_normalised) == (16.0, False)


def test_patterns_of_layers() -> None:
    config = ModelConfig.of({
        **VALUES, "num_layers": 9, "layer_pattern": "d*2 m", "attention": {**GROUPED, "window": 3, "window_pattern": "w*3 f"},
    })  # fmt: skip
    assert "".join("m" if isinstance(layer.ffn, Moe) else "d" for layer in config.layers) == "dddmddmdd"
    windows = [layer.attention.window for layer in config.layers if isinstance(layer.attention, Gqa)]
    assert windows == [3, 3, 3, None, 3, 3, 3, None, 3]


NUMBERS = (
    "hidden_size", "num_layers", "vocab_size", "num_dense_layers", "learned_positions", "mtp.num_modules",
    "attention.num_heads", "attention.num_kv_heads", "attention.head_dim", "dense_ffn.intermediate_size",
    "moe.num_routed_experts", "moe.top_k",
    "moe.expert_intermediate_size", "moe.num_shared_experts", "moe.num_expert_groups", "moe.max_groups_per_token",
)  # fmt: skip


@pytest.mark.parametrize("path", NUMBERS)
@pytest.mark.parametrize("value", ["64", -1, True, None, 2.0, float("nan"), [4], 10**12], ids=repr)
def test_a_size_is_a_whole_number_in_range(path: str, value: Any) -> None:
    with pytest.raises(CalibrationError) as caught:
        ModelConfig.of(changed(path, value))
    (problem,) = caught.value.problems
    assert problem.field == path and repr(value) in problem.message and "a whole number of" in problem.message


@pytest.mark.parametrize("path", [*NUMBERS[:3], "attention.num_heads", "dense_ffn.intermediate_size", "moe.top_k"])
def test_no_size_is_zero(path: str) -> None:
    with pytest.raises(CalibrationError, match=rf"^{path}: is 0; a whole number of 1 to"):
        ModelConfig.of(changed(path, 0))


@pytest.mark.parametrize(
    "path", ["tied_embeddings", "attention.rope", "attention.bias", "dense_ffn.bias", "moe.router_bias"]
)
@pytest.mark.parametrize("value", ["true", 1, None])
def test_a_yes_or_no_is_one(path: str, value: Any) -> None:
    with pytest.raises(CalibrationError, match=rf"^{path}: is {value!r}; true or false$"):
        ModelConfig.of(changed(path, value))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("name", 3, "name: is 3; a text"),
        ("norm", "rms", "norm: is 'rms'; allowed layernorm, rmsnorm; did you mean rmsnorm?"),
        ("moe.score", "sigmod", "moe.score: is 'sigmod'; allowed sigmoid, softmax; did you mean sigmoid?"),
        ("moe.activation", "silu", "moe.activation: is 'silu'; allowed geglu, gelu, relu2, swiglu"),
        ("dense_ffn.activation", None, "dense_ffn.activation: is None; allowed geglu, gelu, relu2, swiglu"),
        ("moe.weight_scale", float("nan"), "moe.weight_scale: is nan; a number above 0"),
        ("moe.weight_scale", "2.5", "moe.weight_scale: is '2.5'; a number above 0"),
        ("attention", None, "attention: is None; a mapping of "),
        ("attention", {"num_heads": 4}, "attention.kind: is None; allowed mla, gqa"),
        ("attention.kind", "mha", "attention.kind: is 'mha'; allowed mla, gqa"),
        ("attention.sinkz", True, "attention.sinkz: is no key of attention; allowed "),
        ("attention.window", 0, "attention.window: is 0; a whole number of 1 to 2147483647, or null for all tokens"),
        ("attention.window_pattern", "w f", "attention.window_pattern: is given without a window"),
        ("attention", {**GROUPED, "window": 4, "window_pattern": "w x"}, "attention.window_pattern: is 'w x'; a pattern of w"),
        ("attention", {**LATENT, "q_lora_rank": -1}, "attention.q_lora_rank: is -1; a whole number of 0 to"),
        ("attention", {**LATENT, "window": 4}, "attention.window: is no key of attention"),
        ("attention", {**LATENT, "qk_rope_head_dim": 5}, "attention.qk_rope_head_dim: is 5; even"),
        ("attention.num_kv_heads", 3, "attention.num_kv_heads: 3 does not divide num_heads 4; allowed 1, 2, 4"),
        ("attention.head_dim", 7, "attention.head_dim: is 7; even"),
        ("dense_ffn", None, "dense_ffn: is missing, and layer 0 of 4 is dense"),
        ("dense_ffn", [48], "dense_ffn: is [48]; a mapping of intermediate_size"),
        ("dense_ffn", {}, "dense_ffn.intermediate_size: is missing"),
        ("dense_ffn.width", 4, "dense_ffn.width: is no key of dense_ffn"),
        ("moe", None, "moe: is missing, and layer 1 of 4 has experts"),
        ("moe", "none", "moe: is 'none'; a mapping of"),
        ("moe.topk", 4, "moe.topk: is no key of moe; allowed "),
        ("moe.num_expert_groups", 5, "moe.num_expert_groups: 5 does not divide num_routed_experts 16"),
        ("moe.max_groups_per_token", 2, "moe.max_groups_per_token: 2 is more than the num_expert_groups 1"),
        ("moe.top_k", 17, "moe.top_k: 17 is more than the 16 experts of 1 of 1 groups"),
        ("mtp", False, "mtp: is False; a mapping of"),
        ("mtp", {"modules": 1}, "mtp.modules: is no key of mtp; allowed num_modules"),
        ("num_dense_layers", 5, "num_dense_layers: is 5, and num_layers 4; at most as many"),
        ("layer_pattern", "", "layer_pattern: is ''; a pattern of d and m"),
        ("layer_pattern", "d*0 m", "layer_pattern: is 'd*0 m'; a pattern of d and m"),
        ("layer_pattern", 3, "layer_pattern: is 3; a pattern of d and m"),
        ("hidden", 4, "hidden: is no key of a model; allowed "),
        (7, 4, "7: is no key of a model; allowed "),
    ],
)  # fmt: skip
def test_what_cannot_be_is_named_once(path: Any, value: Any, message: str) -> None:
    with pytest.raises(CalibrationError) as caught:
        ModelConfig.of(changed(path, value) if isinstance(path, str) else {**VALUES, path: value})
    assert str(caught.value).startswith(message) and len(caught.value.problems) == 1


def test_what_is_missing_is_named_all_at_once() -> None:
    with pytest.raises(CalibrationError) as caught:
        ModelConfig.of({"name": "empty", "num_layers": 2})
    assert [problem.field for problem in caught.value.problems] == [
        "hidden_size",
        "vocab_size",
        "attention",
        "num_dense_layers",
    ]
    for nothing in (None, [], "deepseek-v3", 4):
        with pytest.raises(CalibrationError, match="a mapping of"):
            ModelConfig.of(nothing)  # type: ignore[arg-type]


def test_a_change_is_a_field() -> None:
    with pytest.raises(
        CalibrationError, match=r"^hidden: is no field of a configuration; allowed .*; did you mean hidden_size"
    ):
        ModelConfig.of(VALUES, hidden=4)
    with pytest.raises(CalibrationError, match=r"^init_std: is 'wide'; a number at least 0$"):
        ModelConfig.of(VALUES, init_std="wide")


DENSE = Layer(MLA, Ffn(8))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": ()}, r"layers: is \(\); a tuple of config.Layer, at least one"),
        ({"layers": [DENSE]}, r"layers: is \[.*; a tuple"),
        ({"layers": (DENSE, "moe")}, r"layers\.1: is 'moe'; a config.Layer"),
        ({"layers": (Layer(None, Ffn(8)),)}, "attention: is None; a config.Mla or a config.Gqa"),  # type: ignore[arg-type]
        ({"layers": (Layer(MLA, 8),)}, "ffn: is 8; a config.Ffn or a config.Moe"),  # type: ignore[arg-type]
        ({"layers": (Layer(MLA, replace(EXPERTS, expert=8)),)}, "moe.expert: is 8; a config.Ffn"),
        ({"layers": (Layer(Mla(0, 1, 1, 1, 2, 1), Ffn(8)),)}, "attention.num_heads: is 0"),
        ({"layers": (Layer(MLA, replace(EXPERTS, group_top=0)),)}, "moe.group_top: is 0"),
        ({"rope": None}, "rope: is None; a config.Rope"),
        ({"rope": Rope(theta=0.0)}, "rope.theta: is 0.0; a number above 0"),
        ({"rope": Rope(factor=0.5)}, "rope.factor: is 0.5; at least 1"),
        ({"rope": Rope(factor=float("inf"))}, "rope.factor: is inf; a number above 0"),
        ({"rope": Rope(beta_fast=1.0)}, "rope.beta_fast: is 1.0; more than beta_slow 1.0"),
        ({"norm_eps": 0.0}, "norm_eps: is 0.0; a number above 0"),
        ({"init_std": float("nan")}, "init_std: is nan; a number at least 0"),
        ({"num_mtp": -1}, "mtp.num_modules: is -1; a whole number of 0"),
    ],
)
def test_a_configuration_by_hand_is_held_to_the_same(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CalibrationError, match=f"^{message}"):
        deepseek(**change)


def test_all_problems_come_at_once() -> None:
    with pytest.raises(CalibrationError) as caught:
        deepseek(norm_eps=-1.0, rope=Rope(theta=-1.0), layers=(Layer(MLA, Ffn(0)), DENSE))
    assert [problem.field for problem in caught.value.problems] == [
        "norm_eps",
        "rope.theta",
        "dense_ffn.intermediate_size",
    ]
