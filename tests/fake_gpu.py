"""A GPU that is not there: what torch says of one, and what is asked of it, for tests of what is chosen on it.

Nothing computes on it. Which kernels and products work is said here, not tried.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch

from voxtral import driver
from voxtral.model import linear, linear_cuda
from voxtral.model.kernels import dispatch
from voxtral.model.linear_cuda import CudaProducts

GB = 10**9


@dataclass
class FakeGpu:
    """One GPU.

    Attributes:
        total: bytes that it has; free: bytes that the driver calls free.
        capability: compute capability.
        kernel_problem: why Triton's kernels do not run; None where they do.
        int8_problem: why torch's own int8 product does not work; None where it does. int4_problem: the same of int4.
        reserved: bytes that torch has taken; allocated: those of them that tensors hold.
        number: of this GPU, which is the current one.
        fractions: of its memory that torch was held to, in order.
    """

    total: int = 12 * GB
    free: int = 12 * GB
    capability: tuple[int, int] = (8, 6)
    kernel_problem: str | None = None
    int8_problem: str | None = None
    int4_problem: str | None = None
    reserved: int = 0
    allocated: int = 0
    number: int = 0
    fractions: list[float] = field(default_factory=list[float])

    def install(self, monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
        """Take the place of torch's functions, and forget what is known of other GPUs."""
        if self.capability < (8, 0) and self.int4_problem is None:
            self.int4_problem = "RuntimeError: _weight_int4pack_mm_cuda is only supported on compute capability 8.0"
        facts = {"name": "Fake", "multi_processor_count": 28, "major": self.capability[0], "minor": self.capability[1]}
        properties = type("Properties", (), facts)
        # Nothing can be tried on it.
        monkeypatch.setenv("VOXTRAL_SELF_CHECK", "0")
        replaced = {
            "is_available": lambda: True,
            "device_count": lambda: self.number + 1,
            "current_device": lambda: self.number,
            "get_device_capability": lambda device=None: self.capability,
            "get_device_properties": lambda device=None: properties,
            "_check_bf16_tensor_supported": lambda device: True,
            "mem_get_info": lambda device=None: (self.free, self.total),
            "memory_reserved": lambda device=None: self.reserved,
            "memory_allocated": lambda device=None: self.allocated,
            "set_per_process_memory_fraction": self._hold,
        }
        for name, function in replaced.items():
            monkeypatch.setattr(torch.cuda, name, function)
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(dispatch, "_try_launch", lambda device, dtype, *, uses_dot: self.kernel_problem)
        for name in ("_off", "_problems", "_answers"):
            monkeypatch.setattr(dispatch.KERNELS, name, {})
        products = CudaProducts(self.int8_problem, self.int4_problem)
        for module in (linear, linear_cuda):
            monkeypatch.setattr(module, "cuda_products", lambda device, dtype: products)
        return self

    def _hold(self, fraction: float, device: torch.device | None = None) -> None:
        # As torch does it, which wants the number of the device.
        torch.cuda._utils._get_device_index(device)
        self.fractions.append(fraction)


def without_torch(
    monkeypatch: pytest.MonkeyPatch, found: driver.Driver | None, *, built_for: str | None, visible: str | None = None
) -> None:
    """Let torch see no GPU, and a driver be there all the same."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built_for)
    monkeypatch.setattr(driver, "find_driver", lambda: found)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
