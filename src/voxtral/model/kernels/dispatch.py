"""Which operations run as Triton kernels: decided for each kernel, device and dtype, and taken back where one fails.

`KERNELS` is the one place that knows. It is for the whole process, because a kernel works on a device or does not,
whatever model asks. Each public function of this folder asks `uses_triton` with its own name, and launches inside
`attempt`, so that a launch that fails turns that one kernel off and the plain form computes in the same call.
"""

from __future__ import annotations

import importlib.util
import logging
import threading
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from functools import cache
from types import TracebackType
from typing import Final

import torch
from torch import Tensor

from voxtral.switches import SWITCHES, is_switched_off

_log = logging.getLogger(__name__)

# Each kernel by the name of its public function, and whether it multiplies matrices with `tl.dot`.
USES_DOT: Final[Mapping[str, bool]] = {
    "silu_multiply": False,
    "rotate_and_store": False,
    "attend_rotating": True,
    "attend_spans": True,
    "weigh_text": False,
    "fused_product": True,
    "quantized_matmul": True,
    "quantize_rows": False,
    "float8_product": True,
    "enter_layers": False,
    "attend_between_tokens": False,
    "guided_step": False,
    "finish_frame": False,
    "choose_semantic": False,
    "sum_embeddings": False,
    "attend_in_window": True,
    "attend_after_past": True,
    "shifted_columns": False,
}

# Below this compute capability `tl.dot` becomes scalar multiplications that spill up to 5.8 kB a thread (compiled for
# sm_75 with Triton 3.9.0, bfloat16 and float16); the library's products and plain attention are faster there.
_LEAST_DOT_CAPABILITY = (8, 0)

# The first compute capability that has float8 (E4M3), and the kernels that want it.
FLOAT8_CAPABILITY = (8, 9)
_WANTS_FLOAT8 = frozenset({"quantize_rows", "float8_product"})


@cache
def has_triton() -> bool:
    """Tell whether Triton is installed, without importing it."""
    return importlib.util.find_spec("triton") is not None


class Kernels:
    """What is known of the kernels of this process; safe to use from many threads.

    Answers are kept: after the first question about a kernel, device and dtype the next ones cost a lookup.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._forbidden: str | None = None
        self._off: dict[tuple[str, torch.device], str] = {}
        self._problems: dict[tuple[torch.device, torch.dtype, bool], str | None] = {}
        self._answers: dict[tuple[str, torch.device, torch.dtype], bool] = {}

    def is_on(self, kernel: str, device: torch.device, dtype: torch.dtype) -> bool:
        """Tell whether a kernel runs for tensors of a dtype on a device that it can run on."""
        answer = self._answers.get((kernel, device, dtype))
        if answer is None:
            answer = self._answers[kernel, device, dtype] = self.problem(kernel, device, dtype) is None
        return answer

    def problem(self, kernel: str, device: torch.device, dtype: torch.dtype) -> str | None:
        """Say why a kernel does not run; None where it does. Tries a small launch the first time.

        Raises:
            KeyError: there is no such kernel.
        """
        uses_dot = USES_DOT[kernel]
        with self._lock:
            if self._forbidden is not None:
                return self._forbidden
            if is_switched_off("triton"):
                return f"{SWITCHES['triton'].variable} is 0"
            if (kernel, device) in self._off:
                return self._off[kernel, device]
            if device.type == "cuda" and (uses_dot or kernel in _WANTS_FLOAT8):
                capability = torch.cuda.get_device_capability(device)
                if capability < _LEAST_DOT_CAPABILITY:
                    return "the GPU is older than sm_80, where matrix products of kernels are slow"
                if kernel in _WANTS_FLOAT8 and capability < FLOAT8_CAPABILITY:
                    return "the GPU is older than sm_89 and has no float8"
            key = (device, dtype, uses_dot)
            if key not in self._problems:
                problem = self._problems[key] = _try_launch(device, dtype, uses_dot=uses_dot)
                if problem is not None:
                    # One line for a toolchain that is missing, not one for each dtype and kind.
                    told = any(
                        other is not None for seen, other in self._problems.items() if seen != key and seen[0] == device
                    )
                    level = logging.DEBUG if told else logging.WARNING
                    _log.log(
                        level, "Triton kernels are not used on %s, plain operations are: %s", device, one_line(problem)
                    )
            return self._problems[key]

    def turn_off(self, kernel: str, device: torch.device, reason: str) -> None:
        """Use the plain form of one kernel on a device from now on."""
        with self._lock:
            self._off[kernel, device] = reason
            self._answers.clear()

    @contextmanager
    def without(self, kernels: Iterable[str], device: torch.device) -> Generator[None]:
        """Compute plainly for a while, to compare: in the whole process, as everything here."""
        kernels = [kernel for kernel in kernels if (kernel, device) not in self._off]
        for kernel in kernels:
            self.turn_off(kernel, device, "off for a comparison")
        try:
            yield
        finally:
            with self._lock:
                for kernel in kernels:
                    self._off.pop((kernel, device), None)
                self._answers.clear()

    def turned_off(self, device: torch.device) -> Mapping[str, str]:
        """Name the kernels that were turned off on a device one by one, each with the reason."""
        return {kernel: reason for (kernel, where), reason in self._off.items() if where == device}

    def forbid(self, reason: str) -> None:
        """Use no kernel at all in this process."""
        with self._lock:
            self._forbidden = reason
            self._answers.clear()

    def forget(self) -> None:
        """Forget everything: what was forbidden, turned off or tried."""
        with self._lock:
            self._forbidden = None
            self._off.clear()
            self._problems.clear()
            self._answers.clear()


KERNELS: Final = Kernels()


def uses_triton(kernel: str, tensor: Tensor, choice: bool | None) -> bool:
    """Decide for a tensor: an explicit choice wins; otherwise on CUDA, where that kernel works.

    Kernels give no gradients, so a tensor that needs some goes another way. Tests choose kernels for CPU tensors under
    TRITON_INTERPRET=1. Callers look at `is_cuda` first: asked for every tensor on a CPU, this was a seventh of all
    calls of a request.
    """
    if choice is not None:
        return choice
    if not tensor.is_cuda or (tensor.requires_grad and torch.is_grad_enabled()):
        return False
    return KERNELS.is_on(kernel, tensor.device, tensor.dtype)


class attempt:
    """A context for one launch: what goes wrong in it turns that kernel off, and what follows computes plainly.

    Not swallowed: running out of memory, for the plain form needs more; what happens where the kernel was chosen
    explicitly; and what happens during a capture, which cannot go on after an error (`voxtral.engine.graphs`).
    """

    __slots__ = ("_choice", "_kernel", "_tensor")

    def __init__(self, kernel: str, tensor: Tensor, choice: bool | None) -> None:
        self._kernel = kernel
        self._tensor = tensor
        self._choice = choice

    def __enter__(self) -> None:
        """Enter."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        """Swallow the error of a launch, once the kernel is off."""
        if error is None or self._choice is not None or not isinstance(error, Exception):
            return False
        if isinstance(error, torch.OutOfMemoryError) or is_capturing():
            return False
        device, reason = self._tensor.device, one_line(f"{type(error).__name__}: {error}")
        KERNELS.turn_off(self._kernel, device, reason)
        _log.warning("the kernel %s is off on %s, plain operations compute: %s", self._kernel, device, reason)
        return True


def is_capturing() -> bool:
    """Tell whether this thread's stream is recording a CUDA graph."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def one_line(text: str, width: int = 200) -> str:
    r"""Cut what compilers and drivers say to what fits a line of a log.

    >>> one_line("ptxas failed\n  with 255 lines")
    'ptxas failed with 255 lines'
    """
    words = " ".join(text.split())
    return words if len(words) <= width else f"{words[: width - 3]}..."


