"""Law: every catalogue file loads, says where each of its numbers comes from, and obeys physics.

A wrong name names the right ones.
"""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hwprofiles import catalog
from hwprofiles.catalog import CatalogError, list_names, load_fabric, load_gpu, load_node, load_prices
from hwprofiles.price_records import PriceSheet
from hwprofiles.schema import Fabric, Gpu, Node
from hwprofiles.stack_choice import default_stack, load_stack, stack_names

ROOT = Path(catalog.__file__).parent
REFERENCE = Path(__file__).parents[3] / "shared" / "reference"
GPUS = [load_gpu(name) for name in list_names("gpus")]
NODES = [load_node(name) for name in list_names("nodes")]
FABRICS = [load_fabric(name) for name in list_names("fabrics")]
SHEETS = [load_prices(name) for name in list_names("prices")]

PROMISED_NODES = {
    "a100-x8", "h100-x8", "h200-x8", "h800-x8", "h20-x8", "b200-x8", "b300-x8", "gb200-nvl72", "gb300-nvl72",
    "mi300x-x8", "mi325x-x8", "mi355x-x8",
}  # fmt: skip
PROMISED_FABRICS = {
    "ib-400g-8plane",
    "ib-400g-rail",
    "ib-400g-fattree",
    "roce-400g-rail",
    "ib-800g-rail",
    "ib-200g-rail",
}

HBM_REPORTED_OVER_PRINTED = (0.95, 1.08)
"""A printed GB may be 10^9 or 2^30 bytes, and firmware keeps a few per cent."""


MARKS = (".com", ".org", ".ai", "arXiv:", "docs.", " page", "hwprofiles/measurements/")
"""What names a document, or a measurement of our own."""


def by_name(record: Gpu | Node | Fabric | PriceSheet) -> str:
    return record.name


def test_the_promised_names_are_there() -> None:
    assert PROMISED_NODES.issubset(list_names("nodes"))
    assert PROMISED_FABRICS.issubset(list_names("fabrics"))
    assert {node.gpu for node in NODES} <= set(list_names("gpus"))
    assert len(SHEETS) >= 2


@pytest.mark.parametrize("record", [*GPUS, *NODES, *FABRICS], ids=by_name)
def test_every_number_has_a_source(record: Gpu | Node | Fabric) -> None:
    assert record.unsourced() == ()
    for key, source in record.sources.items():
        assert len(source.where) > 5, key
        if source.kind in ("datasheet", "paper", "measurement", "second_hand"):
            assert any(mark in source.where for mark in MARKS), key


@pytest.mark.parametrize("gpu", GPUS, ids=by_name)
def test_a_gpu_obeys_physics(gpu: Gpu) -> None:
    peak = gpu.peak_flop_per_s
    assert peak["bf16"] == peak["fp16"]
    for narrow, wide in (("fp8", "bf16"), ("bf16", "tf32")):
        if narrow in peak and wide in peak:
            assert peak[narrow] / peak[wide] == pytest.approx(2.0, rel=1e-3)
    if "fp4" in peak:
        assert 2.0 <= peak["fp4"] / peak["fp8"] <= 3.0
    assert 30 <= peak["bf16"] / gpu.hbm_bytes_per_s <= 450, "FLOP per byte of HBM"
    assert 20 <= gpu.hbm_bytes_per_s / gpu.hbm_bytes <= 50, "reads of the whole memory a second"
    assert 0.2e12 <= peak["bf16"] / gpu.tdp_w <= 3e12, "FLOP/s a watt"
    if gpu.device_bytes is not None:
        low, high = HBM_REPORTED_OVER_PRINTED
        assert low <= gpu.device_bytes / gpu.hbm_bytes <= high
        assert gpu.device_bytes <= gpu.hbm_bytes * 2**30 / 1e9
    if gpu.boost_clock_hz is not None:
        per_clock = peak["bf16"] / (gpu.num_sms * gpu.boost_clock_hz)
        assert 1900 <= per_clock <= 8400, "BF16 FLOP an SM and clock"


@pytest.mark.parametrize("node", NODES, ids=by_name)
def test_a_node_obeys_physics(node: Node) -> None:
    gpu = load_gpu(node.gpu)
    assert node.name.startswith(node.gpu)
    assert 2 <= node.scale_up_bytes_per_s / node.nic_bytes_per_s <= 20, "scale-up over scale-out"
    assert node.scale_up_bytes_per_s < gpu.hbm_bytes_per_s / 4
    assert node.nics_per_node == node.gpus_per_node
    if node.max_power_w is not None:
        share = node.gpus_per_node * gpu.tdp_w / node.max_power_w
        assert 0.45 <= share <= 0.8, "GPUs' share of the node's power"
    if node.scale_up_peer_bytes_per_s is not None:
        peers = node.scale_up_domain_gpus - 1
        assert node.scale_up_peer_bytes_per_s * peers == pytest.approx(node.scale_up_bytes_per_s)


