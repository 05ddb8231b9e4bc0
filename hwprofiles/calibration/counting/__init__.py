"""What torch counts of a model, to lay beside what the simulator counts: FLOP of every product, bytes that autograd keeps."""

from __future__ import annotations

from hwprofiles.calibration.extra import require_torch

require_torch()
