"""Choosing device and dtype, with the reason for each choice. No weights are touched here."""

from __future__ import annotations

import ctypes
import errno
import gc
import math
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from voxtral.config import QuantizationConfig
from voxtral.driver import explain_absence
from voxtral.errors import DeviceError

T = TypeVar("T")
_Room = tuple[int, int]

_DTYPES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
}

# Below this float32 on the CPU is both fast enough and exact; above, bfloat16 halves memory traffic.
_SMALL_MODEL_PARAMETERS = 500_000_000

# Below this the operations are so small that threads wait for each other: nano, 11.7 M, takes three times as long
# with two threads as with one (docs/LOG.md, 2026-11-22). A GPU is no help either: such a model speaks a word on a CPU
# in less time than a GPU needs for its context and its first kernels.
_TINY_PARAMETERS = 50_000_000

_NO_GPU = "no CUDA device is present"

# What the messages of torch, cuDNN and Triton hold when a device has failed, and when it only has no memory left.
_DEVICE_FAILURES = ("CUDA error", "CUDA driver error", "device-side assert", "CUDNN_STATUS", "Triton Error [CUDA]")
_NO_MEMORY = ("out of memory", "alloc_failed", "can't allocate memory", "can't start new thread", "not enough memory")

# Newer versions of torch have a class for the first of these.
_ACCELERATOR_ERROR: type[Exception] | tuple[()] = getattr(torch, "AcceleratorError", ())

_PROBE_TIMEOUT_S = 20.0

# How long a signal may go unheard while something is waited for.
_LISTEN_S = 0.1
_PROBE_ANSWER = 14.0  # 0 + 1 + 4 + 9


@dataclass(frozen=True)
class ComputePlan:
    """Where and in which precision the model runs, and why."""

    device: torch.device
    device_reason: str
    dtype: torch.dtype
    dtype_reason: str
    codec_dtype: torch.dtype
    codec_reason: str
    num_threads: int | None = None  # for one operation on a CPU; None leaves torch's choice
    quantization: QuantizationConfig | None = None
    quantization_reason: str = "as stored"
    is_dequantized: bool = False  # weights that the file has in few bits are held in `dtype`
    kv_cache_bytes: int | None = None  # what a budget leaves for keys and values; None without one
    budget_bytes: int | None = None
    max_batch: int | None = None  # sequences side by side that there is room for; None leaves the engine's number
    memory: str = ""  # what is needed, by kind, for whoever runs out of it
    remarks: tuple[str, ...] = ()  # what a person should know of these choices, a line each


def plan_compute(
    device: str | torch.device = "auto", dtype: str | torch.dtype = "auto", *, num_parameters: int = 0
) -> ComputePlan:
    """Resolve "auto" and check that the machine has what was asked for.

    Raises:
        DeviceError: the device is not there, or the dtype is unknown.
    """
    resolved, device_reason = resolve_device(device, num_parameters)
    chosen, dtype_reason = _resolve_dtype(dtype, resolved, num_parameters)
    codec_dtype, codec_reason = codec_dtype_for(resolved, chosen)
    is_tiny = resolved.type == "cpu" and 0 < num_parameters <= _TINY_PARAMETERS
    # Who sets the variable has decided.
    num_threads = 1 if is_tiny and "OMP_NUM_THREADS" not in os.environ else None
    # That a GPU is there and not used is a surprise; that none is there is not.
    is_surprise = str(device) == "auto" and resolved.type == "cpu" and device_reason != _NO_GPU
    remarks = (f"device: cpu; {device_reason}",) if is_surprise else ()
    return ComputePlan(
        resolved, device_reason, chosen, dtype_reason, codec_dtype, codec_reason, num_threads, remarks=remarks
    )


def resolve_device(device: str | torch.device, num_parameters: int = 0) -> tuple[torch.device, str]:
    """Turn a name into a device that is present, and say why it was chosen.

    Args:
        device: auto, cpu, cuda, cuda:N or mps.
        num_parameters: of the model; 0 where it is not known, which is taken for a large one.

    Returns:
        The device, a GPU with its number: torch's accounts of memory want it, and "cuda" alone means another one in
        a thread that has chosen another.

    Raises:
        DeviceError: the device is not there.
    """
    if str(device) == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu"), explain_absence(torch.version.cuda) or _NO_GPU
        if 0 < num_parameters <= _TINY_PARAMETERS:
            return torch.device("cpu"), (
                f"a model of {num_parameters / 1e6:.0f} M parameters speaks sooner there; `--device cuda` takes the GPU"
            )
        _check_fork()
        return _current_gpu(), "a CUDA device is present"
    try:
        wanted = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise DeviceError(f"device {device!r} is unknown; it must be auto, cpu, cuda, cuda:N or mps") from error
    if wanted.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (wanted.index or 0) >= count:
            raise DeviceError(f"device {device} is not there; {_why_no_gpu(count)}; or use cpu")
        _check_fork()
        if str(wanted) == "cuda":
            wanted = _current_gpu()
    elif wanted.type == "mps":
        if not torch.backends.mps.is_available():
            raise DeviceError("device mps is not there; it needs a Mac with Apple silicon; use cpu")
    elif wanted.type != "cpu":
        raise DeviceError(f"device {device} is not supported; it must be auto, cpu, cuda, cuda:N or mps")
    return wanted, "it was asked for"


