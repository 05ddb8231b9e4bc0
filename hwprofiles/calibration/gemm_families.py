"""What each fit of GEMM constants is made of: whose calls, on which GPU, with which tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from hwprofiles.calibration import reference_points as points
from hwprofiles.calibration.gemm_fit import HUBER, STRICT_HUBER, GemmPoint, without_wild
from hwprofiles.calibration.rates_points import rate_points
from hwprofiles.kernels.gemm_formula import Tiles
from hwprofiles.provenance import State

BOTH: Final = ("TRTLLM", "SGLang")
CUBLAS_TILES: Final = Tiles(256, 256, 32)
DEEPGEMM_TILES: Final = Tiles(256, 160, 8)
CUTLASS_TILES: Final = Tiles(128, 128, 64)
OWN: Final = "_kernel_rates"
"""End of the name of a source that was measured here."""


@dataclass(frozen=True)
class GemmFamily:
    """What one fit is made of. key: prefix of the parameters; gpu: catalogue name; tiles: of its kernels.

    source: its name in stacks/transfer/gemm.yaml; library: whose calls, in words. quantises: the timed calls quantise their
    input, which gets a constant of its own. huber: as in gemm_fit. is_group: it is a group of the file, else it is only judged.
    """

    key: str
    gpu: str
    dtype: str
    load: Callable[[Path], list[GemmPoint]]
    tiles: Tiles
    quantises: bool = False
    source: str = ""
    library: str = ""
    huber: float = HUBER
    is_group: bool = True
    state: State = "benchmark_loop"

    @property
    def is_own(self) -> bool:
        """Whether this project measured it."""
        return self.source.endswith(OWN)


def _framework(gpu: str, frameworks: Sequence[str], table_dtype: str, dtype: str) -> Callable[[Path], list[GemmPoint]]:
    quantises = table_dtype in ("fp8", "fp8_block", "nvfp4")
    return lambda folder: without_wild(points.framework_gemms(folder, gpu, frameworks, table_dtype, dtype, quantises))


def _table(
    key: str, gpu: str, frameworks: Sequence[str], formats: tuple[str, str], tiles: Tiles = CUBLAS_TILES,
    *, is_group: bool = True,
) -> GemmFamily:  # fmt: skip
    """Of aiconfigurator's table. formats: there, and here."""
    names = {"TRTLLM": "TensorRT-LLM", "SGLang": "SGLang"}
    load, quantises = _framework(gpu.upper(), frameworks, *formats), formats[0] != "bfloat16"
    return GemmFamily(
        key, gpu, formats[1], load, tiles, quantises, "aiconfigurator_gemm", " and ".join(names[name] for name in frameworks),
        STRICT_HUBER, is_group,
    )  # fmt: skip


def _measured(gpu: str, key: str, dtype: str, library: str, *variants: str) -> GemmFamily:
    """Of this project's own measurement."""

    def load(_: Path) -> list[GemmPoint]:
        return rate_points(gpu, dtype, library, *variants)

    named = {"grouped": "torch._grouped_mm"}.get(library, "cuBLAS in torch")
    source = f"{gpu}{OWN}"
    return GemmFamily(
        key, gpu, dtype, load, CUBLAS_TILES, source=source, library=named, huber=STRICT_HUBER, state="first_launches"
    )


def _all_measured(gpu: str) -> Iterator[GemmFamily]:
    yield from (
        _measured(gpu, "gemm.bf16", "bf16", "cublas", "fprop"),
        _measured(gpu, "gemm.bf16.dgrad", "bf16", "cublas", "dgrad"),
        _measured(gpu, "gemm.bf16.wgrad", "bf16", "cublas", "wgrad"),
        _measured(gpu, "gemm.bf16.grouped", "bf16", "grouped", "fprop"),
        _measured(gpu, "gemm.bf16.grouped.dgrad", "bf16", "grouped", "dgrad"),
        _measured(gpu, "gemm.bf16.grouped.wgrad", "bf16", "grouped", "wgrad"),
        _measured(gpu, "gemm.fp8-tensor", "fp8-tensor", "cublas", "fprop"),
        _measured(gpu, "gemm.fp8-block", "fp8-block", "cublas", "fprop"),
        _measured(gpu, "gemm.fp8-block.wgrad", "fp8-block", "cublas-fp32-out", "wgrad"),
    )


MEASURED: Final = (*_all_measured("h100"), *_all_measured("h200"))
FAMILIES: Final = (
    *MEASURED,
    _table("gemm.bf16", "h100", BOTH, ("bfloat16", "bf16"), is_group=False),
    _table("gemm.bf16", "b200", BOTH, ("bfloat16", "bf16")),
    _table("gemm.fp8-block", "h100", ["SGLang"], ("fp8_block", "fp8-block"), DEEPGEMM_TILES, is_group=False),
    _table("gemm.fp8-block", "h100", ["TRTLLM"], ("fp8_block", "fp8-block"), DEEPGEMM_TILES, is_group=False),
    GemmFamily(
        "gemm.fp8-block", "h800", "fp8-block", partial(points.deepgemm, version="apr-2025", cutlass=False), CUTLASS_TILES,
        source="deepgemm", library="DeepGEMM of April 2025",
    ),
    GemmFamily(
        "gemm.fp8-block.wgrad", "h800", "fp8-block", partial(points.deepgemm_wgrad, rerun_on_h200=False), CUTLASS_TILES,
        source="deepgemm_wgrad", library="DeepGEMM, FP32 accumulated",
    ),
    GemmFamily(
        "gemm.fp8-block.wgrad", "h200", "fp8-block", partial(points.deepgemm_wgrad, rerun_on_h200=True), CUTLASS_TILES,
        source="deepgemm_rerun", library="DeepGEMM, FP32 accumulated, a third party's rerun",
    ),
    _table("gemm.mxfp8", "b200", ["TRTLLM"], ("fp8_block", "mxfp8"), DEEPGEMM_TILES),
    _table("gemm.mxfp8", "b200", ["SGLang"], ("fp8_block", "mxfp8"), DEEPGEMM_TILES, is_group=False),
    _table("gemm.fp8-tensor", "h100", ["TRTLLM"], ("fp8", "fp8-tensor"), is_group=False),
    _table("gemm.fp8-tensor", "b200", ["TRTLLM"], ("fp8", "fp8-tensor")),
    _table("gemm.fp8-row", "h100", ["SGLang"], ("fp8", "fp8-row")),
    _table("gemm.fp8-row", "b200", ["SGLang"], ("fp8", "fp8-row")),
    _table("gemm.nvfp4", "b200", ["TRTLLM"], ("nvfp4", "nvfp4")),
)  # fmt: skip
"""Groups of stacks/transfer/gemm.yaml in the file's order, and what is only judged. Frameworks are pooled where both call the
same library; what training frameworks call comes first.
"""

H800_FAMILIES: Final = (
    GemmFamily(
        "gemm.bf16", "h100", "bf16",
        partial(points.framework_gemms, gpu="H100", frameworks=BOTH, table_dtype="bfloat16", dtype="bf16", quantises=False),
        CUBLAS_TILES,
    ),
    GemmFamily("gemm.fp8-block", "h800", "fp8-block", partial(points.deepgemm, version="initial", cutlass=True), CUTLASS_TILES),
    GemmFamily(
        "gemm.fp8-block.wgrad", "h800", "fp8-block", partial(points.deepgemm_wgrad, rerun_on_h200=False), CUTLASS_TILES
    ),
)  # fmt: skip
"""Constants of stacks/h800-*: the tuned CUTLASS 3.6 kernels of the training era; BF16 as on the H100."""
