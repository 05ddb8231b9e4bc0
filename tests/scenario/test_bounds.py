"""A bound is where it says it is: the last value that it names passes, the next one does not."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from simulator import load_scenario
from simulator.errors import InputError
from simulator.scenario import derived
from simulator.scenario.hardware import MEASURED_COMM_SMS, hardware_warnings

V3 = "deepseek-v3"
MEASUREMENTS = Path(__file__).parents[2] / "hwprofiles" / "measurements"
NODE = {
    "gpu": "h800", "gpus_per_node": 8, "scale_up_name": "NVLink", "scale_up_bytes_per_s": "200 GB/s",
    "scale_up_domain_gpus": 8, "nic_bytes_per_s": "50 GB/s", "nics_per_node": 4,
}  # fmt: skip


def refused(source: Any, *overrides: str) -> str:
    """All problems, a line each."""
    with pytest.raises(InputError) as caught:
        load_scenario(source, overrides)
    return str(caught.value)


def told(key: str, *overrides: str, source: Any = V3) -> list[str]:
    scenario = load_scenario(source, overrides)
    return [text for name, text in hardware_warnings(scenario) if name == key]


def document(**sections: Any) -> dict[str, Any]:
    small = {
        "model": "llama-3.1-8b",
        "cluster": {"node": "h100-x8", "num_gpus": 8},
        "phases": [{"name": "p", "steps": 1}],
    }
    return small | sections


def test_the_most_held_sms_are_those_of_the_measurement_and_more_are_told() -> None:
    with (MEASUREMENTS / "h100-sm-partition-2026-11-24.csv").open(encoding="utf-8") as file:
        columns = next(csv.reader(file))
    held = [int(name.split("_")[1]) for name in columns if name.startswith("beside_")]
    assert max(held) == MEASURED_COMM_SMS
    assert told("parallel.comm_sms", f"parallel.comm_sms={max(held)}") == []
    assert len(told("parallel.comm_sms", f"parallel.comm_sms={max(held) + 1}")) == 1


@pytest.mark.parametrize("ep", [2, 8, 64])
def test_messages_need_an_sm_and_leave_one(ep: int) -> None:
    """Of an H800's 132."""
    text = refused(V3, f"parallel.ep={ep}", "moe.max_nodes_per_token=null", "parallel.comm_sms=0")
    assert "allowed 1 to 131" in text
    load_scenario(V3, ["parallel.comm_sms=131"])
    assert "none is left to compute" in refused(V3, "parallel.comm_sms=132")


def test_the_least_node_limit_holds_a_token_s_experts() -> None:
    """256 experts on 64 GPUs: 32 a node of eight; 40 of a token need two nodes."""
    options = ("model.moe.top_k=40", "model.moe.num_expert_groups=1", "model.moe.max_groups_per_token=1")
    assert "allowed at least 2" in refused(V3, *options, "moe.max_nodes_per_token=1")
    load_scenario(V3, [*options, "moe.max_nodes_per_token=2"])


def test_a_port_is_compared_with_the_nic_on_it() -> None:
    """Four NICs of 50 GB/s on ports of 50 GB/s, whatever the number of GPUs."""
    cluster = {"node": NODE, "num_gpus": 16}
    assert told("cluster.fabric", source=document(cluster=cluster)) == []
    (text,) = told("cluster.fabric", source=document(cluster=cluster | {"fabric": "ib-800g-rail"}))
    assert text.startswith("100 GB/s at a port of ib-800g-rail, 50 GB/s at a NIC")


def test_a_fabric_that_nothing_crosses_is_not_told() -> None:
    fast = {"node": "h100-x8", "fabric": "ib-800g-rail"}
    assert told("cluster.fabric", source=document(cluster=fast | {"num_gpus": 8})) == []
    assert len(told("cluster.fabric", source=document(cluster=fast | {"num_gpus": 16}))) == 1


def test_rates_that_differ_by_more_than_rounding_are_told() -> None:
    """50 GB/s at a port are two hundredths more than 49 GB/s at a NIC."""
    node = {**NODE, "nics_per_node": 8, "nic_bytes_per_s": "49 GB/s"}
    assert len(told("cluster.fabric", source=document(cluster={"node": node, "num_gpus": 16}))) == 1
    close = {**node, "nic_bytes_per_s": "49.8 GB/s"}
    assert told("cluster.fabric", source=document(cluster={"node": close, "num_gpus": 16})) == []


def test_inline_hardware_keeps_the_name_that_it_is_given() -> None:
    named = load_scenario(document(cluster={"node": {**NODE, "name": "mine"}, "num_gpus": 8}))
    plain = load_scenario(document(cluster={"node": NODE, "num_gpus": 8}))
    assert [each.canonical()["cluster"]["node"]["name"] for each in (named, plain)] == ["mine", "inline"]


