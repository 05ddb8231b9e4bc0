"""The torch model on several processes: experts spread over ranks, layers over pipeline stages.

On torch.distributed: gloo on CPUs, NCCL on GPUs. Whatever the layout, results and gradients are those of one process.
"""

from __future__ import annotations

from hwprofiles.calibration.extra import require_torch

require_torch()
