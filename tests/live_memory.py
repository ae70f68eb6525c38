"""Counts the bytes that tensors hold at once, on the meta device too: what a GPU's allocator would be asked for.

A storage counts from the operation that made it until nothing holds it. Sizes are rounded as torch's allocator of CUDA
memory rounds them, to 512 bytes.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

_ROUNDED_TO = 512


class LiveMemory(TorchDispatchMode):
    """Counts while it is entered; what was there before does not count.

    Attributes:
        held: bytes now.
        peak: most bytes at once since the start or `forget_peak`.
    """

    def __init__(self, device_type: str = "meta") -> None:
        super().__init__()
        self._device_type = device_type
        self._seen: set[int] = set()
        self.held = self.peak = 0

    def forget_peak(self) -> None:
        """Begin anew with what is held now."""
        self.peak = self.held

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = func(*args, **(kwargs or {}))
        given = {part.untyped_storage()._cdata for part in tree_iter((args, kwargs)) if isinstance(part, torch.Tensor)}
        for output in tree_iter(outputs):
            if isinstance(output, torch.Tensor) and output.device.type == self._device_type:
                self._count(output.untyped_storage(), given)
        return outputs

    def _count(self, storage: torch.UntypedStorage, given: set[int]) -> None:
        key = storage._cdata
        if key in self._seen or key in given:
            return
        size = -(-storage.nbytes() // _ROUNDED_TO) * _ROUNDED_TO
        self._seen.add(key)
        self.held += size
        self.peak = max(self.peak, self.held)
        weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.held -= size
