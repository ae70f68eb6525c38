"""Holding torch to a budget on a GPU, for as long as the model lives that it was given for.

Torch has one limit for each GPU and process, whatever models are there, so who has claimed what is counted here for the
whole process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import torch


class Budgets:
    """The claims of all models; safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._claims: dict[torch.device, list[int | None]] = {}
        self._limited: set[torch.device] = set()

    def claim(self, device: torch.device, num_bytes: int | None) -> Callable[[], None]:
        """Count a model in, and hold torch to the sum of all budgets, or to nothing where one model has none.

        Args:
            device: on which the model is; only a GPU has a limit.
            num_bytes: its budget; None for a model without one.

        Returns:
            What counts it out again; a second call does nothing.
        """
        if device.type != "cuda":
            return lambda: None
        with self._lock:
            claims = self._claims.setdefault(device, [])
            claims.append(num_bytes)
            self._apply(device, claims)
        is_held = True

        def release() -> None:
            nonlocal is_held
            with self._lock:
                if is_held:
                    is_held = False
                    claims.remove(num_bytes)
                    self._apply(device, claims)

        return release

    @contextmanager
    def held(self, device: torch.device, num_bytes: int | None) -> Iterator[None]:
        """Count a model in for a while."""
        release = self.claim(device, num_bytes)
        try:
            yield
        finally:
            release()

    def _apply(self, device: torch.device, claims: list[int | None]) -> None:
        budgets = [claim for claim in claims if claim is not None]
        fraction = 1.0
        if budgets and len(budgets) == len(claims):
            _, total = torch.cuda.mem_get_info(device)
            fraction = min(1.0, sum(budgets) / total)
        # Where no limit holds there is none to lift.
        if fraction < 1.0 or device in self._limited:
            torch.cuda.set_per_process_memory_fraction(fraction, device)
            (self._limited.add if fraction < 1.0 else self._limited.discard)(device)


BUDGETS: Final = Budgets()
