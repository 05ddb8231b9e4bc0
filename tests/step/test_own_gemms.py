"""This project's FP8 kernels in a step (kernels.gemm: moesim): what they run, at whose rates, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hwprofiles.kernel_answers import answered_rows
from hwprofiles.kernel_list import read_shapes
from hwprofiles.kernels.gemm import gemm_constants
from hwprofiles.kernels.shape import LOOP, OWN_GEMMS, OWN_STREAMS, KernelShape
from hwprofiles.kernels.table import kernel_seconds
from hwprofiles.parameter_keys import gemm_stem, key_problem, part_problems
from hwprofiles.schema import Gpu
from hwprofiles.stack_choice import load_stack
from hwprofiles.stack_completion import completed
from hwprofiles.stack_folders import open_folder
from simulator import load_scenario
from simulator.errors import InputError
from simulator.step.step import simulate_times
from simulator.workload.counted import count_workload
from simulator.workload.op import Op, Unit
from simulator.workload.own_kernels import STREAMS

SMALL = (
    "deepseek-v3", "cluster.node=h100-x8", "cluster.num_gpus=8", "parallel.pp=1", "parallel.ep=8", "model.num_layers=4",
    "parallel.schedule=1f1b", "training.global_batch_size=16", "training.seq_len=1024", "moe.max_nodes_per_token=null",
    "parallel.layers_per_stage=null", "stack=h100-public", "moe.balance=forced", "draws=1",
    "phases=[{name: p, tokens: 1e9}]",
)  # fmt: skip
DENSE = (
    "llama-3.1-70b", "cluster.node=h100-x8", "cluster.num_gpus=8", "parallel.tp=1", "parallel.pp=1", "model.num_layers=2",
    "model.num_dense_layers=2", "training.global_batch_size=8", "training.seq_len=8192", "precision.recipe=fp8-blockwise",
    "recompute={granularity: none, modules: []}", "stack=h100-public",
)  # fmt: skip
OWN = "kernels.gemm=moesim"


def own_stack(folder: Path, faster: float) -> str:
    """Rates of own products and quantisers that are `faster` times the public H100's of the library."""
    public = load_stack("h100-public").parameters
    found = {}
    for key, entry in public.items():
        if key.startswith("gemm.fp8-block.") and key.rpartition(".")[2] != "scale":
            factor = {"eta": faster, "ecap": faster, "eb": faster, "l2_bytes_per_s": faster, "st_bytes_per_s": faster,
                      "t0_s": 1.0 / faster, "t_tile_s": 1.0 / faster}.get(key.rpartition(".")[2], 1.0)  # fmt: skip
            name = key.replace("fp8-block", f"fp8-block.{OWN_GEMMS}")
            found[name] = _scaled(entry.model_dump(), factor)
    share = public["memory.quantise"].model_dump()
    found[f"memory.quantise.{OWN_STREAMS}"] = _scaled(share, 1.0) | {"value": 0.9, "low": 0.9, "high": 0.9}
    folder.mkdir()
    (folder / "parameters.yaml").write_text(json.dumps(found, default=str), encoding="utf-8")
    provenance = {
        "gpu": "h100", "description": "made up", "software": "none", "state": "first_launches",
        "sources": {"calibrate": {"kind": "measurement", "where": "moesim calibrate", "date": "2026-11-27"}},
    }  # fmt: skip
    (folder / "provenance.yaml").write_text(json.dumps(provenance), encoding="utf-8")
    return f"stack={folder}"


def _scaled(entry: dict[str, object], factor: float) -> dict[str, object]:
    numbers = {name: float(str(entry[name])) * factor for name in ("value", "low", "high")}
    return {**entry, **numbers, "source": {"kind": "assumed", "where": "a test"}}


def units(*overrides: str) -> tuple[Unit, ...]:
    scenario = load_scenario(SMALL[0], (*SMALL[1:], *overrides))
    return count_workload(scenario, 1, None).stages[0].units


def ops(*overrides: str) -> list[Op]:
    return [op for unit in units(*overrides) for op in unit.ops()]


def test_every_product_by_blocks_and_what_casts_for_it_is_an_own_kernel(tmp_path: Path) -> None:
    plain, own = ops(), ops(own_stack(tmp_path / "own", 1.0), OWN)
    assert [(op.name, op.flop, op.bytes_read, op.bytes_written) for op in own] == [
        (op.name, op.flop, op.bytes_read, op.bytes_written) for op in plain
    ], "the work is the same"
    by_own = [op for op in own if op.shape.library == OWN_GEMMS]
    assert {op.name for op in by_own} == {op.name for op in plain if op.shape.dtype == "fp8-block"}
    assert {op.shape.groups > 1 for op in by_own} == {False, True}
    streamed = {op.shape.op for op in own if op.shape.library == OWN_STREAMS}
    assert streamed == STREAMS & {op.shape.op for op in plain} and "quantise" in streamed
    assert all(op.shape.num_kernels == 1 for op in own if op.shape.library == OWN_STREAMS)
    assert not any(op.shape.library in (OWN_GEMMS, OWN_STREAMS) for op in plain)


