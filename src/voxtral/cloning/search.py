"""CodeSearch: runs the search for codes on a model that others use, a slice at a time.

Between two slices whoever is speaking goes on. What the presets tell of the decoder is found out once, before the first
search.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Generator, Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from voxtral.cloning.codes import codes_of_rows
from voxtral.cloning.lateness import find_lateness
from voxtral.cloning.options import RefineOptions, RefineProgress, with_steps
from voxtral.cloning.pitch import PitchCurve, measure_pitch
from voxtral.cloning.prior import CodePrior
from voxtral.cloning.refine import Refined, Speechlike, refine_codes
from voxtral.model.voxtral import CodecModel

T = TypeVar("T")
Y = TypeVar("Y")

# How long others wait at least; a step of a large decoder takes longer.
_SLICE_S = 0.04
# Frames of presets that are looked at, as many of each; more tell hardly more and take longer.
_MAX_FRAMES = 1200
# Of these, those that are decoded to find the lateness.
_DECODED_FRAMES = 600
# Of the frames of a preset, those whose codes must come out; presets of another layout have none that do.
_LEAST_SHARE, _GIVE_UP_AFTER = 0.9, 2


class Call(Protocol):
    """Runs a function of a model where it may be used: between two frames of an engine, or at once."""

    def __call__(self, function: Callable[[CodecModel], T]) -> T:
        """Wait for the function's result."""
        ...


class CodeSearch:
    """Finds codes whose sound is that of clips; safe to use from many threads.

    Args:
        call: runs a function of the model.
        preset_rows: reads the rows [N, D] of each preset of the model.
    """

    def __init__(self, call: Call, preset_rows: Callable[[], Sequence[Tensor]]) -> None:
        self._call = call
        self._preset_rows = preset_rows
        self._speechlike: Speechlike | None = None
        self._lock = threading.Lock()

    @property
    def speechlike(self) -> Speechlike:
        """What the presets tell of the decoder; takes seconds the first time."""
        return self._study(lambda: None)

    def _study(self, between: Callable[[], None]) -> Speechlike:
        """Find out what the presets tell, unless that is known; `between` is called after each slice."""
        with self._lock:
            if self._speechlike is None:
                rows = [each[:-1] for each in self._preset_rows()]
                self._speechlike = self._in_slices(
                    lambda model: study_presets(model, rows), lambda done: between() if done else None
                )
            return self._speechlike

    def find(
        self,
        clips: Sequence[Tensor],
        options: RefineOptions,
        codes: Sequence[Tensor] | None = None,
        on_progress: Callable[[RefineProgress], None] = lambda progress: None,
    ) -> list[Refined]:
        """Search for the codes of clips side by side, a step of each at a time.

        Args:
            clips: [S] float32 each, at the model's rate.
            options: of the search.
            codes: [K, T] of an encoder for each clip, to refine; None starts from nothing.
            on_progress: called after each slice, in this thread, with step 0 while the presets are studied; what it
                raises ends the search.

        Raises:
            NumericsError: the distance of a clip is no number.
            EngineStoppedError: the engine has been closed, or has failed.
            EngineError: memory ran out.
        """
        options, steps = with_steps(options, has_encoder=codes is not None)
        _import_optimisers()
        speechlike = self._study(lambda: on_progress(RefineProgress(0, steps, math.inf, 0.0)))
        started, num_done = time.perf_counter(), 0

        def tell(distances: list[float]) -> None:
            nonlocal num_done
            num_done += len(distances)
            if distances:
                elapsed = time.perf_counter() - started
                on_progress(RefineProgress(num_done, steps, distances[-1], elapsed))

        curves = self._measure(clips)
        return self._in_slices(
            lambda model: refine_codes(model.codec, clips, speechlike, options, steps, codes, curves), tell
        )

    def _measure(self, clips: Sequence[Tensor]) -> list[PitchCurve] | None:
        """Measure the pitch of clips in this thread, for no one waits for it, where the decoder has a source."""
        config = self._call(lambda model: model.config.codec)
        if config.source_filter_head is None:
            return None
        return [measure_pitch(clip.float().cpu().numpy(), config.sample_rate) for clip in clips]

    def _in_slices(self, begin: Callable[[CodecModel], Generator[Y, None, T]], tell: Callable[[list[Y]], None]) -> T:
        """Run a generator to its end, a slice at a time; tell what it yielded in each."""
        work = self._call(begin)
        while True:
            yielded, results = self._call(lambda model: _advance(work))
            tell(yielded)
            if results:
                return results[0]


def _import_optimisers() -> None:
    """Let torch import what it imports with the first optimiser of a process.

    It takes a second, in which an engine's thread would keep all who listen waiting.
    """
    with torch.inference_mode(False):
        torch.optim.Adam([torch.zeros(1, requires_grad=True)])


def _advance(work: Generator[Y, None, T]) -> tuple[list[Y], list[T]]:
    """Run a generator for a slice; return what it yielded, and its result in a list once it has ended."""
    yielded: list[Y] = []
    stop = time.perf_counter() + _SLICE_S
    # Here and not in the generator: these belong to the thread, and would be left to it at a yield.
    with torch.inference_mode(False), torch.enable_grad():
        while True:
            try:
                yielded.append(next(work))
            except StopIteration as end:
                return yielded, [end.value]
            if time.perf_counter() >= stop:
                return yielded, []


def study_presets(model: CodecModel, rows: Sequence[Tensor]) -> Generator[None, None, Speechlike]:
    """Find out what presets tell of a decoder: their codes, what codes of speech are like, and how late it is.

    Args:
        model: whose presets they are.
        rows: [N, D] of each, without the closing row.
    """
    each = max(2, _MAX_FRAMES // max(len(rows), 1))
    found: list[Tensor] = []
    for number, frames in enumerate(rows):
        if number == _GIVE_UP_AFTER and not found:
            break
        with torch.no_grad():
            codes, came_out = codes_of_rows(frames[:each], model)
        if float(came_out.float().mean()) >= _LEAST_SHARE:
            found.append(codes[:, came_out].cpu())
        yield
    num_levels = model.config.codebooks.acoustic_size
    prior = CodePrior.fit(found, num_levels)
    lateness, told = 0, 0.0
    if found:
        decoded = [codes[:, : max(2, _DECODED_FRAMES // len(found))] for codes in found]
        lateness, told = yield from find_lateness(model.codec, decoded, num_levels)
    return Speechlike(tuple(found), prior, lateness, told)
