"""Kernels in CUDA C++ for Hopper, compiled where they run: NVRTC comes with torch's CUDA wheels, no other tool is needed.

compiler    a .cu file of this folder and constants for it: machine code, kept on disk
driver      machine code on a GPU: loaded, launched on torch's stream; tensor maps for the copy engine (TMA)
gemm        fprop and dgrad             wgrad       weight gradients
hopper.cuh  what both say of the chip, instruction by instruction
"""
