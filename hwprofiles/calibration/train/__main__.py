"""python -m hwprofiles.calibration.train"""

from __future__ import annotations

import sys

from hwprofiles.calibration.train.cli import main

if __name__ == "__main__":
    sys.exit(main())
