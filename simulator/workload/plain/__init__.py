"""Modules of plain torch functions: what each function launches, forward and backward, and what autograd keeps for it.

Order of reading: tape.py (a value, a function on it, the walk back), functions.py (torch's functions and their derivatives),
modules.py (norm, rotary embedding, activation, router, experts, loss as a library writes them), blocks.py (what a layer calls
of these, in order), units.py (into the operators of a layer), memory.py (into what a block keeps).
"""
