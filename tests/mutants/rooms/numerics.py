"""Faults of the formats in which the torch model computes."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

NUMERICS = Room(
    "numerics",
    (
        "tests/hwprofiles/model/test_quantise.py",
        "tests/hwprofiles/model/test_fp8_blockwise.py",
        "tests/hwprofiles/model/test_fp8_rowwise.py",
        "tests/hwprofiles/model/test_fp8_library.py",
    ),
    (
        Fault(
            "hwprofiles/calibration/numerics/quantise.py",
            "FP8_MAX: Final = 448.0",
            "FP8_MAX: Final = 240.0",
            "the largest number is that of another FP8 format",
        ),
        Fault(
            "hwprofiles/calibration/numerics/quantise.py",
            "return torch.where(scales.isfinite(), rounded_up, scales)",
            "return rounded_up",
            "a power of two hides that a number was NaN",
        ),
        Fault(
            "hwprofiles/calibration/numerics/blockwise.py",
            "return self.columns(Quantised(values, scales, ROWS).numbers[:, :num_columns], groups)",
            "return self.columns(values.to(torch.float32)[:, :num_columns], groups)",
            "wgrad reads the kept input without its scales",
        ),
        Fault(
            "hwprofiles/calibration/numerics/fp8.py",
            "if found is None or found[0]() is not tensor or found[1] != state:",
            "if found is None or found[0]() is not tensor:",
            "a weight that the optimizer moved is not quantised again",
        ),
        Fault(
            "hwprofiles/calibration/numerics/fp8.py",
            "of_rows = part if of_rows is None else formats.bf16(of_rows + part)",
            "of_rows = part",
            "of several products the last one gives the input's gradient",
        ),
        Fault(
            "hwprofiles/calibration/numerics/blockwise.py",
            "self.blocks.scales.transpose(1, 2).contiguous(), BLOCKS",
            "self.blocks.scales.contiguous(), BLOCKS",
            "dgrad reads the scales of the weight that is not transposed",
        ),
        Fault(
            "hwprofiles/calibration/numerics/quantise.py",
            "powers.clamp_(min=2.0**-6)",
            "powers.clamp_(min=2.0**-9)",
            "numbers below E4M3's normal range are rounded as if it had none",
        ),
        Fault(
            "hwprofiles/calibration/numerics/groups.py",
            "result[part] = torch.arange(start, start + part.stop - part.start)",
            "result[part] = torch.arange(part.start, part.stop)",
            "wgrad reads rows of the next expert",
        ),
        Fault(
            "hwprofiles/calibration/numerics/rowwise.py",
            "columns = quantise(weight, (weight.shape[1], 1))",
            "columns = quantise(weight, (1, weight.shape[2]))",
            "dgrad scales the weight along the wrong dimension",
        ),
        Fault(
            "hwprofiles/calibration/numerics/rowwise.py",
            "return groups.padded(library.ALIGNED, at_least=library.ALIGNED)",
            "return groups.padded(library.ALIGNED)",
            "an expert without rows reaches a kernel that does not say what it gets",
        ),
        Fault(
            "hwprofiles/calibration/numerics/fp8.py",
            "register_optimizer_step_post_hook(_fused_steps_are_versions)\n",
            "",
            "FP8 weights of the first step are used for ever behind a fused optimizer",
        ),
        Fault(
            "hwprofiles/calibration/numerics/fp8.py",
            "return tensor._version, StorageWeakRef(tensor.untyped_storage()), tensor",
            "return tensor._version, tensor.data_ptr(), tensor",
            "memory used again is taken for the weight that was there",
        ),
    ),
)
