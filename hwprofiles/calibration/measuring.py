"""What the programs that measure GPUs share: kernels to be timed, and what nvidia-smi says; torch inside functions only."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, Final

from hwprofiles.units import GIGA, MILLI

SLEEP_CYCLES_PER_S: Final = 2.0 * GIGA
"""Of torch.cuda._sleep: more than the clock of any GPU, so that it sleeps long enough."""


@dataclass(frozen=True)
class Case:
    """One call to be timed. flop, bytes_moved: its work, 0 where it is not what binds; m, n, k of a GEMM.

    repetitions: calls of a median; beside: whether it is also timed beside other kernels.
    """

    name: str
    call: Callable[[], Any]
    flop: float = 0.0
    bytes_moved: float = 0.0
    gemm: tuple[int, int, int] | None = None
    repetitions: int = 30
    beside: bool = True


def random_bf16(device: Any, *shape: int) -> Any:
    """Normally distributed numbers."""
    import torch

    return torch.randn(*shape, device=device, dtype=torch.bfloat16)


def gemm_case(device: Any, name: str, m: int, n: int, k: int) -> Case:
    """(m, k) @ (n, k).T in BF16 on random numbers; `name`_mxnxk."""
    import torch

    a, b, c = (
        random_bf16(device, m, k),
        random_bf16(device, n, k),
        torch.empty(m, n, device=device, dtype=torch.bfloat16),
    )
    return Case(f"{name}_{m}x{n}x{k}", partial(torch.mm, a, b.t(), out=c), 2.0 * m * n * k, gemm=(m, n, k))


def streaming_cases(device: Any, tokens: int, wide: int, hidden: int) -> Iterator[Case]:
    """A copy and a sum of (tokens, wide), a norm of (tokens, hidden), in BF16; bytes read and written once."""
    import torch

    big = random_bf16(device, tokens, wide)
    to = torch.empty_like(big)
    size = 2.0 * big.nbytes
    yield Case("copy", partial(to.copy_, big), bytes_moved=size, repetitions=60)
    yield Case("add", partial(torch.add, big, big, out=to), bytes_moved=size, repetitions=60)
    rows, scale = random_bf16(device, tokens, hidden), torch.ones(hidden, device=device, dtype=torch.bfloat16)
    norm = partial(torch.nn.functional.rms_norm, rows, (hidden,), scale)
    yield Case("rmsnorm", norm, bytes_moved=2.0 * rows.nbytes, repetitions=60)


def query_gpu(index: int, fields: str) -> str:
    """What nvidia-smi says of one GPU: "value, value" without units."""
    command = ["nvidia-smi", f"--id={index}", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603


def device_facts(index: int) -> dict[str, Any]:
    """The GPU, its driver and power limit as it reports them, and torch's version. No serial number, no UUID."""
    import torch

    driver, limit_w = query_gpu(index, "driver_version,power.limit").split(", ")
    gpu = torch.cuda.get_device_name(index)
    return {"index": index, "gpu": gpu, "driver": driver, "power_limit_w": float(limit_w), "torch": torch.__version__}


def facts_of(device: Any) -> dict[str, Any]:
    """The same of a torch device, less its place in the host; of a CPU torch's version, and nothing in the other cells."""
    import torch

    if device.type != "cuda":
        return {"gpu": "", "driver": "", "power_limit_w": "", "torch": torch.__version__}
    return {key: value for key, value in device_facts(device.index or 0).items() if key != "index"}


def sleep(seconds: float) -> None:
    """Keeps a GPU's current stream busy with nothing for at least so long."""
    import torch

    torch.cuda._sleep(int(seconds * SLEEP_CYCLES_PER_S))


def middle(seconds: Sequence[float]) -> tuple[float, float, float]:
    """Median, and the ends of the middle 80 %."""
    ordered = sorted(seconds)
    tenth = len(ordered) // 10
    return median(ordered), ordered[tenth], ordered[-1 - tenth]


class Clock:
    """Moments of a device's work and the seconds between them: CUDA events on a GPU, the processor's clock elsewhere."""

    def __init__(self, device: Any) -> None:
        self.device = device

    def mark(self) -> Any:
        """A moment of the device's work."""
        import torch

        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(self, begin: Any, end: Any) -> float:
        """Seconds between two moments, both of which are over by the time that this returns."""
        if self.device.type != "cuda":
            return float(end - begin)
        end.synchronize()
        return float(begin.elapsed_time(end)) * MILLI


def driver_number(device: Any) -> int:
    """The number of a torch device as the driver counts; the process may see only some, in an order of their own."""
    import torch

    index = torch.device(device).index or 0
    found: int = getattr(torch.cuda, "_get_nvml_device_index", lambda given: given)(index)
    return found
