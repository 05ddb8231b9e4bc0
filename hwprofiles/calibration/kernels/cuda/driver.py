"""Machine code on a GPU by CUDA's driver, through ctypes: loaded once, launched on torch's current stream.

Names and numbers of structures are those of cuda.h (CUDA 12 and 13, https://docs.nvidia.com/cuda/cuda-driver-api).
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.kernels.cuda.compiler import ARCHITECTURE, machine_code
from hwprofiles.problem import Problem

HOPPER: Final = (9, 0)
"""Compute capability of H100, H200, H800, H20, GH200."""
MAX_SHARED_BYTES: Final = 232_448
"""Shared memory that a block of Hopper can have: 227 KiB."""
FOLDER: Final = Path(__file__).parent
_LIBRARY: Final = "libcuda.so.1"
_DYNAMIC_SHARED, _LOCAL_BYTES, _REGISTERS = 8, 3, 4
"""CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, _LOCAL_SIZE_BYTES and _NUM_REGS."""
_CLUSTER: Final = 4
"""CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION."""
_TYPES: Final = {torch.uint8: 0, torch.float8_e4m3fn: 0, torch.int32: 3, torch.float32: 7, torch.bfloat16: 9}
"""CUtensorMapDataType: what the copy engine takes the numbers for (it adds some, and fills with zeros beyond the ends)."""
_SWIZZLES: Final = {0: 0, 32: 1, 64: 2, 128: 3}
"""CUtensorMapSwizzle by bytes."""
_L2_256: Final = 3
"""CU_TENSOR_MAP_L2_PROMOTION_L2_256B."""
_ALIGNED: Final = 16
"""Bytes to which the copy engine wants addresses and strides aligned."""
_MAX_BOX: Final = 256
_MAP_BYTES, _MAP_ALIGNED = 128, 64


class _Attribute(ctypes.Structure):
    """CUlaunchAttribute: a number that says which, and 64 bytes of value, of which a cluster takes three numbers."""

    _fields_ = (("id", ctypes.c_uint), ("pad", ctypes.c_uint), ("value", ctypes.c_uint * 16))


class _Config(ctypes.Structure):
    """CUlaunchConfig."""

    _fields_ = (
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared_bytes", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.POINTER(_Attribute)),
        ("num_attributes", ctypes.c_uint),
    )


@dataclass(frozen=True)
class TensorMap:
    """How the copy engine finds boxes of a tensor: a kernel's `const __grid_constant__ TensorMap` parameter, 128 bytes."""

    memory: Any = field(repr=False)

    @property
    def address(self) -> int:
        """Of the 128 bytes, aligned to 64, as the driver wants them."""
        first = ctypes.addressof(self.memory)
        return first + -first % _MAP_ALIGNED


Argument: TypeAlias = Tensor | TensorMap | int | float
"""Of a kernel: a pointer, a tensor map, a 32-bit int, a float."""


@dataclass(frozen=True)
class Kernel:
    """One function of a .cu file on one device.

    registers, local_bytes: a thread's; local memory is what does not fit into registers, and slow.
    """

    name: str
    device: int
    shared_bytes: int
    registers: int
    local_bytes: int
    function: Any = field(repr=False)

    def launch(self, num_blocks: int, num_threads: int, arguments: Sequence[Argument], *, cluster: int = 1) -> None:
        """On torch's current stream of the device. num_blocks: a multiple of cluster, blocks that share their memory."""
        packed = [packed_argument(argument, self.device) for argument in arguments]
        addresses = (ctypes.c_void_p * len(packed))(*(address for address, _ in packed))
        stream = torch.cuda.current_stream(self.device).cuda_stream
        config = configuration(num_blocks, num_threads, self.shared_bytes, stream, cluster)
        with torch.cuda.device(self.device):
            _enter(self.device)
            _call("cuLaunchKernelEx", ctypes.byref(config), self.function, addresses, None, doing=f"launch {self.name}")


@lru_cache(maxsize=256)
def _loaded(file: str, name: str, constants: tuple[tuple[str, int], ...], device: int, shared_bytes: int) -> Kernel:
    code = machine_code(FOLDER / file, dict(constants))
    with torch.cuda.device(device):
        _enter(device)
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        _call("cuModuleLoadData", ctypes.byref(module), code, doing=f"load {file}")
        _call("cuModuleGetFunction", ctypes.byref(function), module, name.encode(), doing=f"find {name} in {file}")
        _call(
            "cuFuncSetAttribute", function, _DYNAMIC_SHARED, shared_bytes, doing=f"give {name} {shared_bytes:,} bytes"
        )
        sizes = [_attribute(function, which) for which in (_REGISTERS, _LOCAL_BYTES)]
    return Kernel(name, device, shared_bytes, sizes[0], sizes[1], function)


