"""From measured kernels to the constants of a stack, and how right they are on what the fit had not seen.

    fit_points(rows of points.csv, gpu) → parameters (key → mapping, as parameters.yaml has them), and what was judged

Modules: points reads rows; gemm, attention and memory fit a kind of kernels each; judged says how right they are, beside a
roofline of one factor; transfer leaves one GPU out at a time. Needs numpy alone.
"""

from hwprofiles.calibration.fits.all import fit_points
from hwprofiles.calibration.fits.judged import Judged

__all__ = ["Judged", "fit_points"]
