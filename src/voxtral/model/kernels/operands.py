"""The dtype in which Triton multiplies matrices."""

from __future__ import annotations

import os

import torch
import triton.language as tl

_DOT_DTYPES = {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16, torch.float32: tl.float32}


def dot_dtype(dtype: torch.dtype) -> tl.dtype:
    """Give the dtype of the operands of `tl.dot` for activations of `dtype`; sums are float32 always.

    Triton's interpreter multiplies the bits of bfloat16 as whole numbers (3.9.0), so interpreted kernels use float32.
    """
    return tl.float32 if os.environ.get("TRITON_INTERPRET") == "1" else _DOT_DTYPES[dtype]