def _check_fork() -> None:
    """Refuse a GPU that the parent of this fork has used.

    Raises:
        DeviceError: the process can never use it.
    """
    if getattr(torch.cuda, "_is_in_bad_fork", bool)():
        raise DeviceError(
            "this process is a fork of one that has used the GPU, which no fork can use again; start the child with "
            'multiprocessing.get_context("spawn"), or use the GPU in the child alone'
        )


def _current_gpu() -> torch.device:
    try:
        return torch.device("cuda", torch.cuda.current_device())
    # Torch sees a GPU, and its driver refuses to start, such as one that another process has filled.
    except RuntimeError as error:
        raise DeviceError(
            f"the GPU cannot be used ({type(error).__name__}: {error}); see what else runs on it, or use cpu"
        ) from error


def _why_no_gpu(num_seen: int) -> str:
    if num_seen:
        return f"torch sees {num_seen}, counted from cuda:0; name one of these"
    if explained := explain_absence(torch.version.cuda):
        return explained
    if torch.version.cuda is None:
        return "this torch is built for the CPU only; install a CUDA build of torch (docs/GPU.md says how)"
    return "torch sees no GPU"


def _resolve_dtype(dtype: str | torch.dtype, device: torch.device, num_parameters: int) -> tuple[torch.dtype, str]:
    if isinstance(dtype, torch.dtype):
        dtype = dtype_name(dtype)
    if dtype != "auto":
        if dtype not in _DTYPES:
            raise DeviceError(f"dtype {dtype!r} is unknown; it must be auto or one of {', '.join(_DTYPES)}")
        return _DTYPES[dtype], "it was asked for"
    if device.type == "cuda":
        # With emulation every card would have it, and before Ampere no library has a fast product for it.
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16, "the GPU computes in bfloat16, the dtype of the weights"
        return torch.float16, "the GPU has no bfloat16 of its own"
    if device.type == "mps":
        return torch.float16, "half precision halves memory (untested on this device)"
    if num_parameters > _SMALL_MODEL_PARAMETERS:
        return torch.bfloat16, "a large model on a CPU: half the memory traffic, the dtype of the weights"
    return torch.float32, "a small model on a CPU: exact and fast enough"


def codec_dtype_for(device: torch.device, dtype: torch.dtype) -> tuple[torch.dtype, str]:
    """Choose the codec's dtype beside a model dtype; float16 is never used, its activations overflow."""
    if dtype is not torch.float16:
        return dtype, "the same as the model"
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16, "float16 can overflow in the codec"
    return torch.float32, "float16 can overflow in the codec"


def is_out_of_memory(error: BaseException) -> bool:
    """Tell an error that says no more than that memory ran out, of the machine or of a device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _NO_MEMORY)


def is_device_failure(error: BaseException) -> bool:
    """Tell an error after which a device may fail at everything, such as an illegal access, from those of one request.

    Running out of memory is none: the next request may fit.
    """
    message = str(error)
    if is_out_of_memory(error):
        return False
    return isinstance(error, _ACCELERATOR_ERROR) or (
        isinstance(error, RuntimeError) and any(sign in message for sign in _DEVICE_FAILURES)
    )


def probe_device(device: torch.device, timeout_s: float = _PROBE_TIMEOUT_S) -> None:
    """Compute a few numbers on a device and wait for them, to see whether it still answers.

    Raises:
        DeviceError: it does not; only a new process can use it again.
    """

    def compute() -> float:
        return torch.arange(4, dtype=torch.float32, device=device).square().sum().item()

    try:
        answer = run_aside(compute, timeout_s=timeout_s)
    except Exception as error:
        raise DeviceError(
            f"device {device} does not compute any more ({type(error).__name__}: {error}); a device that has failed "
            "stays lost to its process; end the process and start it anew"
        ) from error
    if answer != _PROBE_ANSWER:
        raise DeviceError(
            f"device {device} computes {answer} where it must be {_PROBE_ANSWER}; it cannot be relied on; end the "
            "process and look after the device"
        )


def has_remedy(error: Exception, device: torch.device) -> bool:
    """Tell an error that another way of computing may not meet; too little memory and a lost device it would.

    Errors of CUDA that leave the device alive, such as a kernel that was not built for it, are told by asking it.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return False
    if is_device_failure(error):
        try:
            probe_device(device)
        except DeviceError:
            return False
    return True


