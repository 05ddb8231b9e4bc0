"""A compiled kernel's place in tests without a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from hwprofiles.calibration.kernels.cuda import driver


class Launches:
    """In place of a kernel: what it is compiled and launched with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: dict[str, Any] = {}
        monkeypatch.setattr(driver, "kernel", self.kernel)
        monkeypatch.setattr(driver, "tensor_map", lambda x, box, swizzle=0: (tuple(x.shape), x.stride(), box, swizzle))

    def kernel(self, *_: Any, constants: dict[str, int], shared_bytes: int) -> Launches:
        self.seen |= constants | {"shared": shared_bytes}
        return self

    def launch(self, num_blocks: int, num_threads: int, arguments: Sequence[Any], *, cluster: int) -> None:
        self.seen |= {"blocks": num_blocks, "threads": num_threads, "arguments": arguments, "cluster": cluster}
