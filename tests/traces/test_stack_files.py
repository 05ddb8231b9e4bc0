"""Kernel times out of a trace: rows with sizes where the operators have some, tables and gaps in any case."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hwprofiles.record_file import CatalogError
from hwprofiles.stack_folders import open_folder
from hwprofiles.traces.stack_files import ALL_FILES, HOST, KERNELS, NAMES, PROVENANCE, SUMMARY, TracedStack, stack_files
from hwprofiles.traces.summary import summarise
from tests.traces.kineto import ADD, GATHER, GEMM, Event, kernel, launch, operator, write

BF16, FP32 = "c10::BFloat16", "float"
X, S = [64, 1024], "Scalar"
CUDNN = "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7"
FLASH = "void flash::flash_fwd_kernel<X>"


class Builder:
    """Operators one behind the other on the CPU, their kernels one behind the other on the GPU, all launched at the start."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.now, self.number = 1_000.0, 0

    def call(
        self, name: str, dims: Sequence[Any], types: Sequence[str], micros: float, *, values: Sequence[str] = (),
        strides: Sequence[Any] = (), kernels: Sequence[str] = (GEMM,), of: tuple[str, Sequence[Any]] | None = None,
    ) -> None:  # fmt: skip
        self.number += 1
        begin = 10.0 * self.number
        made = operator(self.number, name, dims, types, values)
        made["args"]["Input Strides"] = strides
        if of is not None:
            outer = operator(10_000 + self.number, of[0], [of[1]], [BF16])
            self.events.append(outer | {"ts": begin, "dur": 8.0})
        self.events.append(made | {"ts": begin + 1.0, "dur": 2.0})
        for each in kernels:
            share = micros / len(kernels)
            correlation = 100_000 + len(self.events)
            self.events += [
                launch(correlation, begin + 1.0),
                kernel(each, self.now, share, number=correlation, op=self.number),
            ]
            self.now += share + 1.5

    def files(self, path: Path, **head: object) -> TracedStack:
        return stack_files([write(path, self.events, **head)])


def rows_of(found: TracedStack) -> list[dict[str, str]]:
    rows = csv.DictReader(io.StringIO(found.files[KERNELS]))
    return [{name: text for name, text in row.items() if text} for row in rows]


def only(found: TracedStack, *names: str) -> list[tuple[str, ...]]:
    return [tuple(row.get(name, "") for name in names) for row in rows_of(found)]


def test_gemms_forward_and_backward(tmp_path: Path) -> None:
    """The same sizes forward and as the input's gradient are two rows; the weight's is told by the rows that it sums over."""
    trace = Builder()
    for micros in (200.0, 220.0, 180.0):
        trace.call("aten::mm", [[8192, 2048], [2048, 4096]], [BF16, BF16], micros)
        trace.call("aten::mm", [[8192, 2048], [2048, 4096]], [BF16, BF16], 240.0, of=("MmBackward0", [8192, 2048]))
        trace.call("aten::mm", [[2048, 8192], [8192, 4096]], [BF16, BF16], 260.0, of=("MmBackward0", [4, 2048, 2048]))
    trace.call("aten::addmm", [[64], [32, 16], [16, 64]], [BF16] * 3, 5.0, kernels=(GEMM, GEMM))
    found = trace.files(tmp_path / "t.json")
    assert only(found, "op", "variant", "m", "n", "k", "regime", "state", "seconds", "note") == [
        ("gemm", "dgrad", "8192", "4096", "2048", "alone", "in_step", "0.00024", "3 calls, 1 kernel each"),
        ("gemm", "fprop", "32", "64", "16", "alone", "in_step", "5e-06", "1 call, 2 kernels each"),
        ("gemm", "fprop", "8192", "4096", "2048", "alone", "in_step", "0.0002", "3 calls, 1 kernel each"),
        ("gemm", "wgrad", "2048", "4096", "8192", "alone", "in_step", "0.00026", "3 calls, 1 kernel each"),
    ]
    fprop = rows_of(found)[2]
    assert (float(fprop["low"]), float(fprop["high"])) == pytest.approx((184e-6, 216e-6))


