"""How far whole classes of kernels are off where a library or a GPU is left out: prints hwprofiles/kernels/class_ranges.yaml.

Every GPU with measurements of its own is predicted once more without one source of measurements, and without those of the
GPU itself; the error of a class is the mean, over calls of usual training shapes, of the logarithm of both times. Errors of
single calls average out over the shapes of a step, those of a class do not. Run: python -m hwprofiles.calibration.class_ranges
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import groupby, product
from typing import Final

from hwprofiles.catalog import list_names, load_gpu
from hwprofiles.efficiencies import Efficiencies, load_efficiencies
from hwprofiles.kernels.anchoring import KernelCost
from hwprofiles.kernels.class_ranges import ClassRange, Evidence, evidence_of, kernel_class
from hwprofiles.kernels.parameters import MissingKernelError
from hwprofiles.kernels.shape import KernelShape
from hwprofiles.kernels.table import kernel_seconds
from hwprofiles.leave_out import NOTHING, LeftOut
from hwprofiles.schema import Gpu
from hwprofiles.serving import Choice
from hwprofiles.transfer import build_stack

ROWS: Final = 8192
WEIGHTS: Final = ((6144, 4096), (28672, 4096), (4096, 14336), (10240, 8192), (8192, 8192), (57344, 8192), (8192, 28672))
"""(outputs, inputs) of linear layers of Llama 8B and 70B."""
EXPERTS: Final = ((8, 16384, 1536, 2048), (16, 16384, 4096, 7168), (8, 32768, 14336, 4096), (32, 16384, 1536, 2048))
"""(experts, rows, outputs, inputs)."""
CORES: Final = ((2, 4096, 32, 8), (1, 8192, 64, 8), (1, 32768, 16, 4))
"""(sequences, length, heads, heads of keys)."""
FORMATS: Final = ("bf16", "fp8-tensor", "fp8-block", "mxfp8", "nvfp4")
LIBRARIES: Final = ("fa2", "fa3", "cudnn", "aiter")
PASSES: Final = ("fprop", "dgrad", "wgrad")
STUDENT: Final = (6.31, 2.92, 2.35, 2.13, 2.02, 1.94, 1.89, 1.86, 1.83, 1.81, 1.80, 1.78, 1.77, 1.76, 1.75, 1.75)
"""95 % point of Student's law by degrees of freedom, from 1 on; 1.645 of many."""
LEAST: Final = 5
"""Errors of which a class's range is taken; of fewer, those of all classes together count."""


@cache
def calls() -> tuple[tuple[KernelShape, ...], ...]:
    """Calls that stand for a class together."""
    found: list[tuple[KernelShape, ...]] = []
    for dtype in FORMATS:
        found += (tuple(_gemm(name, dtype, (ROWS, *weight)) for weight in WEIGHTS) for name in PASSES)
        found += (tuple(_gemm(name, dtype, each[1:], each[0]) for each in EXPERTS) for name in PASSES)
    for library in LIBRARIES:
        for way in ("fwd", "bwd"):
            found.append(tuple(_core(f"attention_{way}", library, core) for core in CORES))
    return tuple(found)


def _gemm(name: str, dtype: str, size: tuple[int, int, int], groups: int = 1) -> KernelShape:
    rows, out, into = size
    m, n, k = {"fprop": (rows, out, into), "dgrad": (rows, into, out), "wgrad": (out, into, rows)}[name]
    op, library = ("grouped_gemm", "grouped") if groups > 1 else ("gemm", "")
    return KernelShape(op, name, dtype, m, n, k, groups=groups, library=library)


def _core(op: str, library: str, core: tuple[int, int, int, int]) -> KernelShape:
    batch, seq, heads, kv_heads = core
    return KernelShape(
        op, batch=batch, seq=seq, heads=heads, kv_heads=kv_heads, head_dim_qk=128, head_dim_v=128, library=library
    )


_stack = cache(build_stack)


@cache
def _costs(name: str, without: LeftOut, shapes: tuple[KernelShape, ...]) -> list[KernelCost] | None:
    stack, gpu = _stack("public", name, without), load_gpu(name)
    try:
        return [kernel_seconds(shape, stack, gpu, "alone") for shape in shapes]
    except MissingKernelError:
        return None


