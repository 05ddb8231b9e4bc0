"""Kernels of Triton run in its interpreter where there is no GPU: it decides so when a kernel's module is imported."""

from __future__ import annotations

import os

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
