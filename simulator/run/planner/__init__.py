"""The planner: of all layouts that a cluster allows, the one whose simulated step is the shortest among those that fit."""

from simulator.run.planner.fits import fits_any as fits_any
from simulator.run.planner.plan import plan_layout as plan_layout
