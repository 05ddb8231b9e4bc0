"""Faults of the streaming kernels of the FP8 recipe, where a CPU sees them, and of the networks that use them."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

KERNELS = "hwprofiles/calibration/kernels"

STREAMS = Room(
    "streams",
    (
        "tests/hwprofiles/kernels/test_streams.py",
        "tests/hwprofiles/kernels/test_swiglu_permuting.py",
        "tests/hwprofiles/kernels/test_gated.py",
    ),
    (
        Fault(
            f"{KERNELS}/tiles.py",
            "return tl.where(largest < 0x7F800000, scale, number)",
            "return scale",
            "a NaN is lost among the numbers of its tile",
        ),
        Fault(
            f"{KERNELS}/tiles.py",
            "low = octets(first, scale).to(tl.int32) | (octets(second, scale).to(tl.int32) << 8)",
            "low = octets(second, scale).to(tl.int32) | (octets(first, scale).to(tl.int32) << 8)",
            "two neighbouring tokens change places in a transposed copy",
        ),
        Fault(
            f"{KERNELS}/streams.py",
            "pitch = num_rows + -num_rows % PITCH",
            "pitch = num_rows",
            "scales of an odd number of rows cannot be read by the copy engine",
        ),
        Fault(
            f"{KERNELS}/streams.py",
            "tl.store(scales + tile.to(tl.int64) * padded_columns + column, scale, mask=is_column)",
            "tl.store(scales + column, scale, mask=is_column)",
            "tokens behind the first 128 get no scales",
        ),
        Fault(
            f"{KERNELS}/streams.py",
            "of_row = tl.load(x_scales + source * scale_row + scale_tile, mask=source >= 0, other=0)",
            "of_row = tl.load(x_scales + source * scale_row, mask=source >= 0, other=0)",
            "what is kept in FP8 is read with the first tile's scale",
        ),
        Fault(
            f"{KERNELS}/swiglu.py",
            "made = tl.fma(tl.fma(-gate, chance, gate), chance, chance) * up_times_grad",
            "made = tl.fma(gate, chance, chance) * up_times_grad",
            "SwiGLU's slope is wrong where its gradient is quantised",
        ),
        Fault(
            f"{KERNELS}/swiglu.py",
            "product *= tl.load(row_weights + row, mask=row < num_rows, other=0)[:, None]",
            "product *= 1.0",
            "the router's weights are lost",
        ),
        Fault(
            f"{KERNELS}/permuting.py",
            "is_kept = (place >= 0)[:, None] & (column < padded_columns)[None, :]",
            "is_kept = (place > 0)[:, None] & (column < padded_columns)[None, :]",
            "the first row of the experts' order is not written",
        ),
        Fault(
            f"{KERNELS}/permuting.py",
            "            part *= tl.load(weights + row * top_k + idx, mask=row < num_tokens, other=0)[:, None]",
            "            part *= tl.load(weights + row * top_k, mask=row < num_tokens, other=0)[:, None]",
            "all of a token's experts have the weight of its first",
        ),
        Fault(
            f"{KERNELS}/permuting.py",
            "return rows_grad, partial.sum(0)",
            "return rows_grad, partial[0]",
            "gradients of weights are those of the first columns",
        ),
        Fault(
            "hwprofiles/calibration/numerics/gated.py",
            "tokens = torch.where(sources >= 0, places.tokens[sources.clamp(min=0)], -1)",
            "tokens = torch.where(sources >= 0, sources, -1)",
            "weight gradients are of other tokens' gradients",
        ),
        Fault(
            "hwprofiles/calibration/numerics/gated.py",
            "of_x = of_x if places is None else import_module(KERNELS + \"permuting\").unpermute(of_x, places.rows)",
            "of_x = of_x if places is None else of_x[: len(places.rows)]",
            "a token's gradient is that of one row",
        ),
        Fault(
            f"{KERNELS}/stream_operands.py",
            "        if given.device != beside.device:",
            "        if given.device == beside.device and False:",
            "operands of two devices are taken",
        ),
    ),
)  # fmt: skip