def test_older_traces_link_kernels_by_their_launch(tmp_path: Path) -> None:
    """There a kernel's External id is the correlation, which is another operator's id here; the launch lies inside the call."""
    trace = Builder()
    trace.call("aten::mm", [[8192, 2048], [2048, 4096]], [BF16, BF16], 200.0)
    trace.call("aten::mm", [[64, 64], [64, 64]], [BF16, BF16], 5.0)
    for event in trace.events:
        if event["cat"] == "kernel":
            event["args"]["External id"] = 3 - event["args"]["External id"]
    assert only(trace.files(tmp_path / "t.json"), "m", "seconds") == [("64", "5e-06"), ("8192", "0.0002")]


def test_square_weight_gradient_is_told_by_its_strides(tmp_path: Path) -> None:
    trace = Builder()
    square = [[2048, 2048], [2048, 2048]]
    of = ("MmBackward0", [2048, 2048])
    trace.call("aten::mm", square, [BF16, BF16], 50.0, of=of, strides=[[2048, 1], [2048, 1]])
    trace.call("aten::mm", square, [BF16, BF16], 60.0, of=of, strides=[[1, 2048], [2048, 1]])
    assert only(trace.files(tmp_path / "t.json"), "variant", "seconds") == [("dgrad", "5e-05"), ("wgrad", "6e-05")]


def test_a_recomputed_forward_is_one(tmp_path: Path) -> None:
    """Inside a checkpoint's backward, or in a linear inside any."""
    trace = Builder()
    trace.call(
        "aten::mm", [[8192, 2048], [2048, 4096]], [BF16, BF16], 200.0, of=("CheckpointFunctionBackward", [8192, 4096])
    )
    assert only(trace.files(tmp_path / "t.json"), "variant") == [("fprop",)]


def test_experts_and_eight_bits(tmp_path: Path) -> None:
    trace = Builder()
    fp8 = "c10::Float8_e4m3fn"
    trace.call("aten::_grouped_mm", [[65536, 2048], [64, 2048, 1536], [64], [], []], [BF16, BF16, "int", "", ""], 900.0)
    trace.call(
        "aten::_grouped_mm", [[1536, 65536], [65536, 2048], [64], [], []], [BF16, BF16, "int", "", ""], 950.0,
        of=("GroupedMmBackward0", [65536, 1536]),
    )  # fmt: skip
    for scales in ([[], []], [[4096, 1], [1, 2048]], [[4096, 8], [8, 16]]):
        trace.call("aten::_scaled_mm", [[4096, 1024], [1024, 2048], *scales], [fp8, fp8, FP32, FP32], 40.0)
    assert only(trace.files(tmp_path / "t.json"), "op", "variant", "dtype", "m", "n", "k", "groups") == [
        ("gemm", "fprop", "fp8-block", "4096", "2048", "1024", "1"),
        ("gemm", "fprop", "fp8-row", "4096", "2048", "1024", "1"),
        ("gemm", "fprop", "fp8-tensor", "4096", "2048", "1024", "1"),
        ("grouped_gemm", "fprop", "bf16", "65536", "1536", "2048", "64"),
        ("grouped_gemm", "wgrad", "bf16", "1536", "2048", "65536", "64"),
    ]