def run_aside(function: Callable[[], T], *, timeout_s: float | None = None) -> T:
    """Run a function in a thread that ends with it, and return what it returns.

    For work with many operations before an engine starts, such as loading. GNU OpenMP keeps a team for each thread that
    ever computed in parallel, and once there are more of them than processors none waits actively any more: every
    operation then pays for waking its team, a quarter more time for a frame of the 4B model on two cores (docs/LOG.md).

    Raises:
        TimeoutError: it takes longer than `timeout_s`; it goes on in its thread.
        Exception: whatever the function raises.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - it belongs to the caller
            future.set_exception(error)

    # A daemon, so that an interrupt need not wait for it.
    thread = threading.Thread(target=run, name="voxtral-load", daemon=True)
    thread.start()
    deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
    # A signal that comes just before a wait begins does not end it, and its handler runs only between two waits.
    while not wait([future], min(_LISTEN_S, max(0.0, deadline - time.monotonic()))).done:
        if time.monotonic() >= deadline:
            raise TimeoutError
    result = future.result()
    thread.join()
    return result


def dtype_name(dtype: torch.dtype) -> str:
    """Give the short name.

    >>> dtype_name(torch.bfloat16)
    'bfloat16'
    """
    return str(dtype).removeprefix("torch.")


def describe_machine() -> dict[str, str]:
    """Describe processor, memory, GPUs and versions, for `voxtral doctor` and benchmark reports."""
    described = {
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpu": f"{os.cpu_count()} cores, {torch.get_num_threads()} used, {torch.backends.cpu.get_cpu_capability()}",
    }
    memory = available_memory()
    if memory is not None:
        described["memory"] = f"{memory[0] / 2**30:.1f} GiB free of {memory[1] / 2**30:.1f}"
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(index)
            name = torch.cuda.get_device_name(index)
            described[f"cuda:{index}"] = f"{name}, {free / 2**30:.1f} GiB free of {total / 2**30:.1f}"
    return described


def available_memory() -> tuple[int, int] | None:
    """Read (available, total) bytes of main memory, where the system tells; of a container, what that may take."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in file}
        available, total = values["MemAvailable"], values["MemTotal"]
    except (OSError, KeyError, ValueError, IndexError):
        return None
    for free, limit in _memory_limits():
        available, total = min(available, free), min(total, limit)
    return available, total


def _memory_limits(own: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> Iterator[_Room]:
    """Yield (free, allowed) bytes for each limit that control groups, of either version, put on this process.

    Whoever goes above one is killed by the system, without a word.
    """
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return
    for _, controllers, path in (line for line in lines if len(line) == 3):
        if controllers == "":
            top, limit_file, used_file = root, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            top, limit_file, used_file = root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        # In a container the path may be that of the machine, and only the top is there.
        group = top / path.strip().lstrip("/")
        for folder in (group, *(parent for parent in group.parents if parent == top or top in parent.parents)):
            with suppress(OSError, ValueError):  # no limit is the word "max"
                limit, used = (int((folder / name).read_text()) for name in (limit_file, used_file))
                yield max(0, limit - used + _reclaimable(folder)), limit


def _reclaimable(group: Path) -> int:
    """Read how many bytes of a group are of files, which the system drops when it needs room."""
    with suppress(OSError, ValueError):
        for line in (group / "memory.stat").read_text().splitlines():
            if line.startswith("inactive_file "):
                return int(line.split()[1])
    return 0


def free_memory(device: torch.device) -> int | None:
    """Return the bytes that torch can still get on a device; None where the system does not tell.

    What torch has reserved and given to nobody looks taken to a GPU's driver, and is free.

    Raises:
        DeviceError: the GPU cannot be asked.
    """
    if device.type == "cuda":
        try:
            free = torch.cuda.mem_get_info(device)[0]
        except RuntimeError as error:
            raise DeviceError(
                f"{device} cannot be used ({type(error).__name__}: {error}); see what else runs on it, or use cpu"
            ) from error
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    memory = available_memory() if device.type == "cpu" else None
    return None if memory is None else memory[0]


def device_memory() -> int:
    """Return the bytes that torch holds on the current GPU; 0 without one in use."""
    return torch.cuda.memory_reserved() if torch.cuda.is_available() and torch.cuda.is_initialized() else 0


def release_memory() -> None:
    """Give what is free back to the system, as far as torch and the C library let go of it.

    Of a model that has been dropped the GNU C library keeps up to 80 percent, for blocks that lie behind it are in use.
    Asked for it, it gives back all but the last 64 MB of a thread's part of the heap.
    """
    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):  # other C libraries have no such function
            ctypes.CDLL(None).malloc_trim(0)
