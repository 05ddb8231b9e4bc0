"""What CUDA's driver is given: arguments, launches and tensor maps as cuda.h has them; and what is said where it cannot be."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.kernels.cuda import driver
from hwprofiles.calibration.kernels.cuda.driver import TensorMap, packed_argument, tensor_map

CPU = torch.device("cpu")


class Driver:
    """CUDA's driver, which keeps what it was asked, and answers `code`."""

    def __init__(self, code: int = 0) -> None:
        self.code = code
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Any:
        def answer(*arguments: Any) -> int:
            self.calls.append((name, arguments))
            return self.code

        return answer

    def cuGetErrorString(self, code: int, text: Any) -> int:
        text._obj.value = b"invalid argument"
        return 0


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Driver:
    made = Driver()
    monkeypatch.setattr(driver, "_driver", lambda: made)
    driver._encoded.cache_clear()
    return made


def read(argument: Any, kind: Any) -> Any:
    address, alive = packed_argument(argument)
    return kind.from_address(address).value, alive


def test_arguments_are_packed_by_their_type() -> None:
    x = torch.zeros(3)
    assert read(x, ctypes.c_void_p)[0] == x.data_ptr()
    assert read(-5, ctypes.c_int32)[0] == -5
    assert read(True, ctypes.c_int32)[0] == 1
    assert read(0.5, ctypes.c_float)[0] == 0.5


@pytest.mark.parametrize("number", [2**31, -(2**31) - 1])
def test_a_number_that_does_not_fit_is_refused(number: int) -> None:
    with pytest.raises(CalibrationError, match="too large for a kernel's 32-bit number"):
        packed_argument(number)


def test_a_tensor_on_another_device_is_refused_with_both_sides() -> None:
    with pytest.raises(CalibrationError, match="operand is on cpu, the kernel on cuda:1"):
        packed_argument(torch.zeros(1), 1)


def test_a_map_lies_at_a_multiple_of_64() -> None:
    maps = [TensorMap(ctypes.create_string_buffer(192)) for _ in range(50)]
    for made in maps:
        first = ctypes.addressof(made.memory)
        assert made.address % 64 == 0 and first <= made.address <= first + 64
        assert packed_argument(made)[0] == made.address


def test_structures_are_those_of_cuda_h() -> None:
    config = driver.configuration(264, 384, 1000, 77, 2)
    kind = type(config)
    assert ctypes.sizeof(kind) == 56
    places = {name: getattr(kind, name).offset for name, _ in kind._fields_}
    assert places == {
        "grid": 0, "block": 12, "shared_bytes": 24, "stream": 32, "attributes": 40, "num_attributes": 48,
    }  # fmt: skip
    assert (list(config.grid), list(config.block), config.stream) == ([264, 1, 1], [384, 1, 1], 77)
    attribute = config.attributes[0]
    assert (config.num_attributes, attribute.id, list(attribute.value)[:3]) == (1, 4, [2, 1, 1])
    assert (ctypes.sizeof(type(attribute)), type(attribute).value.offset) == (72, 8)
    assert driver.configuration(264, 384, 1000, 77, 1).num_attributes == 0


def test_a_map_tells_the_driver_the_innermost_dimension_first(fake: Driver) -> None:
    x = torch.zeros(10, 20, 64, dtype=torch.bfloat16)[:, :, :40]
    made = tensor_map(x, (1, 16, 32), swizzle=64)
    ((name, arguments),) = fake.calls
    address, dtype, rank, pointer, sizes, strides, box, steps, interleave, swizzle, l2, fill = arguments
    assert (name, address.value, dtype, rank, pointer.value) == (
        "cuTensorMapEncodeTiled", made.address, 9, 3, x.data_ptr(),
    )  # fmt: skip
    assert (list(sizes), list(strides), list(box), list(steps)) == ([40, 20, 10], [128, 2560], [32, 16, 1], [1, 1, 1])
    assert (interleave, swizzle, l2, fill) == (0, 2, 3, 0)
    assert tensor_map(x, (1, 16, 32), swizzle=64) is made
    assert tensor_map(x, (1, 8, 32), swizzle=64) is not made


@pytest.mark.parametrize(
    ("x", "box", "swizzle", "message"),
    [
        (torch.zeros(4, 64, dtype=torch.float64), (1, 4), 0, "dtype torch.float64, wanted one of torch.uint8"),
        (torch.zeros(4, 64), (4,), 0, r"boxes \(4,\) of 2 dimensions \(4, 64\)"),
        (torch.zeros(0, 64), (1, 4), 0, r"sizes \(0, 64\), none may be 0"),
        (torch.zeros(4, 1024), (1, 512), 0, r"boxes \(1, 512\), at most 256"),
        (torch.zeros(4, 64), (0, 4), 0, r"boxes \(0, 4\), at most 256"),
        (torch.zeros(4, 64).t(), (4, 4), 0, r"strides \(1, 64\), the last has to be 1"),
        (torch.zeros(4, 67), (1, 4), 0, r"strides \(67, 1\) of 4 bytes, all but the last .* multiples of 16 bytes"),
        (torch.zeros(4, 64)[:, 1:], (1, 4), 0, r"address 0x[0-9a-f]+, wanted a multiple of 16"),
        (torch.zeros(4, 64), (1, 3), 0, "rows of boxes of 12 bytes, wanted a multiple of 16"),
        (torch.zeros(4, 64), (1, 64), 128, "rows of boxes of 256 bytes, swizzled in 128"),
        (torch.zeros(4, 64), (1, 4), 16, "rows of boxes of 16 bytes, swizzled in 16"),
    ],
)
def test_what_the_copy_engine_cannot_read_is_refused(
    fake: Driver, x: torch.Tensor, box: tuple[int, ...], swizzle: int, message: str
) -> None:
    with pytest.raises(CalibrationError, match=message):
        tensor_map(x, box, swizzle=swizzle)
    assert fake.calls == []


def test_the_drivers_words_are_passed_on(fake: Driver) -> None:
    fake.code = 1
    with pytest.raises(
        CalibrationError, match=r"cannot describe .*: cuTensorMapEncodeTiled answers 1, invalid argument"
    ):
        tensor_map(torch.zeros(4, 64), (1, 4))


def test_a_machine_without_nvidias_driver_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_LIBRARY", "libcuda.so.none")
    driver._driver.cache_clear()
    with pytest.raises(CalibrationError, match=r"libcuda\.so\.none cannot be loaded .*NVIDIA's driver"):
        driver._driver()


def on_a_card(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA B200")


def test_devices_that_are_no_hopper_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CalibrationError, match="need a Hopper GPU, and the operands are on 'cpu'"):
        driver.kernel("add.cu", "add", CPU)
    cuda = torch.device("cuda", 0)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "sees no CUDA GPU" in driver.reason_against(cuda)
    on_a_card(monkeypatch, (10, 0))
    assert "compute capability 9.0 (sm_90a), and NVIDIA B200 has 10.0" in driver.reason_against(cuda)
    on_a_card(monkeypatch, (9, 0))
    assert driver.reason_against(cuda) == ""


def test_more_shared_memory_than_a_block_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_card(monkeypatch, (9, 0))
    with pytest.raises(CalibrationError, match="add asks for 232,449 bytes of shared memory; a block has 232,448"):
        driver.kernel("add.cu", "add", torch.device("cuda", 0), shared_bytes=232_449)