def configuration(num_blocks: int, num_threads: int, shared_bytes: int, stream: int, cluster: int) -> _Config:
    """Of a launch over one dimension."""
    attribute = _Attribute(_CLUSTER, 0, (cluster, 1, 1))
    one = int(cluster > 1)
    return _Config((num_blocks, 1, 1), (num_threads, 1, 1), shared_bytes, stream, ctypes.pointer(attribute), one)


def kernel(
    file: str, name: str, device: torch.device, *, constants: Mapping[str, int] | None = None, shared_bytes: int = 0
) -> Kernel:
    """The function `name` (extern "C") of this folder's file, compiled with constants as macros, loaded once a device.

    shared_bytes: dynamic shared memory of a block. Raises CalibrationError where the device is no Hopper GPU, or something that
    compiling or loading needs is missing.
    """
    if why := reason_against(device):
        raise CalibrationError([Problem("", file, why)])
    if shared_bytes > MAX_SHARED_BYTES:
        raise CalibrationError(
            f"{name} asks for {shared_bytes:,} bytes of shared memory; a block has {MAX_SHARED_BYTES:,}"
        )
    index = torch.cuda.current_device() if device.index is None else device.index
    return _loaded(file, name, tuple(sorted((constants or {}).items())), index, shared_bytes)


def reason_against(device: torch.device) -> str:
    """Why a device cannot run these kernels; empty where it can."""
    remedy = "kernel='triton' runs on others"
    if device.type != "cuda":
        return f"kernels in CUDA C++ need a Hopper GPU, and the operands are on {str(device)!r}; {remedy}"
    if torch.version.cuda is None or not torch.cuda.is_available():
        return f"kernels in CUDA C++ need a Hopper GPU, and torch {torch.__version__} sees no CUDA GPU; {remedy}"
    capability = torch.cuda.get_device_capability(device)
    if capability != HOPPER:
        had = f"{torch.cuda.get_device_name(device)} has {'.'.join(map(str, capability))}"
        return f"kernels in CUDA C++ are for Hopper, compute capability 9.0 ({ARCHITECTURE}), and {had}; {remedy}"
    return ""


def packed_argument(argument: Argument, device: int | None = None) -> tuple[int, Any]:
    """Where the driver reads the argument, and what keeps that memory alive. device: where tensors have to be."""
    if isinstance(argument, TensorMap):
        return argument.address, argument
    if isinstance(argument, Tensor):
        if device is not None and argument.device != torch.device("cuda", device):
            raise CalibrationError(f"an operand is on {argument.device}, the kernel on cuda:{device}; move one of them")
        value: Any = ctypes.c_void_p(argument.data_ptr())
    elif isinstance(argument, float):
        value = ctypes.c_float(argument)
    elif -(2**31) <= argument < 2**31:
        value = ctypes.c_int32(argument)
    else:
        raise CalibrationError(f"{argument:,} is too large for a kernel's 32-bit number; divide the operands")
    return ctypes.addressof(value), value


def tensor_map(x: Tensor, box: Sequence[int], *, swizzle: int = 0) -> TensorMap:
    """x with its innermost dimension contiguous, of which `box`, in the order of x's dimensions, is copied at a time.

    swizzle: bytes of a row (0, 32, 64, 128) in which 16-byte pieces are interchanged, so that wgmma reads without conflicts.
    Numbers beyond x's ends are read as zeros, and not written.
    """
    return _encoded(x.data_ptr(), x.dtype, tuple(x.shape), tuple(x.stride()), tuple(box), swizzle)