def test_a_rack_is_one_domain_of_several_hosts() -> None:
    for name in ("gb200-nvl72", "gb300-nvl72"):
        node = load_node(name)
        assert (node.gpus_per_node, node.scale_up_domain_gpus) == (4, 72)


@pytest.mark.parametrize("fabric", FABRICS, ids=by_name)
def test_a_fabric_is_what_its_name_says(fabric: Fabric) -> None:
    technology, rate, shape, *layers = fabric.name.split("-")
    assert fabric.technology.startswith(technology.replace("ib", "infiniband"))
    assert fabric.port_bytes_per_s == int(rate.removesuffix("g")) * 1e9 / 8
    shapes = {"8plane": "multi_plane_fat_tree", "rail": "rail_fat_tree", "fattree": "fat_tree"}
    assert fabric.topology == shapes.get(shape, fabric.topology)
    assert not layers or f"{fabric.num_layers}layer" == layers[0]
    assert 1e-6 <= fabric.latency_same_leaf_s <= fabric.latency_cross_leaf_s <= 1e-5
    per_switch = (fabric.latency_cross_leaf_s - fabric.latency_same_leaf_s) / 2
    if fabric.num_layers == 3:
        assert fabric.latency_cross_pod_s == pytest.approx(fabric.latency_cross_leaf_s + 2 * per_switch)
    else:
        assert fabric.latency_cross_pod_s is None


def test_known_figures_of_the_training_cluster() -> None:
    gpu, node, fabric = load_gpu("h800"), load_node("h800-x8"), load_fabric("ib-400g-8plane")
    assert gpu.num_sms == 132 and gpu.device_bytes == 84_943_110_144
    assert gpu.peak_flop_per_s["bf16"] == 989.4e12 and gpu.hbm_bytes == 80 * 10**9
    assert node.scale_up_bytes_per_s == 200e9 and node.nic_bytes_per_s == 50e9 and node.nics_per_node == 8
    assert (fabric.num_planes, fabric.num_layers, fabric.switch_ports) == (8, 2, 64)
    assert (fabric.latency_same_leaf_s, fabric.latency_cross_leaf_s) == (2.8e-6, 3.7e-6)


REFERENCE_ROWS = {
    "a100": "A100 80GB SXM", "h100": "H100 SXM", "h800": "H800 SXM", "h20": "H20 96GB", "h200": "H200 SXM",
    "b200": "B200 SXM", "b300": "B300 SXM", "gb200": "GB200 NVL72 (per GPU)", "gb300": "GB300 NVL72 (per GPU)",
    "mi300x": "MI300X", "mi325x": "MI325X", "mi355x": "MI355X",
}  # fmt: skip


@pytest.mark.skipif(
    not (REFERENCE / "gpu_specs.csv").exists(), reason="the reference tables are not beside the checkout"
)
@pytest.mark.parametrize("node", [node for node in NODES if node.gpu in REFERENCE_ROWS], ids=by_name)
def test_gpus_and_nodes_agree_with_the_reference_table(node: Node) -> None:
    with (REFERENCE / "gpu_specs.csv").open(encoding="utf-8", newline="") as file:
        row = next(row for row in csv.DictReader(file) if row["gpu"] == REFERENCE_ROWS[node.gpu])
    gpu = load_gpu(node.gpu)
    for dtype in ("tf32", "bf16", "fp16", "fp8", "fp4"):
        assert gpu.peak_flop_per_s.get(dtype) == (float(row[f"{dtype}_flops"]) if row[f"{dtype}_flops"] else None)
    expected = {
        "hbm_bytes": gpu.hbm_bytes,
        "hbm_bytes_per_s": gpu.hbm_bytes_per_s,
        "l2_bytes": gpu.l2_bytes,
        "sm_or_cu": gpu.num_sms,
        "boost_clock_hz": gpu.boost_clock_hz,
        "tdp_w": gpu.tdp_w,
        "device_reported_hbm_bytes": gpu.device_bytes,
        "scaleup_bytes_per_s_per_direction": node.scale_up_bytes_per_s,
        "scaleup_domain_gpus": node.scale_up_domain_gpus,
        "node_gpus": node.gpus_per_node,
        "nic_bits_per_s_per_gpu": node.nic_bytes_per_s * 8,
    }
    for column, value in expected.items():
        assert value == (pytest.approx(float(row[column])) if row[column] else None), column


