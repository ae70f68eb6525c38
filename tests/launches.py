"""Take the ways of a GPU without one (`as_on_gpu`), and count the kernels that it would launch (`count_launches`).

To count, tensors are those of the meta device, which hold no values. Each operation of torch that is no view counts as
one kernel, each launch of a Triton kernel as one under the kernel's name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as functional
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from voxtral.model.kernels.dispatch import KERNELS

# They change how a tensor is looked at, or only make room.
_VIEWS = """
    view _unsafe_view reshape transpose t permute unsqueeze squeeze slice select split split_with_sizes unbind expand
    alias detach as_strided unfold view_as_complex view_as_real _reshape_alias empty empty_like new_empty empty_strided
    lift_fresh
"""
_NO_KERNEL = frozenset(_VIEWS.split())

PRODUCTS = frozenset({"mm", "addmm", "addmm_", "bmm", "_multiply"})
ATTENTION = frozenset({"_attend_rotating", "_attend_spans", "_attend_between_tokens"})


class _OnGpu(TorchFunctionMode):
    """Says of every tensor that it is on a GPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func == torch.Tensor.is_cuda.__get__:
            return True
        return func(*args, **(kwargs or {}))


class _OneNorm(TorchFunctionMode):
    """Counts a norm as the one kernel that it is on a GPU (since torch 2.9); on the meta device it would fall apart."""

    def __init__(self, counts: Counter[str]) -> None:
        super().__init__()
        self._counts = counts

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (functional.rms_norm, torch.rms_norm):
            self._counts["rms_norm"] += 1
            return torch.empty_like(args[0])
        return func(*args, **(kwargs or {}))


def _nowhere(tensor: Tensor) -> AbstractContextManager[None]:
    return nullcontext()


@contextmanager
def as_on_gpu() -> Iterator[None]:
    """Take the ways of a GPU with tensors that are elsewhere; on a CPU Triton's kernels are interpreted."""
    KERNELS.forget()
    with (
        # No mock, which would remember, and keep, every tensor that it was asked about.
        mock.patch("torch.cuda.device_of", _nowhere),
        mock.patch("voxtral.model.kernels.dispatch._try_launch", return_value=None),
        torch.no_grad(),
        _OnGpu(),
    ):
        try:
            yield
        finally:
            # Or tests that come later would find kernels that nobody has tried.
            KERNELS.forget()


class _Counting(TorchDispatchMode):
    def __init__(self, counts: Counter[str]) -> None:
        super().__init__()
        self._counts = counts

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.split(".")[0]
        if name not in _NO_KERNEL:
            self._counts[name] += 1
        return func(*args, **(kwargs or {}))


def count_launches(compute: Callable[[], Any]) -> Counter[str]:
    """Count by name what a computation on the meta device launches."""
    from triton.runtime.interpreter import InterpretedFunction
    from triton.runtime.jit import JITFunction

    counts: Counter[str] = Counter()

    def launch(kernel: Any, *arguments: Any, grid: Any, warmup: bool = False, **named: Any) -> None:
        assert all(side > 0 for side in grid)
        assert all(argument.is_meta for argument in arguments if isinstance(argument, Tensor))
        counts[kernel.fn.__name__] += 1

    with ExitStack() as stack:
        for kind in (JITFunction, InterpretedFunction):
            stack.enter_context(mock.patch.object(kind, "run", launch))
        stack.enter_context(as_on_gpu())
        stack.enter_context(_OneNorm(counts))
        stack.enter_context(_Counting(counts))
        compute()
    return counts
