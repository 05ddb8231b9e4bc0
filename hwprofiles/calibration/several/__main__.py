"""`python -m hwprofiles.calibration.several`."""

from __future__ import annotations

import sys

from hwprofiles.calibration.several.cli import main

if __name__ == "__main__":
    sys.exit(main())
