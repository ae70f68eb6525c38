"""The self-check: every path of the engine beside the plain computation, and what is closed where one is wrong.

Which paths there are, and how far they may be off, is the table `CHECKS`; `examine` goes through it in order. What is
measured on is a `Rig`: `voxtral.engine.rig` has the one that computes. Codes are never compared between paths that
round differently: a difference near a bin edge flips one, and means nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import torch

from voxtral.device import is_device_failure, probe_device
from voxtral.engine.paths import PathName
from voxtral.engine.verdict import Finding, Verdict
from voxtral.model.kernels.dispatch import one_line


@dataclass(frozen=True)
class Check:
    """One row of the table.

    Attributes:
        narrow: largest difference in 16 bits, relative to the largest value.
        exact: the same in float32.
        remedy: what is done where it is exceeded.
    """

    narrow: float
    exact: float
    remedy: str


# In the order in which they are made: each counts on those before it.
CHECKS: Final[Mapping[str, Check]] = {
    "kernels": Check(0.02, 1e-5, "that kernel is off"),
    "products": Check(0.01, 1e-4, "products of few bits by a library"),
    "static step": Check(0.03, 1e-4, "kernels off one by one, then all, then frames as they come"),
    "folded flow": Check(0.03, 1e-4, "the plain flow"),
    "graph replay": Check(0.0, 0.0, "no graphs"),
    "codec step": Check(0.01, 1e-4, "its kernels off, then a state for each stream"),
    "codec stream": Check(0.01, 1e-4, "the codec between frames, then without its kernel"),
    "late look": Check(0.0, 0.0, "each frame is looked at before the next"),
}


# Kernels that the codec's step alone uses.
CODEC_KERNELS: Final = ("attend_after_past", "shifted_columns")


class Untried(Exception):
    """A path that does not exist here, with the reason."""


class Rig(Protocol):
    """What paths are measured on. Differences are relative to the largest value; Untried where a path is not here."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    @property
    def is_narrow(self) -> bool:
        """Whether the model has 16 bits."""
        ...

    @property
    def kernels(self) -> Sequence[str]:
        """Names of the kernels that may run here."""
        ...

    @property
    def products(self) -> Sequence[str]:
        """Names of the products with matrices of few bits."""
        ...

    def kernel(self, name: str) -> float:
        """Compare a kernel alone with its plain form."""
        ...

    def product(self, name: str) -> float:
        """Compare a product with that of the dequantised matrix in float32."""
        ...

    def static_step(self, kernels_off: Iterable[str]) -> float:
        """Compare the static step, without some kernels, with the plain computation."""
        ...

    def folded_flow(self) -> float:
        """Compare the folded flow with the plain one."""
        ...

    def graph_replay(self) -> float:
        """Capture the largest step, replay it twice from the same state, and compare both with the static step."""
        ...

    def codec_step(self, kernels_off: Iterable[str]) -> float:
        """Compare chunks of two streams in static shapes, also captured, without some kernels, with one pass."""
        ...

    def codec(self, *, has_stream: bool) -> float:
        """Compare chunks of a stream with one pass."""
        ...

    def late_look(self) -> float:
        """Count the frames that come out otherwise when each is looked at late."""
        ...


def examine(
    rig: Rig,
    *,
    only: Iterable[str] = tuple(CHECKS),
    known: Mapping[str, str] | None = None,
    on_begin: Callable[[str], None] = lambda path: None,
    on_finding: Callable[[Finding], None] = lambda finding: None,
) -> Verdict:
    """Try every path and say what may be used.

    Args:
        rig: to measure on.
        only: rows of the table that are wanted.
        known: paths that are not to be tried, because they ended a process before, each with the reason.
        on_begin: gets the name of each path before it is tried.
        on_finding: gets each finding.

    Raises:
        Exception: the device has failed, so that nothing more can be tried in this process.
    """
    return _Examination(rig, frozenset(only), known or {}, on_begin, on_finding).run()


