"""A changed GPU leaves nothing of the old one unsaid: a stack of another kind, a price of another GPU."""

from pathlib import Path

import pytest

from simulator import load_scenario, simulate_run
from simulator.results.document import to_document

PRESET = "deepseek-v3"
OTHER_KIND = "differ in kind, not only in hardware"
OTHER_PRICE = "is the price of the GPU h800 and stays although"


def warnings(*overrides: str, source: str | Path = PRESET) -> str:
    return "\n".join(load_scenario(source, overrides).warnings)


def test_a_node_with_a_stack_of_another_kind_says_both_and_offers_the_like_for_like_run() -> None:
    text = warnings("cluster.node=h200-x8")
    for words in (
        "overrides[0]: stack: h200-public (public",
        "in place of h800-deepseek-2024 (measured)",
        OTHER_KIND,
        "`moesim run deepseek-v3 --set stack=h800-public` beside `--set cluster.node=h200-x8`",
    ):
        assert words in text


def test_the_run_that_is_offered_is_of_the_same_kind() -> None:
    assert OTHER_KIND not in warnings("stack=h800-public")
    text = warnings("stack=h800-public", "cluster.node=h200-x8", "stack=h200-public")
    assert OTHER_KIND in text, "the preset's own stack is what stood there before"


def test_from_public_to_measured_is_another_kind_too_and_between_public_ones_is_none(tmp_path: Path) -> None:
    base = tmp_path / "base.yaml"
    base.write_text("schema_version: 1\nextends: mixtral-8x22b\ncluster: {node: mi300x-x8}\nstack: mi300x-public\n")
    text = warnings("cluster.node=h800-x8", source=base)
    assert OTHER_KIND in text
    assert f"`moesim run {base}` beside `--set stack=h800-public` here" in text
    assert OTHER_KIND not in warnings("cluster.node=mi325x-x8", source=base)
    alone = warnings("cluster.node=h20-x8", source=base)
    like = f"`moesim run {base} --set stack=mi300x-transfer` beside `--set cluster.node=h20-x8`"
    assert OTHER_KIND in alone and like in alone, "nothing public of the H20: transfer stacks on both sides"


def test_the_same_gpu_or_a_file_of_its_own_says_nothing(tmp_path: Path) -> None:
    assert warnings() == ""
    assert warnings("cluster.node=h800-x8") == ""
    node = "{gpu: h800, gpus_per_node: 8, scale_up_name: NVLink, scale_up_bytes_per_s: 200 GB/s, " + (
        "scale_up_domain_gpus: 8, nic_bytes_per_s: 50 GB/s, nics_per_node: 8, "
        "sources: {nic_bytes_per_s: {kind: assumed, where: here, date: 2025}}}"
    )
    assert warnings(f"cluster.node={node}") == ""


def test_an_inline_node_is_not_offered_by_a_name_that_no_command_takes() -> None:
    node = "{name: ours, gpu: h200, gpus_per_node: 8, scale_up_name: NVLink, scale_up_bytes_per_s: 450 GB/s, " + (
        "scale_up_domain_gpus: 8, nic_bytes_per_s: 50 GB/s, nics_per_node: 8}"
    )
    text = warnings(f"cluster.node={node}")
    assert "`moesim run deepseek-v3 --set stack=h800-public` beside this one" in text
    assert "cluster.node=ours" not in text


def test_a_file_that_changes_the_node_compares_with_what_it_extends(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"schema_version: 1\nextends: {PRESET}\ncluster: {{node: h200-x8}}\n")
    assert "`moesim run deepseek-v3 --set stack=h800-public`" in warnings(source=path)
    path.write_text(f"schema_version: 1\nextends: {PRESET}\n")
    assert f"`moesim run {path} --set stack=h800-public`" in warnings("cluster.node=h200-x8", source=path)


def test_a_price_of_the_old_gpu_is_named_with_its_origin_and_a_remedy() -> None:
    text = warnings("cluster.node=b200-x8")
    assert "prices.usd_per_gpu_hour: 2 USD (presets/deepseek-v3.yaml:" in text
    assert f"{OTHER_PRICE} cluster.node is b200-x8" in text
    assert "--set prices.sheet=market-2026-05 (5.25 USD)" in text


@pytest.mark.parametrize("price", ["prices.usd_per_gpu_hour=5", "prices.sheet=market-2026-05", "prices=null"])
def test_a_price_that_is_given_with_the_node_is_its_own(price: str) -> None:
    assert OTHER_PRICE not in warnings("cluster.node=b200-x8", price)


def test_a_named_price_drops_an_inherited_sheet_and_the_other_way_round(tmp_path: Path) -> None:
    path = tmp_path / "sheet.yaml"
    path.write_text(f"schema_version: 1\nextends: {PRESET}\nprices: {{sheet: market-2026-05}}\n")
    with_sheet = load_scenario(path).prices
    assert with_sheet is not None
    assert (with_sheet.usd_per_gpu_hour, with_sheet.sheet) == (None, "market-2026-05")
    with_price = load_scenario(path, ["prices.usd_per_gpu_hour=3"]).prices
    assert with_price is not None
    assert (with_price.usd_per_gpu_hour, with_price.sheet) == (3.0, None)


def test_a_sheet_that_is_inherited_gives_the_price_of_the_new_gpu(tmp_path: Path) -> None:
    small = ["cluster.num_gpus=256", "training.global_batch_size=512", "parallel.pp=4", "draws=1"]
    path = tmp_path / "sheet.yaml"
    path.write_text(
        f"schema_version: 1\nextends: {PRESET}\nprices: {{sheet: market-2026-05}}\nphases: [{{name: p, steps: 2}}]\n"
    )
    document = to_document(simulate_run(load_scenario(path, [*small, "cluster.node=b200-x8"])))
    assert document["price"]["usd_per_gpu_hour"] == 5.25
    assert document["price"]["source"].startswith("market-2026-05, 2026-05")
    assert document["totals"]["cost_usd"]["value"] == pytest.approx(
        5.25 * document["totals"]["gpu_hours"]["value"], rel=1e-5
    )
    assert (document["stack_kind"], document["base"]["stack_kind"]) == ("public", "measured")
    assert document["base"] == {"scenario": str(path), "stack": "h800-deepseek-2024", "stack_kind": "measured"}
    assert [line for line in document["warnings"] if OTHER_KIND in line], "they stand in the document"