def test_attention_of_several_libraries(tmp_path: Path) -> None:
    trace = Builder()
    q, kv = [2, 32, 4096, 128], [2, 4, 4096, 128]
    none: list[Any] = []
    trace.call(
        "aten::_cudnn_attention_forward", [q, kv, kv, *[none] * 10], [BF16] * 3 + [""] * 10, 400.0,
        values=["", "", "", "", "", "", "4096", "4096", "True", "0.", "True", "False", ""], kernels=(CUDNN,),
    )  # fmt: skip
    trace.call(
        "aten::_cudnn_attention_backward", [q, q, kv, kv, q, *[none] * 11], [BF16] * 5 + [""] * 11, 1400.0,
        values=[""] * 14 + ["True", ""], kernels=("void cudnn::fusion::compute_dot_do_o", CUDNN),
    )  # fmt: skip
    last, last_kv = [1, 1024, 16, 64], [1, 1024, 16, 64]
    trace.call(
        "aten::_flash_attention_forward", [last, last_kv, last_kv, *[none] * 7], [BF16] * 3 + [""] * 7, 60.0,
        values=[""] * 8 + ["False", "False"], kernels=(FLASH,),
    )  # fmt: skip
    trace.call(
        "aten::_cudnn_attention_forward", [q, kv, kv, [1, 1, 4096, 4096], *[none] * 9], [BF16] * 4 + [""] * 9, 400.0,
        values=[""] * 10 + ["False", "False", ""],
    )  # fmt: skip
    found = trace.files(tmp_path / "t.json")
    columns = ("op", "batch", "seq", "heads", "kv_heads", "head_dim_qk", "head_dim_v", "causal", "library")
    assert only(found, *columns) == [
        ("attention_bwd", "2", "4096", "32", "4", "128", "128", "true", ""),
        ("attention_bwd", "2", "4096", "32", "4", "128", "128", "true", "cudnn"),
        ("attention_fwd", "1", "1024", "16", "16", "64", "64", "false", "fa2"),
        ("attention_fwd", "2", "4096", "32", "4", "128", "128", "true", ""),
        ("attention_fwd", "2", "4096", "32", "4", "128", "128", "true", "cudnn"),
    ]
    assert any("a mask that is given as numbers" in line for line in found.lines)


@pytest.mark.parametrize(
    ("name", "dims", "types", "strides", "values", "expected"),
    [
        ("mul", [X, X], [BF16, BF16], [], [], ("elementwise", 65536, 3 * 131072)),
        ("add", [X, X, []], [BF16, BF16, S], [], [], ("add", 65536, 3 * 131072)),
        ("add_", [X, X, []], [FP32, BF16, S], [], [], ("elementwise_mixed", 65536, 2 * 262144 + 131072)),
        ("mul", [X, [64, 1]], [FP32, FP32], [], [], ("elementwise_broadcast", 65536, 2 * 262144 + 256)),
        ("silu", [X], [BF16], [[2048, 1]], [], ("elementwise_strided", 65536, 2 * 131072)),
        ("masked_fill_", [X, [64, 1], []], [BF16, "bool", S], [], [], ("elementwise_broadcast", 65536, 2 * 131072 + 64)),
        ("copy_", [X, X, []], [FP32, BF16, S], [], [], ("cast", 65536, 262144 + 131072)),
        ("copy_", [X, X, []], [BF16, BF16, S], [[1024, 1], [1024, 1]], [], ("copy", 65536, 262144)),
        ("copy_", [X, X, []], [BF16, BF16, S], [[1024, 1], [1, 64]], [], ("strided_copy", 65536, 262144)),
        ("copy_", [X, X, []], [BF16, BF16, S], [[1024, 1], [1, 0]], [], ("strided_copy", 65536, 131072 + 128)),
        ("fill_", [X, []], [BF16, S], [], [], ("fill", 65536, 131072)),
        ("mean", [X, [], []], [FP32, "ScalarList", S], [], ["", "[-1]", "True"], ("reduce", 64, 262144 + 256)),
        ("sum", [[4, 64, 1024], [], []], [FP32, "ScalarList", S], [], ["", "[0, 1]", "False"],
         ("reduce_columns", 256, 4 * 262144 + 4096)),
        ("_softmax", [X, [], []], [FP32, S, S], [], [], ("softmax", 64, 524288)),
        ("_log_softmax_backward_data", [X, X], [FP32, FP32], [], [], ("softmax_bwd", 64, 3 * 262144)),
        ("embedding", [[32768, 1024], [2, 32]], [BF16, "long int"], [], [], ("gather_rows", 65536, 512 + 2 * 131072)),
    ],
)  # fmt: skip
def test_kernels_bound_by_memory(
    tmp_path: Path, name: str, dims: Any, types: Any, strides: Any, values: Any, expected: tuple[str, int, int]
) -> None:
    trace = Builder()
    trace.call(f"aten::{name}", dims, types, 10.0, strides=strides, values=values, kernels=(ADD,))
    ((op, rows, width, moved, seconds),) = only(trace.files(tmp_path / "t.json"), "op", "m", "n", "bytes", "seconds")
    assert ((op, int(rows), int(moved)), seconds) == (expected, "1e-05")
    assert int(width) == (1024 if op in ("reduce", "reduce_columns", "softmax", "softmax_bwd") else 1)


