"""What all Triton forms share: the dtype of products, the device of a launch, and who comes last.

Triton compiles a kernel anew where a whole number becomes 1, or a multiple of 16, or neither. Those that change from
call to call (rows, queries, keys) are marked `do_not_specialize`, or the first sentence would wait for compilers.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
import triton
import triton.language as tl
from torch import Tensor

from voxtral.model.kernels.dispatch import is_capturing

_DOT_DTYPES = {
    torch.bfloat16: tl.bfloat16,
    torch.float16: tl.float16,
    torch.float32: tl.float32,
    torch.float8_e4m3fn: tl.float8e4nv,
}

# Programs of one launch that may be waited for by others, in groups: 256 rows of 64 heads, four times over.
NUM_ARRIVALS = 65536

_scratch = threading.local()

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


def arrivals(like: Tensor) -> Tensor:
    """Give this thread's counters for `is_last_to_arrive` on a device: zero before each launch, and after it.

    For each thread, because the launches of one thread follow each other and those of two engines need not. They are
    made by the first launch, which must not be part of a CUDA graph: the graph would own them, and others write there.
    A capture is preceded by the same launches on its thread.

    Args:
        like: on the device.

    Returns:
        [NUM_ARRIVALS] int32.
    """
    known: dict[torch.device, Tensor] = vars(_scratch).setdefault("arrivals", {})
    if like.device not in known:
        assert not is_capturing(), "counters must be made before a capture"
        known[like.device] = torch.zeros(NUM_ARRIVALS, dtype=torch.int32, device=like.device)
    return known[like.device]


@triton.jit
def is_last_to_arrive(counter_ptr, num_programs):
    """Tell the last of the programs that share a counter that the others have stored their parts.

    That program joins the parts, in their own order, so that the sum does not depend on who came when. The counter is
    zero again for the next launch.
    """
    # All threads of this program have stored before one of them says so.
    tl.debug_barrier()
    is_last = tl.atomic_add(counter_ptr, 1, sem="acq_rel", scope="gpu") == num_programs - 1
    if is_last:
        tl.store(counter_ptr, 0)
    return is_last
