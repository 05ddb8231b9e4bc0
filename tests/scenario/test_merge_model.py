"""A few keys of a model change the model that is inherited by name; a mapping with all dimensions replaces it."""

from __future__ import annotations

import pytest

from simulator import load_scenario
from simulator.errors import InputError


def test_keys_of_an_inherited_model_change_it() -> None:
    base = load_scenario("deepseek-v3").model
    changed = load_scenario("deepseek-v3", ["model.hidden_size=6144", "model.num_layers=60"]).model
    assert changed == base.model_copy(update={"hidden_size": 6144, "num_layers": 60})


def test_another_kind_of_attention_replaces_the_inherited_keys() -> None:
    gqa = "model.attention={kind: gqa, num_heads: 64, num_kv_heads: 8, head_dim: 128}"
    assert load_scenario("deepseek-v3", [gqa]).model.attention.kind == "gqa"


def test_a_whole_mapping_replaces_the_model() -> None:
    dense = (
        "model={name: small, hidden_size: 1024, num_layers: 16, vocab_size: 32000, num_dense_layers: 16, "
        "dense_ffn: {intermediate_size: 4096}, attention: {kind: gqa, num_heads: 8, num_kv_heads: 8, head_dim: 128}}"
    )
    model = load_scenario("deepseek-v3", [dense, "parallel.ep=1", "moe.max_nodes_per_token=null"]).model
    assert model.moe is None
    assert model.mtp.num_modules == 0


def test_an_unknown_key_of_a_model_is_refused_with_its_position() -> None:
    with pytest.raises(InputError, match=r"overrides\[0\]: model\.hidden_sise"):
        load_scenario("deepseek-v3", ["model.hidden_sise=6144"])


@pytest.mark.parametrize(
    "keys", [["model.num_layers=4", "model.hidden_size=6144"], ["model={num_layers: 4, hidden_size: 6144}"]]
)
def test_keys_change_the_model_that_an_earlier_option_names(keys: list[str]) -> None:
    base = load_scenario("llama-3.1-70b", ["model=mixtral-8x7b"]).model
    options = ["parallel.pp=4", "model=mixtral-8x7b", *keys]
    changed = load_scenario("llama-3.1-70b", options).model
    assert changed == base.model_copy(update={"hidden_size": 6144, "num_layers": 4})
    assert load_scenario("llama-3.1-70b", [*options, "model=llama-3.1-8b"]).model.name == "llama-3.1-8b"


def test_an_unknown_model_whose_keys_are_changed_is_refused_at_its_option() -> None:
    with pytest.raises(InputError, match=r"overrides\[0\]: model: no model of the name"):
        load_scenario("llama-3.1-70b", ["model=mixtral-9x9b", "model.num_layers=4"])


def test_a_section_given_as_a_word_and_a_key_of_it_are_both_kept() -> None:
    precision = load_scenario("deepseek-v3", ["precision=bf16", "precision.head=bf16"]).precision
    assert precision.recipe == "bf16"


def test_a_key_below_a_value_that_an_earlier_option_gives_is_refused() -> None:
    with pytest.raises(InputError, match=r"overrides\[1\]: training\.seq_len: is set to 4096 by an earlier option"):
        load_scenario("deepseek-v3", ["training.seq_len=4096", "training.seq_len.tokens=1"])


def test_what_a_model_drops_is_told() -> None:
    scenario = load_scenario("deepseek-v3", ["model=kimi-k2"])
    assert scenario.moe.max_nodes_per_token is None
    assert scenario.dropped == ("moe.max_nodes_per_token 4, chosen for another model",)
    assert load_scenario("deepseek-v3", ["model=kimi-k2", "moe.max_nodes_per_token=4"]).dropped == ()
    assert load_scenario("deepseek-v3", ["model.num_layers=60"]).dropped == ()
