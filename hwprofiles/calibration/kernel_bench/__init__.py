"""`python -m hwprofiles.calibration.kernel_bench -o FILE.json`: are the own kernels right, and how fast are they?

shapes     what is timed                      operands   random numbers of realistic scale
contenders this project's kernels and torch's turns      one call of each a round, the cache flushed
correct    errors, and their bounds           streaming  kernels bound by memory, beside a copy
summary    ratios, geometric means, targets   cli        the command
"""
