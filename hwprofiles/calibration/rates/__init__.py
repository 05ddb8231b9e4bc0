"""Kernels whose rates kernel_rates measures, one module a kind; case says what each is made of."""
