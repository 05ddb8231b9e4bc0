"""What it costs the processor to issue work to a GPU: cases of `hwprofiles.calibration.host_dispatch`, a file a kind."""

from __future__ import annotations

from hwprofiles.calibration.extra import require_torch

require_torch()
