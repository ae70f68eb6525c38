"""What all Triton forms share: the dtype of products, and the device of a launch.

Triton compiles a kernel anew where a whole number becomes 1, or a multiple of 16, or neither. Those that change from
call to call (rows, queries, keys) are marked `do_not_specialize`, or the first sentence would wait for compilers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
import triton.language as tl
from torch import Tensor

_DOT_DTYPES = {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16, torch.float32: tl.float32}

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


def dot_dtype(dtype: torch.dtype) -> tl.dtype:
    """Give the dtype of the operands of `tl.dot` for activations of `dtype`; sums are float32 always.

    Triton's interpreter multiplies the bits of bfloat16 as whole numbers (3.9.0), so interpreted kernels use float32.
    """
    return tl.float32 if os.environ.get("TRITON_INTERPRET") == "1" else _DOT_DTYPES[dtype]


def on_its_device(launch: Callable[_Given, _Result]) -> Callable[_Given, _Result]:
    """Launch where the arguments are: Triton itself takes the current device, whatever that is."""

    @wraps(launch)
    def launch_there(*arguments: _Given.args, **named: _Given.kwargs) -> _Result:
        first = arguments[0]
        tensor = first[0] if isinstance(first, tuple) else first
        assert isinstance(tensor, Tensor)
        with torch.cuda.device_of(tensor):
            return launch(*arguments, **named)

    return launch_there
