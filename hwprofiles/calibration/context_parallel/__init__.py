"""Attention whose sequence is cut over the GPUs of a host (context parallelism), run and timed in the three known ways.

core.py: the library's attention of a piece, forward and backward. ways.py: what the ranks send around it. measure.py: times
of all of it, checked against attention on one device, and of its parts alone.
"""
