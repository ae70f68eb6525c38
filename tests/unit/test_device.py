"""How many threads a plan wants on a CPU, work that is done aside, and which errors are those of a device."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest
import torch

from voxtral.device import (
    _memory_limits,
    available_memory,
    codec_dtype_for,
    is_device_failure,
    is_out_of_memory,
    plan_compute,
    probe_device,
    resolve_device,
    run_aside,
)
from voxtral.errors import DeviceError


def test_a_tiny_model_computes_with_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert plan_compute("cpu", num_parameters=11_680_000).num_threads == 1


def test_a_large_model_and_an_unknown_one_leave_the_choice_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert plan_compute("cpu", num_parameters=4_000_000_000).num_threads is None
    assert plan_compute("cpu").num_threads is None


def test_who_sets_the_variable_has_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert plan_compute("cpu", num_parameters=11_680_000).num_threads is None


def test_work_aside_gives_its_result_or_its_error_and_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    assert run_aside(lambda: threading.current_thread() is not threading.main_thread())
    with pytest.raises(ZeroDivisionError):
        run_aside(lambda: 1 / 0)
    wait = [thread.join(10) for thread in set(threading.enumerate()) - before]
    assert set(threading.enumerate()) <= before, wait


def test_work_aside_is_not_waited_for_longer_than_allowed() -> None:
    gate = threading.Event()
    with pytest.raises(TimeoutError):
        run_aside(lambda: gate.wait(20), timeout_s=0.05)
    gate.set()


@pytest.mark.parametrize(
    ("capability", "dtype", "codec_dtype"),
    [
        ((6, 1), torch.float16, torch.float32),
        ((7, 5), torch.float16, torch.float32),
        ((8, 0), torch.bfloat16, torch.bfloat16),
        ((9, 0), torch.bfloat16, torch.bfloat16),
    ],
)
def test_a_gpu_that_only_emulates_bfloat16_computes_in_float16(
    capability: tuple[int, int], dtype: torch.dtype, codec_dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A T4 says that it supports bfloat16, and means emulation."""
    properties = type("Properties", (), {"major": capability[0], "minor": capability[1]})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda device: True)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    compute = plan_compute("cuda:0", num_parameters=4_000_000_000)
    assert (compute.dtype, compute.codec_dtype) == (dtype, codec_dtype)
    assert codec_dtype_for(torch.device("cuda:0"), torch.float16)[0] is codec_dtype


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm( handle, opa)`"),
        RuntimeError("../aten/src/ATen/native/cuda/Indexing.cu:1 CUDA error: device-side assert triggered"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"),
        getattr(torch, "AcceleratorError", RuntimeError)("CUDA error: unspecified launch failure"),
    ],
)
def test_errors_of_a_device_are_told_by_their_messages(error: Exception) -> None:
    assert is_device_failure(error)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"),
        MemoryError(),
        ValueError("CUDA error"),
        SystemExit(3),
    ],
)
def test_errors_of_one_request_are_no_failures_of_the_device(error: BaseException) -> None:
    assert not is_device_failure(error)


def test_a_device_that_computes_passes_the_probe() -> None:
    probe_device(torch.device("cpu"))


def test_a_device_that_gives_no_numbers_does_not_pass() -> None:
    with pytest.raises(DeviceError, match=r"device cuda:99 .*end the process"):
        probe_device(torch.device("cuda:99"))


def test_a_device_that_hangs_or_computes_nonsense_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    monkeypatch.setattr(torch, "arange", lambda *_, **__: gate.wait(20))
    with pytest.raises(DeviceError, match="TimeoutError"):
        probe_device(torch.device("cpu"), timeout_s=0.05)
    gate.set()
    monkeypatch.setattr(torch, "arange", lambda *_, **__: torch.ones(4))
    with pytest.raises(DeviceError, match=r"computes 4\.0"):
        probe_device(torch.device("cpu"))


@pytest.mark.parametrize(
    ("line", "top", "names"),
    [
        ("0::/a/b", ".", ("memory.max", "memory.current")),
        ("4:memory:/a/b", "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")),
    ],
)
def test_what_a_container_may_take_counts_and_files_that_it_has_read_do_not(
    tmp_path: Path, line: str, top: str, names: tuple[str, str]
) -> None:
    own, root = tmp_path / "own", tmp_path / "groups"
    own.write_text(f"9:cpu:/\n{line}\n")
    group = root / top / "a"
    (group / "b").mkdir(parents=True)
    for folder, limit in ((group, "1000"), (group / "b", "max")):
        for name, value in zip(names, (limit, "700"), strict=True):
            (folder / name).write_text(value + "\n")
    (group / "memory.stat").write_text("anon 500\ninactive_file 200\n")
    assert list(_memory_limits(own, root)) == [(500, 1000)]
    assert list(_memory_limits(tmp_path / "missing", root)) == []


def test_free_memory_is_no_more_than_the_least_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    before = available_memory()
    if before is None:
        pytest.skip("this system does not tell")
    monkeypatch.setattr("voxtral.device._memory_limits", lambda: [(3, 10), (5, 8)])
    assert available_memory() == (3, 8)


@pytest.mark.parametrize(
    ("error", "is_full"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), True),
        (RuntimeError("can't start new thread"), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (RuntimeError("shapes do not fit"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_running_out_of_memory_is_told_apart(error: Exception, is_full: bool) -> None:
    assert is_out_of_memory(error) == is_full


@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:0"])
def test_a_gpu_that_the_parent_of_a_fork_has_used_is_refused(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    assert resolve_device(device)[0].type == "cuda"
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    with pytest.raises(DeviceError, match="spawn"):
        resolve_device(device)
    assert resolve_device("cpu")[0].type == "cpu"