class _Examination:
    def __init__(
        self,
        rig: Rig,
        only: frozenset[str],
        known: Mapping[str, str],
        on_begin: Callable[[str], None],
        on_finding: Callable[[Finding], None],
    ) -> None:
        self._rig = rig
        self._only = only
        self._known = known
        self._on_begin = on_begin
        self._on_finding = on_finding
        self._findings: list[Finding] = []
        self._kernels_off: dict[str, str] = {}
        self._paths_off: dict[PathName, str] = {}

    def run(self) -> Verdict:
        started = time.perf_counter()
        rig = self._rig
        if "kernels" in self._only:
            for name in rig.kernels:
                finding = self._try(f"kernel {name}", "kernels", lambda name=name: rig.kernel(name))
                self._close_kernel(name, finding)
        if "products" in self._only:
            for name in rig.products:
                finding = self._try(f"product {name}", "products", lambda name=name: rig.product(name))
                for kernel in ("fused_product", "quantized_matmul"):
                    self._close_kernel(kernel, finding)
        if "static step" in self._only:
            self._try_static()
        self._try_path("folded flow", "folded", rig.folded_flow)
        self._try_path("graph replay", "graphs", rig.graph_replay)
        if "codec step" in self._only:
            self._try_codec_step()
        if "codec stream" in self._only:
            self._try_codec()
        self._try_path("late look", "ahead", rig.late_look)
        return Verdict(tuple(self._findings), self._kernels_off, self._paths_off, time.perf_counter() - started)

    def _close_kernel(self, name: str, finding: Finding) -> None:
        if finding.is_ok is False:
            self._kernels_off.setdefault(name, finding.detail)

    def _try_path(self, check: str, path: PathName, measure: Callable[[], float]) -> None:
        if check in self._only:
            finding = self._try(check, check, measure)
            if finding.is_ok is False:
                self._paths_off[path] = finding.detail

    def _try_static(self) -> None:
        """Try the static step; where it is wrong, find the kernel whose absence mends it, or do without all, or it."""
        rig, off = self._rig, set(self._kernels_off)
        first = self._try("static step", "static step", lambda: rig.static_step(off))
        if first.is_ok is not False:
            return
        untried = {finding.path for finding in self._findings if finding.is_ok is None}
        on = [name for name in rig.kernels if name not in off and f"kernel {name}" not in untried]
        for name in on:
            without = self._try(
                f"static step without {name}", "static step", lambda name=name: rig.static_step({*off, name})
            )
            if without.is_ok:
                self._kernels_off[name] = f"the static step is wrong with it: {first.detail}"
                return
        if on:
            plain = self._try("static step without kernels", "static step", lambda: rig.static_step({*off, *on}))
            if plain.is_ok:
                self._kernels_off |= dict.fromkeys(on, f"the static step is wrong with kernels: {first.detail}")
                return
        self._paths_off["static"] = first.detail

    def _try_codec_step(self) -> None:
        first = self._try("codec step", "codec step", lambda: self._rig.codec_step([]))
        if first.is_ok is not False:
            return
        on = [name for name in CODEC_KERNELS if name in self._rig.kernels and name not in self._kernels_off]
        if on:
            plain = self._try("codec step without kernels", "codec step", lambda: self._rig.codec_step(on))
            if plain.is_ok:
                self._kernels_off |= dict.fromkeys(on, f"the codec step is wrong with kernels: {first.detail}")
                return
        self._paths_off["codec_step"] = first.detail

    def _try_codec(self) -> None:
        first = self._try("codec stream", "codec stream", lambda: self._rig.codec(has_stream=True))
        if first.is_ok is not False:
            return
        self._paths_off["codec_stream"] = first.detail
        second = self._try("codec between frames", "codec stream", lambda: self._rig.codec(has_stream=False))
        if second.is_ok is False:
            self._kernels_off.setdefault("attend_in_window", f"the codec is wrong with it: {second.detail}")

    def _try(self, path: str, check: str, measure: Callable[[], float]) -> Finding:
        self._on_begin(path)
        finding = self._measured(path, check, measure)
        self._findings.append(finding)
        self._on_finding(finding)
        return finding

    def _measured(self, path: str, check: str, measure: Callable[[], float]) -> Finding:
        if path in self._known:
            return Finding(path, False, None, self._known[path])
        limit = CHECKS[check].narrow if self._rig.is_narrow else CHECKS[check].exact
        try:
            worst = float(measure())
        except Untried as reason:
            return Finding(path, None, None, str(reason))
        except (torch.OutOfMemoryError, MemoryError) as error:
            # No fault of the path; where it happens again in use, the next one is taken.
            return Finding(path, None, None, one_line(f"{type(error).__name__}: {error}"))
        # Whatever it is, it must not happen while somebody speaks.
        except Exception as error:  # noqa: BLE001
            if is_device_failure(error):
                # After an error that stays, everything would look wrong; one that passes is the path's own.
                probe_device(self._rig.device)
            return Finding(path, False, None, one_line(f"{type(error).__name__}: {error}"))
        if math.isfinite(worst) and worst <= limit:
            return Finding(path, True, worst)
        if not math.isfinite(worst):
            return Finding(path, False, None, "it computes values that are not finite")
        return Finding(path, False, worst, f"{100 * worst:.2g} % off, {100 * limit:g} % are allowed")
