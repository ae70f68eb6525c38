"""RunningModel: a model in memory, where and how it computes, and the engine that runs it.

It moves the model between devices and dtypes, and gives it a new engine where the old one has failed. What is spoken
is none of its business. Read next: `voxtral.engine.engine`.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import torch

from voxtral.device import ComputePlan, codec_dtype_for, probe_device, resolve_device
from voxtral.engine.engine import Engine
from voxtral.engine.options import EngineOptions
from voxtral.engine.paths import Paths
from voxtral.engine.process import BoundToProcess
from voxtral.engine.rig import ModelRig
from voxtral.engine.self_check import examine
from voxtral.errors import DeviceError, EngineError, EngineStoppedError
from voxtral.loading.budgets import BUDGETS
from voxtral.model.kernels.dispatch import KERNELS, one_line
from voxtral.model.voxtral import VoxtralModel, move_model
from voxtral.switches import is_switched_off

T = TypeVar("T")

_log = logging.getLogger(__name__)

# Until then graphs are captured at load, the largest first; the rest as they are needed.
_WARM_UP_S = 45.0


class RunningModel(BoundToProcess):
    """A model with its engine; safe to use from many threads. The engine stops when this is closed or forgotten.

    Attributes:
        model: not to be touched while the engine is open, except within `call`.
        compute: where and in which precision the model runs, and why.

    Args:
        model: loaded as planned.
        compute: the plan.
        options: of the engine.
        paths: ways of computing that are open.
    """

    def __init__(
        self, model: VoxtralModel, compute: ComputePlan, options: EngineOptions, paths: Paths | None = None
    ) -> None:
        super().__init__()
        self.compute = compute
        self.model = model
        self._lock = threading.Lock()
        self._restarting = threading.Lock()
        self._is_closed = False
        self._release_budget = BUDGETS.claim(compute.device, compute.budget_bytes)
        self._set_engine(Engine(model, options, paths=paths))

    @property
    def engine(self) -> Engine:
        """The engine; another one after `restart`. A forked child has none, and hears so before any lock is tried."""
        self.check_process()
        return self._engine

    def call(self, function: Callable[[VoxtralModel], T]) -> T:
        """Run a function of the model on the engine's thread, between two frames, and wait for it.

        Raises:
            EngineStoppedError: the engine has been closed, or has failed.
            Exception: whatever the function raises.
        """
        return self._engine.call(function)

    def prepare(self, announce: Callable[[str], None]) -> None:
        """On a GPU, compare the paths on the weights that were loaded, and warm up; says how long that took.

        What is wrong is closed. What fails otherwise is left to the first request, which will tell of it. Where
        the device has failed, the model is closed.

        Raises:
            EngineStoppedError: the device has failed.
            DeviceError: the same.
        """
        if self.compute.device.type != "cuda":
            return
        try:
            if not is_switched_off("self_check"):
                self._engine.call(self._compare)
            if self._engine.options.warm_up:
                announce(f"warmed up: {self._engine.warm_up(_WARM_UP_S)}")
        except (EngineStoppedError, DeviceError):
            self.close()
            raise
        # A warm-up that runs out of memory is no reason not to speak.
        except Exception as error:  # noqa: BLE001
            reason = one_line(f"{type(error).__name__}: {error}")
            announce(f"not warmed up ({reason}); the first requests will be slower")

    def _compare(self, model: VoxtralModel) -> None:
        """Look whether the paths of a frame agree on these weights."""
        verdict = examine(ModelRig(model), only=("static step", "folded flow"))
        for kernel, reason in verdict.kernels_off.items():
            KERNELS.turn_off(kernel, model.device, reason)
            _log.warning("voxtral: the kernel %s is off: %s", kernel, reason)
        for path, reason in verdict.paths_off.items():
            self._engine.paths.close(path, reason)

    def move_to(self, device: str | torch.device, is_busy: Callable[[], bool]) -> None:
        """Move the model to a device; the codec's dtype follows.

        Args:
            device: as `resolve_device` takes it.
            is_busy: tells whether anybody has state on the device, which would be lost.

        Raises:
            DeviceError: the device is not there, or has no room; or the model is quantised, for then its weights are
                laid out for where they are.
            EngineError: requests are open.
        """
        resolved, reason = resolve_device(device)
        self._recompute(is_busy, device=resolved, device_reason=reason)

    def set_dtype(self, dtype: torch.dtype, is_busy: Callable[[], bool]) -> None:
        """Change the dtype of backbone and acoustic transformer; the codec's dtype follows.

        Raises:
            DeviceError: a weight does not fit the dtype; nothing was changed.
            EngineError: requests are open.
        """
        self._recompute(is_busy, dtype=dtype, dtype_reason="it was asked for")

    def _recompute(self, is_busy: Callable[[], bool], **changes: Any) -> None:
        def move(model: VoxtralModel) -> None:
            # On the engine's thread, between frames, so that two changes cannot undo each other.
            before, after = self.compute, replace(self.compute, **changes)
            codec_dtype, codec_reason = codec_dtype_for(after.device, after.dtype)
            after = replace(after, codec_dtype=codec_dtype, codec_reason=codec_reason)
            if (after.device, after.dtype, after.codec_dtype) == (before.device, before.dtype, before.codec_dtype):
                return
            if is_busy() or self._engine.num_active:
                raise EngineError(
                    "speech is under way; the model moves only while nobody speaks; read it to its end or cancel it"
                )
            move_model(model, device=after.device, dtype=after.dtype, codec_dtype=after.codec_dtype)
            self._engine.weights_changed()
            if after.device != before.device:
                # A budget is for where the model was loaded; what was planned by it stays.
                self._release_budget()
                self._release_budget = BUDGETS.claim(after.device, None)
                self._finalizer.detach()
                self._finalizer = weakref.finalize(self, _end, self._engine, self._release_budget)
            self.compute = after

        self._engine.call(move)

    def restart(self) -> None:
        """Start a new engine where the old one has failed; the weights stay. A working engine is left alone.

        Raises:
            DeviceError: the device does not answer any more: end the process.
            EngineStoppedError: the model has been closed.
        """
        self.check_process()
        with self._restarting:
            failed = self._engine
            if failed.failure is None:
                return
            failed.close()  # its thread gives back what it held
            probe_device(self.compute.device)
            engine = Engine(self.model, failed.options, paths=failed.paths)
            with self._lock:
                if self._is_closed:
                    raise EngineStoppedError("the model has been closed; it speaks no more; load it again")
                self._finalizer.detach()
                self._set_engine(engine)

    def _set_engine(self, engine: Engine) -> None:
        self._engine = engine
        # Also runs at interpreter exit, so that no thread is inside torch when that is torn down.
        self._finalizer = weakref.finalize(self, _end, engine, self._release_budget)

    def close(self) -> None:
        """Stop the engine; unfinished requests fail."""
        if self.is_foreign:
            return
        with self._lock:
            self._is_closed = True
        _end(self._engine, self._release_budget)


def _end(engine: Engine, release_budget: Callable[[], None]) -> None:
    engine.close()
    release_budget()


def fill_in(options: EngineOptions, compute: ComputePlan) -> EngineOptions:
    """Let an engine have what was planned, where its options leave it open."""
    planned = {name: getattr(compute, name) for name in ("num_threads", "kv_cache_bytes", "max_batch")}
    return replace(options, **{name: value for name, value in planned.items() if getattr(options, name) is None})