def test_layers_in_bf16_have_no_own_kernels(tmp_path: Path) -> None:
    found = units(own_stack(tmp_path / "own", 1.0), OWN, "precision.bf16_first_layers=3")
    with_own = [unit.name for unit in found if any(op.shape.library in (OWN_GEMMS, OWN_STREAMS) for op in unit.ops())]
    assert with_own == ["layer_3", "mtp_0"]


def test_faster_own_kernels_make_a_faster_step_and_no_others(tmp_path: Path) -> None:
    same, fast = own_stack(tmp_path / "same", 1.0), own_stack(tmp_path / "fast", 1.15)
    times, unused = (
        [simulate_times(load_scenario(DENSE[0], (*DENSE[1:], each, *more))).step_s for each in (same, fast)]
        for more in ((OWN,), ())
    )
    assert times[1] < 0.98 * times[0]
    assert unused[0] == unused[1], "without the key nobody reads them"


def test_own_rows_and_constants_stand_beside_the_librarys(tmp_path: Path, gpu: Gpu) -> None:
    stack = open_folder(Path(own_stack(tmp_path / "own", 1.15).removeprefix("stack="))).stack
    whole = completed(stack, load_stack("h100-public"))
    assert gemm_constants(whole, "fp8-block", "fprop") is not None, "own constants stand for none of the library's"
    library = KernelShape("gemm", "fprop", "fp8-block", 4096, 7168, 2048)
    own = KernelShape("gemm", "fprop", "fp8-block", 4096, 7168, 2048, library=OWN_GEMMS)
    assert library.key != own.key and library.group_key != own.group_key
    assert kernel_seconds(own, whole, gpu, "alone").seconds < kernel_seconds(library, whole, gpu, "alone").seconds
    stem = gemm_stem(f"gemm.fp8-block.{OWN_GEMMS}.grouped.wgrad.eta")
    assert (stem.library, stem.is_grouped, stem.variant) == (OWN_GEMMS, True, "wgrad")
    assert key_problem(f"gemm.fp8-block.{OWN_GEMMS}.grouped.wgrad.eta") is None
    assert key_problem("gemm.fp8-block.mosim.eta") is not None
    assert not list(part_problems(whole.parameters))
    assert list(part_problems([f"gemm.fp8-block.{OWN_GEMMS}.eta", *load_stack("h100-public").parameters])), (
        "constants of the library complete no own family"
    )


def test_a_list_of_kernels_may_ask_for_own_products(tmp_path: Path) -> None:
    shapes = tmp_path / "shapes.csv"
    shapes.write_text("op,dtype,library,m,n,k\ngemm,fp8-block,,4096,7168,2048\ngemm,fp8-block,moesim,4096,7168,2048\n")
    stack = open_folder(Path(own_stack(tmp_path / "own", 1.15).removeprefix("stack="))).stack
    library, own = answered_rows(completed(stack, load_stack("h100-public")), read_shapes(shapes).rows)
    assert own["seconds"] < library["seconds"] and own["library"] == OWN_GEMMS
    (_, unknown) = answered_rows(load_stack("h100-public"), read_shapes(shapes).rows)
    assert "gemm.fp8-block.moesim.fprop" in unknown["error"] and "seconds" not in unknown


@pytest.fixture
def gpu() -> Gpu:
    from hwprofiles.catalog import load_gpu

    return load_gpu("h100")


@pytest.mark.parametrize(
    ("more", "key", "text"),
    [
        (
            (),
            "kernels.gemm",
            "h100-public has no rates of this project's FP8 products; leave it out, or write stack: h100-m",
        ),
        (
            ("cluster.node=h200-x8", "stack=h200-public"),
            "kernels.gemm",
            "h200-public has no rates of this project's FP8 products; leave it out, or name a stack of `moesim calibrate`",
        ),
        (("precision.recipe=bf16",), "kernels.gemm", "write precision.recipe: fp8-blockwise"),
        (
            (f"kernels.grouped_gemm={LOOP}",),
            "kernels.grouped_gemm",
            "one launch for all experts; leave one of them out",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_its_remedy(more: tuple[str, ...], key: str, text: str) -> None:
    with pytest.raises(InputError) as refused:
        load_scenario(SMALL[0], (*SMALL[1:], OWN, *more))
    assert any(problem.field == key and text in problem.message for problem in refused.value.problems), refused.value


def test_the_torch_model_by_own_kernels_joins_no_experts_and_sums_no_gradients(tmp_path: Path) -> None:
    torch_model = (
        "framework=moesim-torch@2026-11",
        "cluster.num_gpus=1",
        "parallel.ep=1",
        "model.moe.num_routed_experts=64",
        "recompute.granularity=none",
        "recompute.modules=[]",
    )
    plain, own = (
        [op.name for op in ops(own_stack(tmp_path / "own", 1.0) if key else "stack=h100-public", *torch_model, *key)]
        for key in ((), (OWN,))
    )
    assert "expert_up_join" in plain and "expert_up_grad_copy" in plain and "o_grad_sum" in plain
    left = [name for name in own if name.startswith("expert") and name.endswith(("_join", "_grad_copy", "_scales"))]
    assert not left and "o_grad_sum" not in own and "expert_up_wgrad" in own
    found = {name for name in set(own) - set(plain) if not name.startswith(("row_places", "expert_down_sources"))}
    assert found <= {"row_weights_sum"}
