"""In which formats a model's numbers are kept and multiplied: one object a recipe, chosen by name.

float64, float32   plain torch
bf16               operands and results in BF16, sums in FP32; where native BF16 is slow (CPU), FP32 rounded to BF16
fp8-blockwise      DeepSeek's recipe: FP8 operands with scales of 1x128 tiles and 128x128 blocks
fp8-row            FP8 operands with a scale a row
"""

from __future__ import annotations

from hwprofiles.calibration.extra import require_torch

require_torch()