def test_the_largest_batch_that_is_named_passes_and_the_next_does_not() -> None:
    """250,000 layer passes of 32 layers are 7,812 micro-batches; each takes 2 sequences on each of 8 GPUs."""
    training = {"micro_batch_size": 2, "global_batch_size": 7812 * 16}
    load_scenario(document(training=training))
    text = refused(document(training=training | {"global_batch_size": 7813 * 16}))
    assert "allowed up to 124992" in text


def test_degrees_that_are_offered_divide_the_experts_too() -> None:
    """Of 48 replicas and 8 experts: neither 3 nor 6."""
    cluster = {"node": "h100-x8", "num_gpus": 48}
    text = refused(document(model="mixtral-8x7b", cluster=cluster, parallel={"ep": 5}))
    assert "ep 5 does not divide dp 48; allowed 1, 2, 4, 8\n" in f"{text}\n"


def test_a_token_s_experts_fit_in_its_groups() -> None:
    """32 experts a group."""
    one_group = ("model.moe.max_groups_per_token=1", "moe.max_nodes_per_token=null")
    load_scenario(V3, [*one_group, "model.moe.top_k=32"])
    assert "33 experts do not fit in max_groups_per_token 1 groups" in refused(V3, *one_group, "model.moe.top_k=33")


@pytest.mark.parametrize("activation", ["relu2", "gelu"])
def test_a_limit_is_of_a_gated_activation(activation: str) -> None:
    """As the torch model refuses it."""
    limited = ("model.moe.clamp=7.0", "model.moe.activation=geglu")
    load_scenario(V3, limited)
    text = refused(V3, *limited, f"model.moe.activation={activation}")
    assert "model.moe.clamp" in text and f"is 7, and {activation} has no gate" in text


RAMP = "phases.pretrain.batch_ramp={from: %d, over_tokens: 1e11, schedule_below: null}"


def test_a_ramp_begins_at_the_schedule_s_least_batch_or_at_the_full_one() -> None:
    """DualPipe on 16 ranks runs 32 micro-batches at least, of 128 sequences each."""
    for start in (4096, 15360):
        assert load_scenario(V3, [RAMP % start]).phases[0].batch_ramp is not None
    assert "allowed at least 4096, or name a schedule_below" in refused(V3, RAMP % 3840)
    assert "15488 is more than training.global_batch_size 15360" in refused(V3, RAMP % 15488)


def test_batches_that_are_offered_pass() -> None:
    """33 micro-batches are odd: 32 or 34 of 128 sequences."""
    text = refused(V3, "training.global_batch_size=4224", "phases=[{name: p, steps: 1}]")
    assert "which is 4096 or 4352 sequences" in text
    for batch in (4096, 4352):
        load_scenario(V3, [f"training.global_batch_size={batch}", "phases=[{name: p, steps: 1}]"])


def test_sixteen_files_may_extend_one_another(tmp_path: Path) -> None:
    """The sixteenth is the preset at the bottom."""
    below = V3
    for number in range(15):
        path = tmp_path / f"f{number}.yaml"
        path.write_text(f"schema_version: 1\nextends: {below}\n")
        below = path.name
    assert load_scenario(path) == load_scenario(V3)
    (tmp_path / "one-more.yaml").write_text(f"schema_version: 1\nextends: {below}\n")
    assert "more than 16 files deep" in refused(tmp_path / "one-more.yaml")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("{value: 0.1, low: 0.05, high: 0.09}", "needs low <= value <= high"),
        ("{value: 0.04, low: 0.05, high: 0.09}", "needs low <= value <= high"),
        ("{value: 0.1, low: -0.1, high: 0.2}", "assumptions.gpu_speed_cv"),
    ],
)
def test_an_override_lies_in_its_range_and_its_ends_in_the_unit_s(override: str, words: str) -> None:
    assert words in refused(V3, f"assumptions.gpu_speed_cv={override}")


def test_a_module_stands_there_once() -> None:
    assert "swiglu stands there twice" in refused(V3, "recompute.modules=[swiglu, swiglu]")


def test_nothing_is_kept_in_fp8_without_its_recipe() -> None:
    text = refused(V3, "precision=bf16", "recompute.saved.swiglu_in=fp8", "moe.dispatch_dtype=fp8")
    assert "recompute.saved.swiglu_in: not modelled yet" in text
    assert "moe.dispatch_dtype: not modelled yet" in text


def test_a_limit_of_nodes_that_just_holds_the_experts_of_a_token_is_enough() -> None:
    """32 experts a node in groups of 64 ranks: one node holds the 32 of a token, not 33."""
    one_node = ("moe.max_nodes_per_token=1", "model.moe.num_expert_groups=1", "model.moe.max_groups_per_token=1")
    load_scenario(V3, [*one_node, "model.moe.top_k=32"])
    assert "allowed at least 2" in refused(V3, *one_node, "model.moe.top_k=33")


