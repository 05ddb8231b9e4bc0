"""The command."""

from __future__ import annotations

import sys

from hwprofiles.calibration.kernel_bench.cli import main

sys.exit(main())
