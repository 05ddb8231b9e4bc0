"""`moesim calibrate`: measures the GPU it runs on and writes a stack folder.

cli       the command line, also of `python -m hwprofiles.calibration calibrate`
parts     the one list of what is measured
budget    how the minutes are shared out
plan      the order of the kernels: a coarse grid first, then where neighbours disagree
harness   the seconds of one kernel; chip: what it needs of a device
store     tables that grow by a row at a time and survive a kill; folder: the folder that they lie in
facts     what was measured on: GPU, driver, torch, clocks, options
progress  the bar
record    the GPU's record; rows and writer: the stack folder; summary, compare: what is said at the end; refit: the
                stack again from the same tables
"""
