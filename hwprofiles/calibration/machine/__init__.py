"""What a calibration measures beside single kernels, each to a table of its own: what issuing work costs the host, what the GPU
draws, and, with more GPUs than one, what messages between them take.

A part is a module with TABLE, COLUMNS and `measure`; its fit (`*_fit`, without torch) makes the stack's parameters of the rows.
"""
