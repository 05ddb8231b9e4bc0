"""Kernels whose rates are measured, one module a kind; `case` says what each is made of, `kinds` lists the kinds."""