@lru_cache(maxsize=4096)
def _encoded(
    pointer: int,
    dtype: torch.dtype,
    sizes: tuple[int, ...],
    strides: tuple[int, ...],
    box: tuple[int, ...],
    swizzle: int,
) -> TensorMap:
    refuse_unmappable(pointer, dtype, sizes, strides, box, swizzle)
    rank = len(sizes)
    result = TensorMap(ctypes.create_string_buffer(_MAP_BYTES + _MAP_ALIGNED))
    numbers = (ctypes.c_uint64 * rank)(*reversed(sizes))
    byte_strides = (ctypes.c_uint64 * max(rank - 1, 1))(*(stride * dtype.itemsize for stride in reversed(strides[:-1])))
    boxes, steps = (ctypes.c_uint32 * rank)(*reversed(box)), (ctypes.c_uint32 * rank)(*[1] * rank)
    _call(
        "cuTensorMapEncodeTiled", ctypes.c_void_p(result.address), _TYPES[dtype], rank, ctypes.c_void_p(pointer), numbers,
        byte_strides, boxes, steps, 0, _SWIZZLES[swizzle], _L2_256, 0, doing=f"describe {sizes} in boxes {box}",
    )  # fmt: skip
    return result


def refuse_unmappable(
    pointer: int,
    dtype: torch.dtype,
    sizes: tuple[int, ...],
    strides: tuple[int, ...],
    box: tuple[int, ...],
    swizzle: int,
) -> None:
    """Raises CalibrationError where the copy engine cannot read a tensor so, naming what it has and what is wanted."""
    row = box[-1] * dtype.itemsize
    wrong = [text for text, is_wrong in {
        f"dtype {dtype}, wanted one of {', '.join(map(str, _TYPES))}": dtype not in _TYPES,
        f"boxes {box} of {len(sizes)} dimensions {sizes}": len(box) != len(sizes),
        f"sizes {sizes}, none may be 0": 0 in sizes,
        f"boxes {box}, at most {_MAX_BOX} a dimension": not all(0 < size <= _MAX_BOX for size in box),
        f"strides {strides}, the last has to be 1": strides[-1] != 1,
        f"strides {strides} of {dtype.itemsize} bytes, all but the last have to be multiples of {_ALIGNED} bytes":
            any(stride * dtype.itemsize % _ALIGNED for stride in strides[:-1]),
        f"address {pointer:#x}, wanted a multiple of {_ALIGNED}": pointer % _ALIGNED != 0,
        f"rows of boxes of {row} bytes, wanted a multiple of {_ALIGNED}": row % _ALIGNED != 0,
        f"rows of boxes of {row} bytes, swizzled in {swizzle}": swizzle not in _SWIZZLES or 0 < swizzle < row,
    }.items() if is_wrong]  # fmt: skip
    if wrong:
        raise CalibrationError([Problem("", "tensor map", f"{text}; pad or copy the operand") for text in wrong])


def _enter(device: int) -> None:
    """The thread's context becomes torch's of the device; a thread that has not called CUDA yet has none."""
    current = ctypes.c_void_p()
    _call("cuCtxGetCurrent", ctypes.byref(current), doing="ask for the context")
    if current.value != (primary := _primary(device)):
        _call("cuCtxSetCurrent", ctypes.c_void_p(primary), doing="set the context")


@cache
def _primary(device: int) -> int:
    """The context of CUDA's runtime, and so torch's."""
    torch.cuda.init()
    handle, context = ctypes.c_int(), ctypes.c_void_p()
    _call("cuDeviceGet", ctypes.byref(handle), device, doing=f"find device {device}")
    _call("cuDevicePrimaryCtxRetain", ctypes.byref(context), handle, doing="take torch's context")
    return int(context.value or 0)


def _attribute(function: ctypes.c_void_p, which: int) -> int:
    value = ctypes.c_int()
    _call("cuFuncGetAttribute", ctypes.byref(value), which, function, doing="ask for a kernel's sizes")
    return value.value


@cache
def _driver() -> Any:
    try:
        return ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise CalibrationError([Problem(
            "", "CUDA", f"{_LIBRARY} cannot be loaded ({error}); it comes with NVIDIA's driver: install that, or "
            "kernel='triton', which needs less"
        )]) from None  # fmt: skip


def _call(name: str, *arguments: Any, doing: str) -> None:
    """Raises CalibrationError with the driver's own words."""
    driver = _driver()
    if code := getattr(driver, name)(*arguments):
        text = ctypes.c_char_p()
        driver.cuGetErrorString(code, ctypes.byref(text))
        said = (text.value or b"unknown error").decode(errors="replace")
        raise CalibrationError([Problem("", "CUDA", f"cannot {doing}: {name} answers {code}, {said}")])
