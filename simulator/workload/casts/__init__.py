"""What a number format adds to the GEMMs: casts, transposes, scales. One file a way of arranging them.

casts.py: the places where layers ask, all empty for BF16. separate.py: a kernel for each cast and each transpose (2024).
joint.py: one kernel that casts for both GEMMs that read a tensor, parts of it inside norm and activation.
"""