@pytest.mark.parametrize("sheet", SHEETS, ids=by_name)
def test_a_price_sheet_is_dated_and_has_ranges(sheet: PriceSheet) -> None:
    assert sheet.date[:2] == "20" and sheet.currency == "USD"
    assert set(sheet.entries) <= set(list_names("gpus"))
    for name, entry in sheet.entries.items():
        assert 0.5 <= entry.low <= entry.usd_per_gpu_hour <= entry.high <= 15, name
        assert entry.source.date, name
    for key, parameter in sheet.ownership.items():
        assert parameter.low < parameter.high and parameter.source.date, key
        if key.startswith("node_usd."):
            assert key.removeprefix("node_usd.") in list_names("nodes")


def test_the_latest_sheet_prices_every_gpu_that_older_ones_price() -> None:
    latest = max(SHEETS, key=lambda sheet: sheet.date)
    assert all(set(sheet.entries) <= set(latest.entries) for sheet in SHEETS)


@pytest.mark.parametrize(
    ("load", "name", "words"),
    [
        (load_gpu, "h80", "did you mean h800"),
        (load_gpu, "H100", "no GPU is called H100; allowed a100"),
        (load_node, "h800x8", "did you mean h800-x8"),
        (load_fabric, "ib-400g-8planes", "did you mean ib-400g-8plane"),
        (load_prices, "market", "allowed market-2025-03"),
        (load_gpu, "", "no GPU"),
        (load_gpu, "../nodes/h800-x8", "no GPU"),
        (load_gpu, "/etc/passwd", "no GPU"),
        (load_gpu, "h800\0", "no GPU"),
        (load_gpu, "h800.yaml", "did you mean h800"),
        (load_gpu, "x" * 10**6, "no GPU"),
        (load_stack, "h800-deepsek-2024", "no stack"),
        (load_stack, "nothing-transfer", "no stack"),
        (default_stack, "h801", "did you mean h800"),
        (list_names, "gpu", "did you mean gpus"),
    ],
)
def test_a_wrong_name_names_the_known_ones(load, name: str, words: str) -> None:
    with pytest.raises(CatalogError) as caught:
        load(name)
    message = str(caught.value)
    assert words in message and message.isprintable() and len(message) < 800


def test_every_gpu_has_a_transfer_stack_and_a_default() -> None:
    names = stack_names()
    for gpu in list_names("gpus"):
        assert f"{gpu}-transfer" in names
        assert default_stack(gpu) in names
    assert list(names) == sorted(set(names))


def test_a_file_whose_name_differs_from_its_entry_is_refused(empty_catalogue: Path) -> None:
    (empty_catalogue / "gpus").mkdir()
    shutil.copy(ROOT / "gpus" / "h100.yaml", empty_catalogue / "gpus" / "mine.yaml")
    with pytest.raises(CatalogError, match=r"mine\.yaml:1: name: h100; the file's name says mine"):
        load_gpu("mine")


def run_python(code: str, folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd="/", env=environment, check=True, capture_output=True, text=True).stdout.strip()


def test_the_package_works_from_another_folder(tmp_path: Path) -> None:
    """As installed from a wheel: the data files travel with the package and are found from any working directory."""
    shutil.copytree(ROOT, tmp_path / "hwprofiles", ignore=shutil.ignore_patterns("__pycache__", "calibration"))
    code = "from hwprofiles import catalog as c; print(c.__file__, c.load_gpu(c.load_node('h800-x8').gpu).hbm_bytes)"
    assert run_python(code, tmp_path) == f"{tmp_path}/hwprofiles/catalog.py 80000000000"


def test_the_import_is_light() -> None:
    heavy = ["numpy", "pandas", "networkx", "simpy", "numba", "typer", "rich", "torch", "streamlit", "plotly"]
    code = "import sys, hwprofiles.catalog as c, hwprofiles.stack_choice; c.load_gpu('h100');"
    code += f" print([m for m in {heavy!r} if m in sys.modules])"
    assert run_python(code, ROOT.parent) == "[]"


def test_loading_changes_no_file() -> None:
    def digest() -> str:
        files = sorted(path for kind in ("gpus", "nodes", "fabrics", "prices") for path in (ROOT / kind).iterdir())
        return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()

    before = digest()
    assert load_gpu("h800") is load_gpu("h800")
    assert digest() == before