def errors() -> Mapping[tuple[str, Evidence], list[float]]:
    """(class, evidence that is left) → errors of what was left out: of each GPU, group left out, format and library the mean
    over the passes, those that need nothing of the group counted as right. Groups that leave another family's rates are not
    among them: those calls' own range says so.
    """
    table = load_efficiencies()
    measured = {group.gpu for group in table.groups if group.prefix.startswith(("gemm.", "attention."))}
    found: dict[tuple[str, Evidence], list[float]] = defaultdict(list)
    for name in sorted(set(list_names("gpus")) & {each for each in measured if each}):
        for left in (
            LeftOut(gpus=frozenset((name,))),
            *(LeftOut(sources=frozenset((each,))) for each in table.sources),
        ):
            for (kind, _), some in groupby(calls(), lambda shapes: (kernel_class(shapes[0]), _like(shapes[0]))):
                passes = [each for shapes in some if (each := _error(load_gpu(name), left, shapes)) is not None]
                if any(error for _, error in passes):
                    evidence: Evidence = "own" if all(of == "own" for of, _ in passes) else "transferred"
                    found[kind, evidence].append(math.fsum(error for _, error in passes) / len(passes))
    return found


def _like(shape: KernelShape) -> tuple[str, str]:
    return shape.dtype, shape.library


def _error(gpu: Gpu, left: LeftOut, shapes: tuple[KernelShape, ...]) -> tuple[Evidence, float] | None:
    """Evidence that is left, and the mean error; None where the calls are not the GPU's own, or another family's in the end."""
    full, rest = _costs(gpu.name, NOTHING, shapes), _costs(gpu.name, left, shapes)
    if full is None or rest is None or evidence_of(full[0].basis) == "transferred" or _is_foreign(gpu, left, shapes[0]):
        return None
    logs = [math.log(there.seconds / here.seconds) for there, here in zip(rest, full, strict=True)]
    return evidence_of(rest[0].basis), math.fsum(logs) / len(logs)


def _is_foreign(gpu: Gpu, left: LeftOut, shape: KernelShape) -> bool:
    """Whether the rate comes from another family, or all that was measured of grouped GEMMs of the format is left out."""
    key = f"gemm.{shape.dtype}.eta"
    if shape.bound == "attention":
        key = f"{shape.op.replace('_', '.bf16.')}.{shape.library}.rate_share"
    grouped = f"gemm.{shape.dtype}.grouped.eta"
    choice, full = (Choice(_table(each), gpu, own_alone=True) for each in (left, NOTHING))
    is_lost = shape.groups > 1 and bool(full.found(grouped).chosen) and not choice.found(grouped).chosen
    return is_lost or choice.found(key).is_other_family


@cache
def _table(left: LeftOut) -> Efficiencies:
    return load_efficiencies().without(left)


def ranges(found: Mapping[tuple[str, Evidence], Sequence[float]]) -> Iterator[tuple[str, Evidence, ClassRange]]:
    """The 90 % range of a class: root mean square of its errors times Student's point; of few errors, with those of all
    classes of the same evidence.
    """
    names = sorted({name for name, _ in found})
    evidences: tuple[Evidence, ...] = ("own", "transferred")
    for name, evidence in product(names, evidences):
        own = found.get((name, evidence), ())
        alike = [each for (_, of), some in sorted(found.items()) if of == evidence for each in some]
        used = own if len(own) >= LEAST else alike
        rms = math.sqrt(math.fsum(each**2 for each in used) / len(used))
        point = STUDENT[len(used) - 1] if len(used) <= len(STUDENT) else 1.645
        yield name, evidence, ClassRange(round(math.exp(-point * rms), 3), round(math.exp(point * rms), 3), len(used))


def main() -> None:
    """Prints the file's lines."""
    for name, evidence, found in ranges(errors()):
        print(
            f"  - {{class: {name}, evidence: {evidence}, range: [{found.low}, {found.high}], groups: {found.groups}}}"
        )


if __name__ == "__main__":
    main()
