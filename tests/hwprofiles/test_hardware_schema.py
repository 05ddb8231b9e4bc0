"""Law: a record is closed, frozen and bounded; nothing that is not a finite number of the right unit becomes one."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from hwprofiles.kernels.rows import KernelTable
from hwprofiles.price_records import PriceEntry, PriceSheet
from hwprofiles.schema import Fabric, Gpu, Node
from hwprofiles.stack_records import Assumption, Parameter, Stack, StackProvenance

SOURCE = {"kind": "datasheet", "where": "a data sheet", "date": "2025-05"}
GPU: dict[str, Any] = {
    "name": "g1",
    "vendor": "V",
    "family": "f",
    "peak_flop_per_s": {"bf16": "989.4 TFLOP/s", "fp8": 1978.9e12},
    "hbm_bytes": "80 GB",
    "hbm_bytes_per_s": "3.35 TB/s",
    "num_sms": 132,
    "tdp_w": "700 W",
}
NODE: dict[str, Any] = {
    "name": "n1",
    "gpu": "g1",
    "gpus_per_node": 8,
    "scale_up_name": "NVLink 4",
    "scale_up_bytes_per_s": "450 GB/s",
    "scale_up_domain_gpus": 8,
    "nic_bytes_per_s": "400 Gb/s",
    "nics_per_node": 8,
}
FABRIC: dict[str, Any] = {
    "name": "f1",
    "technology": "infiniband",
    "topology": "fat_tree",
    "num_planes": 1,
    "port_bytes_per_s": "400 Gb/s",
    "switch_ports": 64,
    "num_layers": 2,
    "oversubscription": 1,
    "latency_same_leaf_s": "2.8 us",
    "latency_cross_leaf_s": "3.7 us",
    "routing": "adaptive",
}
ASSUMPTION: dict[str, Any] = {
    "key": "k",
    "value": 2.0,
    "low": 1,
    "high": 3.0,
    "unit": "tokens",
    "source": "me",
    "reason": "so",
}
PARAMETER: dict[str, Any] = {"value": 2.0, "low": 1.0, "high": 3.0, "unit": "s", "basis": "measured", "source": SOURCE}
PRICE: dict[str, Any] = {"usd_per_gpu_hour": 2.0, "low": 1.0, "high": 3.0, "source": SOURCE}
SHEET: dict[str, Any] = {
    "name": "s1",
    "currency": "USD",
    "good_for_months": 12,
    "date": "2025-05",
    "description": "d",
    "entries": {"g1": PRICE},
}

RECORDS: list[tuple[type[BaseModel], dict[str, Any]]] = [
    (Gpu, GPU),
    (Node, NODE),
    (Fabric, FABRIC),
    (Assumption, ASSUMPTION),
    (Parameter, PARAMETER),
    (PriceEntry, PRICE),
    (PriceSheet, SHEET),
]
UNIT_SUFFIXES = ("_s", "_bytes", "_w")
NUMBERS = [
    (model, data, key)
    for model, data in RECORDS
    for key, value in data.items()
    if (isinstance(value, (int, float)) and not isinstance(value, bool))
    or (key.endswith(UNIT_SUFFIXES) and key != "peak_flop_per_s")
]


def number_id(value: object) -> str:
    return value if isinstance(value, str) else getattr(value, "__name__", "")


@pytest.mark.parametrize(("model", "data"), RECORDS)
def test_a_good_record_is_read_frozen_and_closed(model: type[BaseModel], data: dict[str, Any]) -> None:
    record = model.model_validate(data)
    assert pickle.loads(pickle.dumps(record)) == record
    assert model.model_validate_json(record.model_dump_json()) == record
    with pytest.raises(ValidationError):
        record.__setattr__(next(iter(data)), 1)
    with pytest.raises(ValidationError, match="extra"):
        model.model_validate({**data, "unknown_key": 1})
    for key in set(data) - {"low", "high", "basis"}:
        with pytest.raises(ValidationError, match="required"):
            model.model_validate({other: value for other, value in data.items() if other != key})


@pytest.mark.parametrize(
    "bad",
    [math.nan, math.inf, -math.inf, True, "8", "", "8 apples", None, [1], {"value": 1}, 1e30, -1, -1e-9, "1e999 s"],
)
@pytest.mark.parametrize(("model", "data", "key"), NUMBERS, ids=number_id)
def test_what_is_no_number_of_the_unit_is_refused(
    model: type[BaseModel], data: dict[str, Any], key: str, bad: Any
) -> None:
    if key in ("low", "high") and (
        bad is None or (model is not PriceEntry and isinstance(bad, (int, float)) and -2 < bad < 0)
    ):
        return  # no range is a point range, and a parameter's range may reach below zero
    with pytest.raises(ValidationError):
        model.model_validate({**data, key: bad})


def test_text_with_units_and_bare_si_agree() -> None:
    bare = {
        **GPU,
        "hbm_bytes": 80 * 10**9,
        "hbm_bytes_per_s": 3.35e12,
        "tdp_w": 700,
        "peak_flop_per_s": {"bf16": 989.4e12, "fp8": 1978.9e12},
    }
    assert Gpu.model_validate(bare) == Gpu.model_validate(GPU)
    assert Gpu.model_validate({**bare, "hbm_bytes": 80e9}) == Gpu.model_validate(GPU)
    assert type(Gpu.model_validate(GPU).hbm_bytes) is int


@pytest.mark.parametrize(
    ("model", "data", "change", "words"),
    [
        (Gpu, GPU, {"peak_flop_per_s": {"fp8": 1e15}}, "bf16 is missing"),
        (Gpu, GPU, {"peak_flop_per_s": {"bf16": 1e15, "fp8": 9e14}}, "narrower"),
        (Gpu, GPU, {"peak_flop_per_s": {"bf16": 1e15, "int8": 9e15}}, "int8"),
        (Gpu, GPU, {"hbm_bytes": "80 GB/s"}, "expected an amount of bytes"),
        (Gpu, GPU, {"hbm_bytes": 80e9 + 0.5}, "hbm_bytes"),
        (Gpu, GPU, {"name": "../h100"}, "name"),
        (Gpu, GPU, {"name": "H100"}, "name"),
        (Gpu, GPU, {"sources": {"hbm": SOURCE}}, "sources.hbm: no field of that name"),
        (Gpu, GPU, {"sources": {"hbm_bytes": {**SOURCE, "kind": "rumour"}}}, "kind"),
        (Gpu, GPU, {"sources": {"hbm_bytes": {**SOURCE, "date": "May 2025"}}}, "2025-05"),
        (Gpu, GPU, {"sources": {"hbm_bytes": {**SOURCE, "where": ""}}}, "where"),
        (Node, NODE, {"nic_bytes_per_s": "400 GB"}, "expected a bandwidth"),
        (Node, NODE, {"nic_bytes_per_s": "4 TB/s"}, "nic_bytes_per_s"),
        (Node, NODE, {"scale_up_domain_gpus": 12}, "no multiple"),
        (Node, NODE, {"scale_up_domain_gpus": 4}, "no multiple"),
        (Node, NODE, {"scale_up_peer_bytes_per_s": "451 GB/s"}, "peers together"),
        (Fabric, FABRIC, {"latency_cross_leaf_s": "2 us"}, "shorter"),
        (Fabric, FABRIC, {"latency_same_leaf_s": "2.8"}, "no unit"),
        (Fabric, FABRIC, {"topology": ""}, "topology"),
        (Fabric, FABRIC, {"routing": "hashed"}, "routing"),
        (Fabric, FABRIC, {"oversubscription": 0.5}, "oversubscription"),
        (Assumption, ASSUMPTION, {"value": 4.0}, "low <= value <= high"),
        (Assumption, ASSUMPTION, {"reason": ""}, "reason"),
        (Parameter, PARAMETER, {"low": 2.5}, "low <= value <= high"),
        (Parameter, PARAMETER, {"basis": "guessed"}, "basis"),
        (PriceEntry, PRICE, {"high": 1.5}, "low <= usd_per_gpu_hour <= high"),
        (PriceSheet, SHEET, {"currency": "EUR"}, "currency"),
        (PriceSheet, SHEET, {"date": ""}, "date"),
        (PriceSheet, SHEET, {"date": "2025-13"}, "date"),
    ],
)
def test_contradictions_are_refused(
    model: type[BaseModel], data: dict[str, Any], change: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        model.model_validate({**data, **change})
    assert words in str(caught.value)


def test_a_range_defaults_to_the_value_and_text_is_the_weakest_source() -> None:
    parameter = Parameter.model_validate({"value": 2.0, "unit": "s", "source": "a page"})
    assert (parameter.low, parameter.high, parameter.basis) == (2.0, 2.0, "assumed")
    assert (parameter.source.kind, parameter.source.where) == ("assumed", "a page")
    assert Parameter.model_validate({"value": 2, "low": None, "unit": "s", "source": "a page"}) == parameter


def test_a_usual_limit_is_not_below_the_boards() -> None:
    assert Gpu.model_validate({**GPU, "tdp_w": "500 W", "usual_tdp_w": "700 W"}).usual_tdp_w == 700.0
    with pytest.raises(ValueError, match="usual_tdp_w: below tdp_w"):
        Gpu.model_validate({**GPU, "usual_tdp_w": "500 W"})


def test_unsourced_names_what_has_no_source() -> None:
    gpu = Gpu.model_validate({**GPU, "sources": {"hbm_bytes": SOURCE, "peak_flop_per_s.fp8": SOURCE}})
    assert set(gpu.unsourced()) == {"peak_flop_per_s.bf16", "hbm_bytes_per_s", "num_sms", "tdp_w"}
    whole = Gpu.model_validate({**GPU, "sources": {"peak_flop_per_s": SOURCE}})
    assert not any(key.startswith("peak") for key in whole.unsourced())


PROVENANCE = {"gpu": "g1", "description": "d", "software": "s", "state": "benchmark_loop", "sources": {"here": SOURCE}}


def stack(**changes: Any) -> Stack:
    values: dict[str, Any] = {
        "name": "s1",
        "gpu": "g1",
        "description": "d",
        "kernels": KernelTable(),
        "provenance": StackProvenance.model_validate(PROVENANCE),
        "parameters": {"a": Parameter.model_validate(PARAMETER), "b": Parameter.model_validate(PARAMETER)},
        "assumptions": {"k": Assumption.model_validate(ASSUMPTION)},
    }
    return Stack(**{**values, **changes})


def test_the_hash_of_a_stack_is_that_of_its_values() -> None:
    one = stack()
    assert len(one.sha256) == 64 and one.sha256 == stack().sha256
    assert stack(parameters=dict(reversed(one.parameters.items()))).sha256 == one.sha256
    changed = Parameter.model_validate({**PARAMETER, "value": 2.0000000000000004})
    changes: list[dict[str, Any]] = [
        {"name": "s2"},
        {"gpu": "g2"},
        {"parameters": {**one.parameters, "a": changed}},
        {"parameters": {"a": one.parameters["a"]}},
        {"assumptions": {}},
        {"provenance": StackProvenance.model_validate({**PROVENANCE, "state": "sustained"})},
    ]
    hashes = {stack(**change).sha256 for change in changes}
    assert len(hashes | {one.sha256}) == len(changes) + 1


@pytest.mark.parametrize(("wide", "narrow"), [("tf32", "bf16"), ("bf16", "fp8"), ("fp8", "fp4"), ("tf32", "fp4")])
def test_a_narrower_format_is_never_slower(wide: str, narrow: str) -> None:
    """Tensor cores multiply at least as many numbers of fewer bits."""
    peaks = {"tf32": 1e14, "bf16": 2e14, "fp8": 4e14, "fp4": 8e14}
    assert Gpu.model_validate({**GPU, "peak_flop_per_s": peaks})
    peaks[wide], peaks[narrow] = peaks[narrow], peaks[wide]
    with pytest.raises(ValidationError, match="a narrower format is slower"):
        Gpu.model_validate({**GPU, "peak_flop_per_s": peaks})
