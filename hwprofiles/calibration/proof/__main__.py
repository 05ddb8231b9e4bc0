"""`python -m hwprofiles.calibration.proof`."""

from __future__ import annotations

import sys

from hwprofiles.calibration.proof.cli import main

sys.exit(main())