@pytest.mark.parametrize("micro_batch_size", [1, 2, 4])
def test_micro_batches_hold_their_sequences(micro_batch_size: int) -> None:
    """15,360 sequences over 128 pipelines: 120 of one sequence, 60 of two, 30 of four (which dualpipe cannot run)."""
    options = [f"training.micro_batch_size={micro_batch_size}", "parallel.schedule=1f1b"]
    assert derived.num_micro_batches(load_scenario(V3, options)) == 120 // micro_batch_size


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("recompute={granularity: full, modules: [mlp]}",), "recompute.modules: are given, but full recomputes every"),
        (("recompute={granularity: full, method: block}",), "recompute.num_layers: is missing; method block"),
    ],
)
def test_full_recompute_says_what_it_needs(options: tuple[str, ...], words: str) -> None:
    assert words in refused(V3, *options)


@pytest.mark.parametrize(
    ("preset", "option", "words"),
    [
        ("deepseek-v3", "recompute.modules=[layer, mlp]", "mlp has no meaning beside layer"),
        ("deepseek-v3", "recompute.modules=[moe, shared_expert]", "shared_expert has no meaning beside moe"),
        ("deepseek-v3", "recompute.modules=[moe, experts]", "experts has no meaning beside moe"),
        (
            "llama-3.1-70b",
            "recompute.modules=[experts]",
            'experts has no meaning: model "llama-3.1-70b" has no experts',
        ),
        ("deepseek-v3", "recompute.modules=[moe, mlp, swiglu]", "swiglu has no meaning beside mlp and moe"),
        ("mixtral-8x22b", "recompute.modules=[mlp]", 'mlp has no meaning: model "mixtral-8x22b" has no dense layers'),
        ("mixtral-8x22b", "recompute.modules=[shared_expert]", "has no shared experts"),
        (
            "llama-3.1-70b",
            "moe.row_padding=16",
            'moe.row_padding: has no meaning: model "llama-3.1-70b" has no experts',
        ),
        ("llama-3.1-70b", "recompute.modules=[moe]", 'moe has no meaning: model "llama-3.1-70b" has no experts'),
        ("llama-3.1-70b", "recompute.method=block", "recompute.method: has no meaning with granularity selective"),
        ("llama-3.1-70b", "recompute.num_layers=2", "recompute.num_layers: has no meaning with granularity selective"),
    ],
)
def test_a_module_or_key_without_meaning_is_warned_of(preset: str, option: str, words: str) -> None:
    assert any(words in warning for warning in load_scenario(preset, [option]).warnings)


def test_another_granularity_drops_the_inherited_modules_and_method() -> None:
    full = load_scenario("deepseek-v3", ["recompute.granularity=full", "recompute.num_layers=2"])
    assert (full.recompute.modules, full.recompute.num_layers) == ((), 2)
    assert load_scenario("deepseek-v3", ["recompute=full"]).recompute.granularity == "full"


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("parallel.hsdp_group=8", "did you mean data_parallel.hsdp_group?"),
        ("training.sequence_parallel=true", "did you mean parallel.sequence_parallel?"),
        ("tp=8", "did you mean parallel.tp or parallel.overlap.tp?"),
        ("parallel.sequence_parallell=true", "zero_stage; did you mean sequence_parallel?"),
        ("model.attention.bias=true", "did you mean model.dense_ffn.bias or model.moe.bias?"),
        ("parallel.dp=8", "unknown key: it follows from others; write cluster.num_gpus = dp * tp * cp * pp"),
    ],
)
def test_a_key_in_a_wrong_section_names_the_right_one(option: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        load_scenario("deepseek-v3" if "attention" in option else "llama-3.1-70b", [option])
    (problem,) = caught.value.problems
    assert words in problem.message


def test_a_bucket_is_an_amount_of_bytes() -> None:
    for text in ("25000000", "25e6", "25 MB"):
        scenario = load_scenario("llama-3.1-70b", [f"data_parallel.bucket_bytes={text}"])
        assert scenario.data_parallel.bucket_bytes == 25_000_000
    with pytest.raises(InputError, match=r"bucket_bytes: '1 MB/s' is a bandwidth; expected an amount of bytes"):
        load_scenario("llama-3.1-70b", ["data_parallel.bucket_bytes=1 MB/s"])


def test_a_model_s_name_is_no_preset_s() -> None:
    with pytest.raises(InputError, match=r"8b is a model: write a file with model: llama-3[.]1-8b and its cluster"):
        load_scenario("llama-3.1-8b")
    with pytest.raises(InputError, match=r"a path ends in .yaml or has a /$"):
        load_scenario("llama-3.1-9b")
