"""Traces of the torch profiler (Kineto's JSON): what a GPU ran when, by class of kernel, and kernel times as a stack.

Reads files only: neither torch nor the simulator is needed.
"""
