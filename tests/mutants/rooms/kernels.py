"""Faults of this project's own FP8 kernels, where a CPU sees them: checks, references, Triton, the model's use of them."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

KERNELS = Room(
    "kernels",
    (
        "tests/hwprofiles/kernels/test_triton_products.py",
        "tests/hwprofiles/kernels/test_products_bad_input.py",
        "tests/hwprofiles/kernels/test_product_references.py",
        "tests/hwprofiles/kernels/test_fp8_own.py",
        "tests/hwprofiles/kernels/test_cuda_wgrad.py",
        "tests/hwprofiles/test_cuda_compiler.py",
        "tests/hwprofiles/test_cuda_driver.py",
        "tests/hwprofiles/kernels/test_cuda_gemm.py",
    ),
    (
        Fault(
            "hwprofiles/calibration/kernels/cuda/gemm.py",
            "rounds = -(-of_clusters // max(num_sms // tile.cluster, 1))",
            "rounds = of_clusters / max(num_sms // tile.cluster, 1)",
            "a last round costs no more than the tiles in it",
        ),
        Fault(
            "hwprofiles/calibration/kernels/cuda/gemm.py",
            "if num_sms < tile.cluster:",
            "if num_sms < 0:",
            "one SM is given a cluster of two blocks, and so none",
        ),
        Fault(
            "hwprofiles/calibration/kernels/triton_gemm.py",
            "if first_row + rows <= stop:",
            "if first_row + rows <= num_rows:",
            "a tile at a group's end writes over the next group's rows",
        ),
        Fault(
            "hwprofiles/calibration/kernels/triton_gemm.py",
            "b = right.load([group * n + first_column, at * tile_k])",
            "b = right.load([first_column, at * tile_k])",
            "every group meets the first group's matrix",
        ),
        Fault(
            "hwprofiles/calibration/kernels/triton_gemm.py",
            "return tl.associative_scan(start, 0, larger), tl.associative_scan(end, 0, larger)",
            "return start, end",
            "an end before the one in front of it is believed",
        ),
        Fault(
            "hwprofiles/calibration/kernels/triton_wgrad.py",
            "result += tl.load(places, mask=is_inside, other=0)",
            "result += 0.0",
            "what is to be added to is written over",
        ),
        Fault(
            "hwprofiles/calibration/kernels/triton_wgrad.py",
            "stop = tl.maximum(tl.minimum(tl.load(ends + group), num_tokens), start)",
            "stop = tl.maximum(tl.minimum(tl.load(ends + group), num_tokens), start + tile)",
            "a group without tokens gets the next group's gradient",
        ),
        Fault(
            "hwprofiles/calibration/kernels/triton_wgrad.py",
            "mask=before < group, other=0",
            "mask=before == group - 1, other=0",
            "tokens are summed twice where ends decrease",
        ),
        Fault(
            "hwprofiles/calibration/kernels/operands.py",
            "elif num_tiles > 1 and (pitch % 4 or pitch < num_rows):",
            "elif num_tiles > 1 and pitch < num_rows:",
            "scales that the copy engine cannot read are taken",
        ),
        Fault(
            "hwprofiles/calibration/kernels/operands.py",
            "return (Groups((num_rows,)) if groups is None else groups.padded(multiple)).ends(device)",
            "return (Groups((num_rows,)) if groups is None else groups).ends(device)",
            "weight gradients read groups that are not padded",
        ),
        Fault(
            "hwprofiles/calibration/numerics/blockwise_own.py",
            "return products.dgrad(Rows.of(gradient), _blocks(weight.turned), groups)[:, : weight.sizes[1]]",
            "return products.dgrad(Rows.of(gradient), _blocks(weight.turned), groups)[:, : weight.sizes[0]]",
            "the input's gradient has the width of the result",
        ),
        Fault(
            "hwprofiles/calibration/numerics/fp8.py",
            "total = weight.grad if self.adds_gradients and weight.is_leaf else None",
            "total = weight.grad if weight.is_leaf else None",
            "gradients are added behind autograd's back unasked",
        ),
        Fault(
            "hwprofiles/calibration/kernels/cuda/wgrad.py",
            "(16 * pitch, 2 * pitch, 4 * pitch, pitch, 1)",
            "(16 * pitch, 8 * pitch, 2 * pitch, pitch, 1)",
            "columns of weight gradients change places",
        ),
        Fault(
            "hwprofiles/calibration/kernels/cuda/compiler.py",
            "parts = [source.name, source.text, source.headers, options, build]",
            "parts = [source.name, source.text, options, build]",
            "a kernel is not compiled anew where only a header has changed",
        ),
        Fault(
            "hwprofiles/calibration/kernels/cuda/driver.py",
            "numbers = (ctypes.c_uint64 * rank)(*reversed(sizes))",
            "numbers = (ctypes.c_uint64 * rank)(*sizes)",
            "the copy engine takes rows for columns",
        ),
    ),
)
