"""FP8 products and streaming kernels of this project's own, by DeepSeek-V3's recipe: CUDA for Hopper, Triton elsewhere.

operands   what a product takes, and what is refused        products   the public functions: fprop, dgrad, wgrad
sms        how many SMs a kernel may use                     reference  the same products plainly, and in float64
streams    quantising by rows, transposed, both, in blocks   swiglu     SwiGLU to FP8, its gradient, in FP8 too
permuting  rows to experts, sums by token, their backward
"""

from __future__ import annotations

from hwprofiles.calibration.extra import require_torch

require_torch()
