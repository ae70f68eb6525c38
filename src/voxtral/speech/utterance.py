"""Speaking a text: segments to the engine, audio back, with retries, pauses and speed.

One SpeechHandle is one utterance. It keeps a few segments in flight, so that the next is ready when
one ends, and holds nothing of what has been taken. Offline synthesis is this stream, concatenated.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from voxtral.audio.measure import is_silent
from voxtral.engine.engine import Engine
from voxtral.engine.noise import derive_seed
from voxtral.engine.process import BoundToProcess
from voxtral.engine.sequence import GenerationHandle, GenerationStats, too_late
from voxtral.errors import CancelledError, DeadlineError, EngineError, GenerationError
from voxtral.speech.plan import PlannedSegment, SpeechPlan, generation_request
from voxtral.text.segment import TextSegment
from voxtral.types import AudioChunk, FinishReason, Mark, SegmentInfo, SpeechStats, SpokenLanguage

if TYPE_CHECKING:
    import numpy.typing as npt

    Samples = npt.NDArray[np.float32]

_MAX_ATTEMPTS = 2
_FADE_S = 0.005

Verdict = Literal["ok", "length", "runaway", "empty", "silent"]


class SpeechHandle(BoundToProcess):
    """An utterance under way. Made by `VoxtralTTS.submit`; work begins at once.

    Dropping the handle cancels what it has not given out.

    Args:
        plan: what to speak.
        engine: that speaks it.
        accepted_at: when the request came, on the clock of time.perf_counter; None for now.
        owner: of the engine, which stops it when nobody refers to it any more; kept as long as the handle is.
    """

    def __init__(
        self, plan: SpeechPlan, engine: Engine, *, accepted_at: float | None = None, owner: object = None
    ) -> None:
        super().__init__()
        self._plan = plan
        self._engine = engine
        self._owner = owner  # never read: it is to be kept
        self._submitted_at = time.perf_counter() if accepted_at is None else accepted_at
        self._deadline_s = math.inf if plan.deadline_s is None else plan.deadline_s
        self._is_taken = False
        self._first_chunk_at: float | None = None
        self._in_flight: deque[tuple[PlannedSegment, int, GenerationHandle]] = deque()
        self._num_submitted = 0
        self._num_prompt_tokens = 0
        self._is_cancelled = False
        self._generations: list[GenerationStats] = []
        self._num_retries = 0
        self._num_samples = 0
        self._segments: list[SegmentInfo] = []
        self._fill()

    def __del__(self) -> None:
        self.cancel()

    def cancel(self) -> None:
        """Stop before the next frame; the reader of `chunks` gets CancelledError."""
        if self.is_foreign:
            return
        self._is_cancelled = True
        for _, _, handle in list(self._in_flight):
            handle.cancel()

    @property
    def is_open(self) -> bool:
        """Whether there may be audio to come."""
        return not self._is_cancelled and self._engine.failure is None

    @property
    def seed(self) -> int:
        """The seed of the utterance, drawn if the caller gave none."""
        return self._plan.seed

    @property
    def voice(self) -> str:
        """The name of the voice that speaks, chosen by language if the caller named none."""
        return self._plan.template.voice.name

    @property
    def language(self) -> SpokenLanguage:
        """The language that chose what the caller did not name, and what chose it."""
        return self._plan.language

    @property
    def segments(self) -> tuple[SegmentInfo, ...]:
        """Segments that have been given out whole."""
        return tuple(self._segments)

    @property
    def finish_reason(self) -> FinishReason:
        """The most notable reason among the segments so far: length, then retried, then end."""
        reasons = {segment.finish_reason for segment in self._segments}
        return "length" if "length" in reasons else "retried" if "retried" in reasons else "end"

    @property
    def num_prompt_tokens(self) -> int:
        """Tokens that the model was given so far, those of the voice included."""
        return self._num_prompt_tokens

    @property
    def stats(self) -> SpeechStats:
        """What the utterance took so far."""
        generations = list(self._generations)
        first = self._first_chunk_at
        return SpeechStats(
            seed=self._plan.seed,
            ttfa_s=first - self._submitted_at if first is not None else 0.0,
            compute_s=sum(stats.compute_s for stats in generations),
            duration_s=self._num_samples / self._plan.sample_rate,
            num_frames=sum(stats.num_frames for stats in generations),
            num_retries=self._num_retries,
        )

    def chunks(self, chunk_size: int | None = None) -> Iterator[AudioChunk]:
        """Yield the audio; to be called once.

        Args:
            chunk_size: samples of every chunk but the last; None gives audio as it is made, one frame
                first, then growing.

        Raises:
            GenerationError: a segment failed and could not be made again unheard.
            DeadlineError: the deadline passed; what was yielded before is good audio.
            EngineError: the engine failed.
            CancelledError: `cancel` was called.
        """
        self.check_process()
        if self._is_taken:
            raise EngineError("chunks was called twice; audio is given out once; keep what you got, or submit again")
        self._is_taken = True
        return self._chunks(chunk_size)

    def _chunks(self, chunk_size: int | None) -> Iterator[AudioChunk]:
        try:
            chunks = self._stretched()
            for chunk in chunks if chunk_size is None else _reblock(chunks, chunk_size):
                self._check_cancelled()
                self._num_samples += len(chunk)
                yield chunk
        finally:
            self.cancel()

    def _stretched(self) -> Iterator[AudioChunk]:
        plan = self._plan
        if plan.speed == 1.0:
            yield from self._joined()
            return
        from voxtral.audio.stretch import TimeStretcher

        stretcher = TimeStretcher(plan.speed, plan.sample_rate)
        position = 0
        marks: deque[Mark] = deque()
        segment = 0
        for chunk in self._joined():
            segment = chunk.segment
            marks.extend(replace(mark, start=round(mark.start / plan.speed)) for mark in chunk.marks)
            samples = stretcher.push(chunk.samples)
            if len(samples):
                # The stretcher lags behind: a mark rides with its own sample, not with those it came with.
                due = _take_marks(marks, position + len(samples))
                yield AudioChunk(samples, plan.sample_rate, segment, position, due)
                position += len(samples)
        rest = stretcher.finish()
        if len(rest):
            yield AudioChunk(rest, plan.sample_rate, segment, position, tuple(marks))

    def _joined(self) -> Iterator[AudioChunk]:
        """Speak segment after segment, with pauses between and no step in the waveform."""
        rate, speed = self._plan.sample_rate, self._plan.speed
        position = 0
        last_sample = None
        while self._fill():
            segment, index, handle = self._in_flight[0]
            attempt = _Attempt(handle, self._plan.seed)
            start = position
            for chunk in self._speak(segment, index, attempt):
                samples, marks = chunk.samples, chunk.marks
                if last_sample is not None:
                    pause = self._pause(last_sample)
                    yield AudioChunk(pause, rate, index - 1, position)
                    position += len(pause)
                    start = position
                    samples = _fade_in(samples, rate)
                    last_sample = None
                if position == start:
                    marks = (Mark("segment", segment.text.start, segment.text.end, 0), *marks)
                # The engine counts from the start of the segment.
                marks = tuple(replace(mark, start=start + mark.start) for mark in marks)
                yield AudioChunk(samples, rate, index, position, marks)
                position += len(samples)
            last_sample = attempt.last_sample
            scale = 1.0 / (rate * speed)
            self._segments.append(
                SegmentInfo(
                    text_start=segment.text.start,
                    text_end=segment.text.end,
                    start_s=start * scale,
                    end_s=position * scale,
                    num_frames=attempt.handle.stats.num_frames,
                    finish_reason=attempt.finish_reason,
                    seed=attempt.seed,
                )
            )
            self._in_flight.popleft()

    def _speak(self, segment: PlannedSegment, index: int, attempt: _Attempt) -> Iterator[AudioChunk]:
        """Yield the audio of one segment; a failed attempt that nobody has heard is made once more."""
        while True:
            yield from self._release(attempt)
            verdict = attempt.verdict(has_explicit_budget=self._plan.has_explicit_budget)
            if verdict in ("ok", "length"):
                attempt.finish_reason = "length" if verdict == "length" else "retried" if attempt.number else "end"
                yield from attempt.held
                return
            if attempt.number + 1 == _MAX_ATTEMPTS or attempt.was_heard:
                raise self._failure(verdict, segment.text, attempt)
            self._num_retries += 1
            attempt.begin_again(derive_seed(self._plan.seed, attempt.number + 1))
            attempt.handle = self._submit(segment, index, attempt.number)
            self._in_flight[0] = (segment, index, attempt.handle)

    def _release(self, attempt: _Attempt) -> Iterator[AudioChunk]:
        for chunk in self._made_in_time(attempt.handle):
            if self._first_chunk_at is None:
                self._first_chunk_at = attempt.handle.stats.first_chunk_at
            is_silent = attempt.take(chunk)
            if self._plan.hold_segments:
                attempt.held.append(chunk)
                continue
            attempt.was_heard |= not is_silent
            yield chunk

    def _made_in_time(self, handle: GenerationHandle) -> Iterator[AudioChunk]:
        try:
            yield from handle.chunks()
        except DeadlineError:
            # The engine knows what was left for this segment; the caller knows what was given to all.
            raise too_late(self._deadline_s) from None

    def _failure(self, verdict: Verdict, segment: TextSegment, attempt: _Attempt) -> GenerationError:
        what = {
            "runaway": f"no end within {attempt.handle.stats.num_frames} frames",
            "empty": "an end before the first frame",
            "silent": "only silence",
        }[verdict]
        tried = "twice" if attempt.number else "once, and part of it has been heard"
        return GenerationError(
            f"the model made {what} for characters {segment.start} to {segment.end} of the text ({tried}); speech must "
            "end by itself and be heard; try another seed, voice or punctuation, or set max_frames",
            finish_reason=verdict,
            seeds=tuple(derive_seed(self._plan.seed, number) for number in range(attempt.number + 1)),
            audio=np.concatenate([chunk.samples for chunk in attempt.held]) if attempt.held else None,
        )

    def _check_cancelled(self) -> None:
        if self._is_cancelled:
            raise CancelledError("the request was cancelled by its caller")

    def _submit(self, segment: PlannedSegment, index: int, attempt: int) -> GenerationHandle:
        self._check_cancelled()
        request = generation_request(self._plan, segment, index, attempt, deadline_s=self._time_left())
        handle = self._engine.submit(request)
        self._num_prompt_tokens += len(request.prompt.token_ids)
        self._generations.append(handle.stats)
        if self._is_cancelled:  # in the meantime, by another thread that could not see this one
            handle.cancel()
        return handle

    def _time_left(self) -> float:
        left = self._submitted_at + self._deadline_s - time.perf_counter()
        if left <= 0:
            raise too_late(self._deadline_s)
        return left

    def _fill(self) -> bool:
        """Keep segments in flight; False when there are none left."""
        while len(self._in_flight) < self._plan.segments_in_flight:
            segment = next(self._plan.segments, None)
            if segment is None:
                break
            index = self._num_submitted
            self._in_flight.append((segment, index, self._submit(segment, index, 0)))
            self._num_submitted += 1
        return bool(self._in_flight)

    def _pause(self, last_sample: float) -> Samples:
        # The speech may end off zero; its last sample decays into the pause instead of clicking.
        fade = round(_FADE_S * self._plan.sample_rate)
        length = round(self._plan.pause_s * self._plan.speed * self._plan.sample_rate)
        pause = np.zeros(max(length, fade), dtype=np.float32)
        pause[:fade] = last_sample * (1 - _ramp(fade))
        return pause


class _Attempt:
    """One try at one segment, and what has been seen of it."""

    def __init__(self, handle: GenerationHandle, seed: int) -> None:
        self.handle = handle
        self.finish_reason: FinishReason = "end"
        self.was_heard = False
        self.last_sample = 0.0
        self.number = -1
        self.begin_again(seed)

    def begin_again(self, seed: int) -> None:
        self.seed = seed
        self.number += 1
        self.held: list[AudioChunk] = []
        self.has_sound = False

    def take(self, chunk: AudioChunk) -> bool:
        """Note a chunk; tell whether it is silent."""
        silent = is_silent(chunk.samples, chunk.sample_rate)
        self.has_sound |= not silent
        self.last_sample = float(chunk.samples[-1])
        return silent

    def verdict(self, *, has_explicit_budget: bool) -> Verdict:
        if self.handle.stats.num_frames == 0:
            return "empty"
        if self.handle.stop == "length":
            return "length" if has_explicit_budget else "runaway"
        return "ok" if self.has_sound else "silent"


def _ramp(length: int) -> Samples:
    return (0.5 - 0.5 * np.cos(np.pi * (np.arange(length) + 0.5) / max(length, 1))).astype(np.float32)


def _fade_in(samples: Samples, sample_rate: int) -> Samples:
    faded = samples.copy()
    length = min(len(samples), round(_FADE_S * sample_rate))
    faded[:length] *= _ramp(length)
    return faded


def _take_marks(marks: deque[Mark], end: int) -> tuple[Mark, ...]:
    """Take the marks before a sample."""
    taken: list[Mark] = []
    while marks and marks[0].start < end:
        taken.append(marks.popleft())
    return tuple(taken)


def _reblock(chunks: Iterator[AudioChunk], size: int) -> Iterator[AudioChunk]:
    """Cut a stream into chunks of exactly `size` samples; the last may be shorter."""
    waiting: deque[AudioChunk] = deque()
    num_waiting = 0
    for chunk in chunks:
        waiting.append(chunk)
        num_waiting += len(chunk)
        while num_waiting >= size:
            yield _take(waiting, size)
            num_waiting -= size
    if num_waiting:
        yield _take(waiting, num_waiting)


def _take(waiting: deque[AudioChunk], size: int) -> AudioChunk:
    """Join the first `size` samples of what waits."""
    parts: list[AudioChunk] = []
    missing = size
    while missing:
        chunk = waiting.popleft()
        if len(chunk) > missing:
            chunk, rest = _cut(chunk, missing)
            waiting.appendleft(rest)
        parts.append(chunk)
        missing -= len(chunk)
    samples = np.concatenate([part.samples for part in parts])
    return replace(parts[0], samples=samples, marks=tuple(mark for part in parts for mark in part.marks))


def _cut(chunk: AudioChunk, place: int) -> tuple[AudioChunk, AudioChunk]:
    """Cut a chunk in two; each mark stays with its sample."""
    start = chunk.start + place
    before = tuple(mark for mark in chunk.marks if mark.start < start)
    head = replace(chunk, samples=chunk.samples[:place], marks=before)
    return head, replace(chunk, samples=chunk.samples[place:], start=start, marks=chunk.marks[len(before) :])
