"""Whose modules run what stands between GEMMs and attention cores (kernels.modules): a file for each set of them.

A set keeps a unit's GEMMs and attention cores as they are counted for every software, and puts its own kernels in the place of
the memory-bound ones: torch functions of a few launches each, with the bytes that they read and write.
"""