def _try_launch(device: torch.device, dtype: torch.dtype, *, uses_dot: bool) -> str | None:
    """Launch one small kernel whose result is exact: None if it is right, else what is wrong.

    Triton builds its launcher with the system's C compiler, keeps what it compiled in a folder, and does not know every
    GPU and dtype; where something is missing, the plain forms compute.
    """
    if not has_triton():
        return "Triton is not installed"
    try:
        launch = _step if not uses_dot else _multiply_float8 if dtype is torch.float8_e4m3fn else _multiply
        kernel, plain = launch(device, dtype)
        return None if torch.equal(kernel, plain) else "a small launch computes wrong numbers"
    # Compilers, drivers and linkers fail in ways of their own.
    except Exception as error:  # noqa: BLE001
        return f"{type(error).__name__}: {error}"


def _multiply(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    from voxtral.model.kernels.matmul import quantized_matmul

    # Whole numbers whose sums bfloat16 holds, so that the result is exact.
    x = torch.arange(-32, 32, device=device).view(2, 32).remainder(5).to(dtype)
    weight = torch.arange(16 * 32, device=device).view(16, 32).remainder(3).to(torch.int8)
    scales = torch.ones(16, device=device)
    kernel, plain = (quantized_matmul(x, weight, scales, use_triton=choice) for choice in (True, False))
    return kernel, plain


def _multiply_float8(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    from voxtral.model.kernels.float8 import float8_product

    values = torch.arange(-32, 32, device=device).view(2, 32).remainder(5).to(dtype)
    weight = torch.arange(16 * 32, device=device).view(16, 32).remainder(3).to(dtype)
    rows, matrix = (values, torch.ones(2, device=device)), (weight, torch.ones(16, device=device))
    kernel, plain = (float8_product(rows, matrix, torch.float32, use_triton=choice) for choice in (True, False))
    return kernel, plain


def _step(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    from voxtral.model.kernels.flow import guided_step

    state = torch.arange(16, device=device, dtype=torch.float32).view(2, 8)
    velocities = torch.arange(-16, 16, device=device).view(4, 8).to(dtype)
    scale, step = torch.full((2,), 2.0, device=device), torch.tensor(0.5, device=device)
    kernel, plain = (guided_step(state, velocities, scale, step, use_triton=choice) for choice in (True, False))
    return kernel, plain
