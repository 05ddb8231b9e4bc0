"""Kernels of Triton run in its interpreter where there is no GPU: it decides so when a kernel's module is imported."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
    if find_spec("triton") is not None:
        from triton.runtime import interpreter

        whole = interpreter._patch_lang_tensor

        def patched(tensor: Any, scope: Any) -> None:
            """Triton 3.6 has scalars as arrays of one number, and int() of such an array is an error from numpy 2.4 on."""
            whole(tensor, scope)
            scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())

        interpreter._patch_lang_tensor = patched