def test_lists_take_their_format_from_the_kernel_s_name(tmp_path: Path) -> None:
    trace = Builder()
    adam = "multi_tensor_apply_kernel<FusedOptimizerTensorListMetadata<4>, FusedAdamMathFunctor<c10::BFloat16, 4>>"
    weights = [[1024, 1024], [1024]]
    trace.call("aten::_fused_adamw_", [weights] * 4, ["TensorList"] * 4, 20.0, kernels=(adam, adam))
    cat = "void at::native::CatArrayBatchedCopy<at::native::OpaqueType<2u>, unsigned int, 4>"
    trace.call("aten::cat", [[[64, 512], [64, 512]], []], ["TensorList", "Scalar"], 10.0, kernels=(cat,))
    assert only(trace.files(tmp_path / "t.json"), "op", "bytes") == [
        ("adamw", str(14 * (1024 * 1024 + 1024))),
        ("cat", str(4 * 64 * 1024)),
    ]


def test_beside_a_collective_is_another_row_and_half_beside_is_none(tmp_path: Path) -> None:
    trace = Builder()
    sizes, types = [[8192, 2048], [2048, 4096]], [BF16, BF16]
    for _ in range(3):
        trace.call("aten::mm", sizes, types, 200.0)
    first, second, third = (event["ts"] for event in trace.events if event["cat"] == "kernel")
    trace.events += [kernel(GATHER, second - 1.0, 202.0, stream=20), kernel(GATHER, third + 50.0, 500.0, stream=20)]
    found = trace.files(tmp_path / "t.json")
    assert only(found, "regime", "note") == [
        ("alone", "1 call, 1 kernel each"),
        ("overlapped", "1 call, 1 kernel each"),
    ]
    assert any("33.3% of the compute time, aten::mm: a collective ran beside a part" in line for line in found.lines)
    assert first < second


def test_what_gives_no_row_is_told(tmp_path: Path) -> None:
    """Operators without a rule, types that nothing stands for, times that the GPU cannot reach, kernels without an operator."""
    trace = Builder()
    trace.call("aten::mm", [[8192, 8192], [8192, 8192]], [BF16, BF16], 1.0)
    trace.call("aten::mm", [[64, 64], [64, 64]], ["double", "double"], 1.0)
    trace.call("aten::sort", [[1024], []], [FP32, "Scalar"], 1.0)
    trace.call("aten::mul", [[1024], [1024]], [BF16, BF16], 1.0)
    trace.events.append(kernel(ADD, 5_000.0, 4.0))
    found = trace.files(tmp_path / "t.json")
    assert only(found, "op") == [("elementwise",)]
    told = "\n".join(found.lines)
    for words in (
        "50.0% of the compute time, kernels whose operator the trace does not tell", "aten::sort: no kernel of the catalogue",
        "aten::mm: operands of double", "12.5% of the compute time, aten::mm: seconds",
    ):  # fmt: skip
        assert words in told


def test_the_folder_is_a_stack(tmp_path: Path) -> None:
    """It opens as one; its gap is the median of queued kernels' gaps; state and source say where it is from."""
    trace = Builder()
    for _ in range(30):
        trace.call("aten::mm", [[8192, 2048], [2048, 4096]], [BF16, BF16], 200.0)
    for number in range(60):  # the host is late: gaps of 8 us that are not the device's
        begin = trace.now + 8.0 * number + 8.0
        trace.events += [launch(500_000 + number, begin - 6.0), kernel(ADD, begin, 0.5, number=500_000 + number)]
    found = trace.files(tmp_path / "t.json.gz", cuda_runtime_version=13000, baseTimeNanoseconds=1_790_857_026 * 10**9)
    assert found.has_stack and set(found.files) == set(ALL_FILES) and not found.warnings
    folder = tmp_path / "from-trace"
    folder.mkdir()
    for name, text in found.files.items():
        (folder / name).write_text(text)
    stack = open_folder(folder).stack
    assert stack.gpu == "h200" and stack.provenance.state == "in_step"
    assert stack.provenance.calibration is not None and stack.provenance.calibration.date == "2026-10-01"
    assert len(stack.kernels.rows) == 1
    assert stack.parameters["kernel_gap_s"].value == pytest.approx(1.5e-6)
    assert "t.json.gz" in stack.provenance.sources["trace"].where


