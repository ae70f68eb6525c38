"""A GPU that torch does not see: who says that it is there, and what would have to change."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fake_gpu import without_torch
from voxtral import driver
from voxtral.device import plan_compute, resolve_device
from voxtral.driver import Driver, explain_absence
from voxtral.errors import DeviceError

OLD, NEW = Driver("NVIDIA GeForce RTX 3060", "550.54.14"), Driver("NVIDIA GeForce RTX 3060", "580.95.05")


@pytest.mark.parametrize(
    ("found", "built_for", "visible", "said"),
    [
        (None, None, None, None),
        (None, "13.0", None, None),
        (NEW, None, None, "this torch is built for the CPU only; install a CUDA build"),
        (OLD, "13.0", None, "needs driver 580 or newer; update the driver"),
        (NEW, "13.0", "-1", "CUDA_VISIBLE_DEVICES is '-1'"),
        (OLD, "12.6", None, "cannot use it"),
        (Driver("an NVIDIA GPU", ""), "13.0", None, "cannot use it"),
    ],
)
def test_why_torch_sees_no_gpu(
    found: Driver | None,
    built_for: str | None,
    visible: str | None,
    said: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Windows gets a CPU build of torch from the usual command, and spoke at the speed of a CPU without a word."""
    without_torch(monkeypatch, found, built_for=built_for, visible=visible)
    explained = explain_absence(built_for)
    compute = plan_compute("auto")
    assert compute.device == torch.device("cpu")
    if said is None:
        assert explained is None
        assert (compute.device_reason, compute.remarks) == ("no CUDA device is present", ())
    else:
        assert explained is not None
        assert str(found) in explained
        assert said in explained
        assert compute.device_reason == explained
        assert compute.remarks == (f"device: cpu; {explained}",)
        with pytest.raises(DeviceError, match="device cuda is not there; a GPU is there"):
            resolve_device("cuda")
    # Who asked for the processor has not to be told.
    assert plan_compute("cpu").remarks == ()


TOOL = """#!{python}
import sys
assert sys.argv[1:] == ["--query-gpu=name,driver_version", "--format=csv,noheader"], sys.argv
{body}
"""


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("print('NVIDIA L4, 580.95.05'); print('another, 580.95.05')", "NVIDIA L4, driver 580.95.05"),
        ("print('NVIDIA-SMI has failed because it could not communicate'); sys.exit(9)", None),
        ("print('No devices were found')", None),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="a script without an ending is no program there")
def test_the_drivers_tool_is_asked(
    body: str, found: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(TOOL.format(python=sys.executable, body=body))
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(driver, "_KERNEL_MODULE", tmp_path / "absent")
    assert driver.find_driver.__wrapped__() == (None if found is None else Driver(*found.split(", driver ")))


def test_the_kernel_module_tells_where_the_tool_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(driver, "_WSL_TOOL", tmp_path / "absent")
    module = tmp_path / "version"
    monkeypatch.setattr(driver, "_KERNEL_MODULE", module)
    assert driver.find_driver.__wrapped__() is None
    module.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.133.20  Release Build\nGCC version:\n"
    )
    assert driver.find_driver.__wrapped__() == Driver("an NVIDIA GPU", "570.133.20")


def test_the_version_is_the_kernels_where_it_tells_and_else_the_tools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "version"
    monkeypatch.setattr(driver, "_KERNEL_MODULE", module)
    monkeypatch.setattr(driver, "find_driver", lambda: NEW)
    version = driver.driver_version.__wrapped__
    assert version() == NEW.version
    module.write_text("NVRM version: of no number\n")
    assert version() == NEW.version
    monkeypatch.setattr(driver, "find_driver", lambda: None)
    assert version() == "unknown"
    module.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14\n")
    monkeypatch.setattr(driver, "find_driver", lambda: pytest.fail("a program was started for nothing"))
    assert version() == "550.54.14"


def test_a_tool_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def hang(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("nvidia-smi", 10)

    monkeypatch.setattr(driver.shutil, "which", lambda name: "nvidia-smi")
    monkeypatch.setattr(driver.subprocess, "run", hang)
    monkeypatch.setattr(driver, "_KERNEL_MODULE", tmp_path / "absent")
    assert driver.find_driver.__wrapped__() is None
