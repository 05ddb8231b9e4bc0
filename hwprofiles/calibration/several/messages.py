"""Messages by size and by the SMs that NCCL may take, even and uneven, and a product beside them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor

from hwprofiles.calibration.machine.ranks import Rank
from hwprofiles.calibration.several.timing import device_of, once, timed
from hwprofiles.units import KIBI, MEBI

CTAS: Final = (0, 4, 8, 16, 32)
"""SMs of a message at most; 0: as many as NCCL takes by itself."""
SIZES: Final = (MEBI, 16 * MEBI, 128 * MEBI)
"""Bytes of a rank's tensor."""
SKEW: Final = 3.0
"""What the first rank gets of an uneven all-to-all, over the others' mean."""
PRODUCT: Final = (8192, 4096, 7168)
"""m, n, k."""
BESIDE: Final = ("all_gather", "all_to_all")
PRODUCTS: Final = 8
"""Of a call beside a message, which is made as often as it fits into them."""


def rows(place: Rank, done: Collection[str]) -> Iterator[Mapping[str, Any]]:
    """One a message, then one a product beside it."""
    sizes, ctas_of = ((64 * KIBI,), (0,)) if place.is_tiny else (SIZES, CTAS)
    for ctas in ctas_of:
        group = _group(place, ctas)
        for size in sizes:
            for way, call in _calls(place, group, size).items():
                if (name := f"{way} {size} bytes {ctas} SMs") not in done:
                    yield {"name": name, **_cells(way, size, ctas), **timed(place, once(call))}
        for way in BESIDE:
            if (name := f"{way} beside a product {ctas} SMs") not in done:
                call = _calls(place, group, sizes[-1])[way]
                yield {"name": name, **_cells(way, sizes[-1], ctas), **_beside(place, call)}


def _cells(way: str, size: int, ctas: int) -> dict[str, Any]:
    return {"way": way, "bytes": size, "sms": ctas}


def _group(place: Rank, ctas: int) -> Any:
    if place.device != "cuda":
        return None
    options = dist.ProcessGroupNCCL.Options()
    if ctas:
        options.config.min_ctas = options.config.max_ctas = ctas
    return dist.new_group(list(range(place.world)), pg_options=options)


def _calls(place: Rank, group: Any, size: int) -> dict[str, Callable[[], Any]]:
    device, world = device_of(place), place.world
    numbers = size // 2 // world * world
    own = torch.randn(numbers, device=device).bfloat16()
    whole = torch.empty(world * numbers, dtype=own.dtype, device=device)
    return {
        "all_reduce": partial(dist.all_reduce, own, group=group),
        "all_gather": partial(dist.all_gather_into_tensor, whole, own, group=group),
        "reduce_scatter": partial(dist.reduce_scatter_tensor, torch.empty_like(own), whole, group=group),
        "all_to_all": partial(dist.all_to_all_single, torch.empty_like(own), own, group=group),
        "uneven all_to_all": _uneven(place, group, own),
    }


def _uneven(place: Rank, group: Any, own: Tensor) -> Callable[[], Any]:
    """Every rank sends the first one SKEW times what each other gets."""
    each = int(len(own) / (SKEW + place.world - 1))
    sent = [len(own) - each * (place.world - 1), *[each] * (place.world - 1)]
    got = [sent[place.rank]] * place.world
    out = own.new_empty(sum(got))
    return partial(dist.all_to_all_single, out, own, got, sent, group=group)


def _beside(place: Rank, message: Callable[[], Any]) -> dict[str, Any]:
    """Seconds of products and of messages alone, then of both at once on two streams."""
    device = device_of(place)
    m, n, k = (64, 64, 64) if place.is_tiny else PRODUCT
    left, right = torch.randn(m, k, device=device).bfloat16(), torch.randn(k, n, device=device).bfloat16()

    def products() -> None:
        for _ in range(PRODUCTS):
            left @ right

    alone, of_message = timed(place, once(products)), timed(place, once(message))
    count = max(1, round(alone["seconds"] / of_message["seconds"]))

    def messages() -> None:
        for _ in range(count):
            message()

    return {
        **timed(place, _both(place, products, messages), ("product", "message")), "alone_s": alone["seconds"],
        "message_alone_s": timed(place, once(messages))["seconds"],
    }  # fmt: skip


def _in_turn(products: Callable[[], None], messages: Callable[[], None], mark: Callable[[], Any]) -> list[Any]:
    """A rehearsal: a CPU has no streams."""
    begin = mark()
    products()
    end = mark()
    messages()
    return [begin, end, mark()]


def _both(place: Rank, products: Callable[[], None], messages: Callable[[], None]) -> Any:
    """Moments: both begin; products end; messages end (behind the products' end where they take longer)."""
    if place.device != "cuda":
        return partial(_in_turn, products, messages)
    side = torch.cuda.Stream()

    def step(mark: Callable[[], Any]) -> list[Any]:
        begin = mark()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            messages()
        products()
        end = mark()
        torch.cuda.current_stream().wait_stream(side)
        return [begin, end, mark()]

    return step