def test_without_sizes_there_are_tables_and_gaps(tmp_path: Path) -> None:
    trace = Builder()
    for _ in range(30):
        trace.call("aten::mm", [], [], 200.0)
    found = trace.files(tmp_path / "t.json")
    assert set(found.files) == {SUMMARY, NAMES, HOST, PROVENANCE}
    assert any(
        "kernels without sizes cannot become rows" in line and "record_shapes=True" in line for line in found.warnings
    )
    rows = list(csv.DictReader(io.StringIO(found.files[NAMES])))
    assert [(row["name"], row["class"], row["calls"], row["median_s"]) for row in rows] == [
        (GEMM, "gemm", "30", "0.0002")
    ]
    summary = {row["what"]: float(row["seconds"]) for row in csv.DictReader(io.StringIO(found.files[SUMMARY]))}
    assert summary["gemm"] + summary["idle"] == pytest.approx(summary["step"])


def test_a_trace_of_kernels_alone(tmp_path: Path) -> None:
    """No CPU activity: neither operators nor launches, so tables alone and no stack."""
    found = stack_files([write(tmp_path / "t.json", [kernel(GEMM, 10.0 * number, 5.0) for number in range(40)])])
    assert set(found.files) == {SUMMARY, NAMES} and not found.has_stack


def test_the_gpu_is_known_or_named(tmp_path: Path) -> None:
    trace = Builder()
    trace.call("aten::mm", [[64, 64], [64, 64]], [BF16, BF16], 5.0)
    strange = write(tmp_path / "s.json", trace.events, deviceProperties=[{"id": 0, "name": "NVIDIA Foo"}])
    with pytest.raises(CatalogError, match=r"NVIDIA Foo; say which with --gpu"):
        stack_files([strange])
    assert 'gpu: "h100"' in stack_files([strange], "h100").files[PROVENANCE]
    with pytest.raises(CatalogError, match="no GPU is called 'h1000'"):
        stack_files([strange], "h1000")
    nameless = write(tmp_path / "n.json", trace.events, deviceProperties=[])
    with pytest.raises(CatalogError, match="names no GPU"):
        stack_files([nameless])
    with pytest.raises(CatalogError, match="several GPUs"):
        stack_files([write(tmp_path / "h200.json", trace.events), strange])


def test_reference_trace(reference: Path) -> None:
    """Recorded without sizes: a gap between queued kernels of 1 to 3 us, tables, and why there are no rows."""
    found = stack_files([reference / "traces" / "qwen3moe_h200.json.gz"])
    assert found.has_stack and KERNELS not in found.files
    assert 'gpu: "h200"' in found.files[PROVENANCE]
    assert any("kernel_gap_s 1.41 us" in line for line in found.lines)


def test_names_that_would_steer_a_terminal_do_not(tmp_path: Path) -> None:
    trace = Builder()
    trace.call("evil\x1b[2J\u202e", [[64, 64]], [BF16], 5.0)
    trace.call("aten::mm", [[64, 64], [64, 64]], [BF16, BF16], 5.0)
    strange = [{"id": 0, "name": "H200\x1b[31m\x7f"}]
    found = stack_files([write(tmp_path / "t.json", trace.events, deviceProperties=strange)], "h200")
    text = "".join((*found.lines, found.files[PROVENANCE]))
    assert "\x1b" not in text and "\u202e" not in text and "\x7f" not in text
    folder = tmp_path / "stack"
    folder.mkdir()
    for name, content in found.files.items():
        (folder / name).write_text(content)
    assert open_folder(folder).stack.gpu == "h200"


def test_all_bad_files_at_once(tmp_path: Path) -> None:
    good = write(tmp_path / "good.json", [kernel(GEMM, 0.0, 5.0)])
    for name in ("one", "other"):
        (tmp_path / name).write_text("{}")
    paths = [tmp_path / "one", good, tmp_path / "other"]
    for read in (stack_files, summarise):
        with pytest.raises(CatalogError) as caught:
            read(paths)
        assert [Path(problem.where).name for problem in caught.value.problems] == ["one", "other"]
