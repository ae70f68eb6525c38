"""Speaking a text: segments to the engine, audio back, with retries, pauses and speed.

One SpeechHandle is one utterance. It keeps a few segments in flight, so that the next is ready when
one ends, and holds nothing of what has been taken. Offline synthesis is this stream, concatenated.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from voxtral.engine.engine import Engine
from voxtral.engine.options import MAX_FOLLOWED_TOKENS
from voxtral.engine.process import BoundToProcess
from voxtral.engine.sequence import GenerationStats, GenerationTrace, too_late
from voxtral.errors import CancelledError, EngineError
from voxtral.speech.plan import PlannedSegment, SpeechPlan, generation_request
from voxtral.speech.segment_speaker import Event, SegmentSpeaker
from voxtral.speech.shaping import decay, fade_in, reblock, stretch
from voxtral.speech.stretches import SegmentsOfFeed
from voxtral.speech.take import Take
from voxtral.types import (
    AudioChunk,
    Finding,
    FinishReason,
    Mark,
    SegmentCheck,
    SegmentInfo,
    SpeechStats,
    SpokenLanguage,
    WordTime,
)

if TYPE_CHECKING:
    from voxtral.align.follow import Follower

Placed = TypeVar("Placed", WordTime, Finding)

# Of silence before speech that goes on where the model has lost its place in a sentence.
_RESUME_PAUSE_S = 0.1


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
        self._in_flight: deque[_Begun] = deque()
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
        if self._plan.feed is not None:
            self._plan.feed.cancel()
        for begun in list(self._in_flight):
            begun.take.handle.cancel()

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
            chunks = stretch(self._joined(), self._plan.speed, self._plan.sample_rate)
            for chunk in chunks if chunk_size is None else reblock(chunks, chunk_size):
                self._check_cancelled()
                self._num_samples += len(chunk)
                yield chunk
        finally:
            self.cancel()

    def _joined(self) -> Iterator[AudioChunk]:
        """Speak segment after segment, with pauses between and no step in the waveform."""
        rate = self._plan.sample_rate
        join = _Join(self._plan)
        # Not kept: it holds this, and what holds itself stays until somebody collects, with the model.
        speaker = SegmentSpeaker(self._plan, self._begin, self._note_retry, lambda: too_late(self._deadline_s))
        while self._fill():
            begun = self._in_flight[0]
            join.expect(begun.take.segment.pause_s)
            for event in speaker.speak(begun.take, begun.index):
                if event.chunk is None:
                    if words := self._end(event, join):
                        nothing = np.zeros(0, dtype=np.float32)
                        yield AudioChunk(nothing, rate, len(self._segments) - 1, join.position, words=words)
                    continue
                if self._first_chunk_at is None:
                    self._first_chunk_at = event.take.handle.stats.first_chunk_at
                yield from join.add(event.take, event.chunk, len(self._segments))
                if self._plan.feed is not None:
                    self._fill()  # what has come meanwhile
            self._in_flight.popleft()
        yield from join.close(len(self._segments))

    def _end(self, event: Event, join: _Join) -> tuple[WordTime, ...]:
        """Note what a take has become, and give the words that are final with its end."""
        take = event.take
        start, end = join.end(take)
        if take.rest is not None and start == end:
            return ()  # it has said nothing, and all of it is said by another
        offset = take.segment.offset
        self._segments.append(
            SegmentInfo(
                text_start=offset + take.segment.text.start,
                text_end=offset + take.text_end,
                start_s=join.seconds(start),
                end_s=join.seconds(end),
                num_frames=take.handle.stats.num_frames,
                finish_reason=take.finish_reason,
                seed=take.seed,
                words=join.as_heard(take.words, start, offset),
                timing=take.timing,
                check=join.check_as_heard(take.check, start, offset),
            )
        )
        return join.as_heard(event.words, start, offset)

    def _check_cancelled(self) -> None:
        if self._is_cancelled:
            raise CancelledError("the request was cancelled by its caller")

    def _begin(self, segment: PlannedSegment, index: int, number: int, *, is_resumed: bool = False) -> Take:
        """Ask the engine for a part of segment `index`; see `Begin`."""
        self._check_cancelled()
        plan = self._plan
        follower = self._follower(segment)
        request = generation_request(plan, segment, index, number, deadline_s=self._time_left(), follower=follower)
        # Loops are found in the codes.
        trace = None if plan.verify == "off" else GenerationTrace(is_brief=True)
        handle = self._engine.submit(request, trace=trace)
        self._num_prompt_tokens += len(request.prompt.token_ids)
        self._generations.append(handle.stats)
        take = Take(plan, segment, handle, follower, number=number, is_resumed=is_resumed, trace=trace)
        if number and self._in_flight:  # it takes the place of the segment's take before
            self._in_flight[0] = _Begun(take, index)
        if self._is_cancelled:  # in the meantime, by another thread that could not see this one
            handle.cancel()
        return take

    def _follower(self, segment: PlannedSegment) -> Follower | None:
        alignment, script = self._plan.alignment, segment.script
        start, stop = segment.prompt.text_span
        if alignment is None or script is None or not 0 < stop - start <= MAX_FOLLOWED_TOKENS:
            return None
        from voxtral.align.follow import Follower, FollowLimits

        plan = self._plan
        return Follower(
            script.words(segment),
            alignment.max_step,
            FollowLimits.from_thresholds(alignment.thresholds),
            is_strict=plan.keep_to_text,
            is_timed=plan.timestamps or plan.verify != "off",
        )

    def _time_left(self) -> float:
        left = self._submitted_at + self._deadline_s - time.perf_counter()
        if left <= 0:
            raise too_late(self._deadline_s)
        return left

    def _fill(self) -> bool:
        """Keep segments in flight; False when there are none left. Waits for text only where nothing is spoken."""
        while len(self._in_flight) < self._plan.segments_in_flight:
            if self._plan.feed is not None and not self._is_text_ready():
                break
            segment = next(self._plan.segments, None)
            if segment is None:
                break
            index = self._num_submitted
            self._in_flight.append(_Begun(self._begin(segment, index, 0), index))
            self._num_submitted += 1
        return bool(self._in_flight)

    def _is_text_ready(self) -> bool:
        """Tell whether the next segment has come; where none is spoken, wait until it has."""
        segments = self._plan.segments
        if not isinstance(segments, SegmentsOfFeed):
            return True
        if not self._in_flight:
            try:
                segments.wait(None if math.isinf(self._deadline_s) else self._time_left())
            except TimeoutError:
                raise too_late(self._deadline_s) from None
        return segments.is_ready

    def _note_retry(self) -> None:
        self._num_retries += 1


@dataclass(frozen=True)
class _Begun:
    """A segment that is under way."""

    take: Take
    index: int


class _Join:
    """Puts takes behind each other, and knows where each begins.

    Args:
        plan: of the utterance.
    """

    def __init__(self, plan: SpeechPlan) -> None:
        self._plan = plan
        self.position = 0  # samples so far, before speed
        self._start = 0  # of the take that is under way
        self._take: Take | None = None
        self._last_sample: float | None = None  # of the take before; None once there is a pause behind it
        self._asked_s: float | None = None  # the pause that is asked for before the next take

    def expect(self, pause_s: float | None) -> None:
        """Hear of the segment that comes next, and of the pause that is asked for before it."""
        self._asked_s = pause_s

    def close(self, segment: int) -> Iterator[AudioChunk]:
        """Give the pause that is asked for after the last take."""
        if self._plan.end_pause_s:
            yield self._pause(self._plan.end_pause_s, segment)

    def add(self, take: Take, chunk: AudioChunk, segment: int) -> Iterator[AudioChunk]:
        """Give a chunk of a take its place; the first one of a later take has a pause before it.

        Args:
            take: whose it is.
            chunk: counts from the start of its take.
            segment: index of the take among those that are heard.
        """
        rate = self._plan.sample_rate
        samples, marks = chunk.samples, chunk.marks
        if take is not self._take:
            self._take = take
            if self._last_sample is not None or self._asked_s:
                yield self._pause(self._pause_s(take), segment)
                samples = fade_in(samples, rate)
            self._start = self.position
            text, offset = take.segment.text, take.segment.offset
            marks = (Mark("segment", offset + text.start, offset + text.end, 0), *marks)
        marks = tuple(replace(mark, start=self._start + mark.start) for mark in marks)
        words = self.as_heard(chunk.words, self._start, take.segment.offset)
        yield AudioChunk(samples, rate, segment, self.position, marks, words)
        self.position += len(samples)

    def end(self, take: Take) -> tuple[int, int]:
        """Take the end of a take: its first sample, and the one behind its last."""
        if take is not self._take:
            return self.position, self.position  # it had no audio
        self._last_sample = take.last_sample
        return self._start, self.position

    def seconds(self, position: int) -> float:
        """Say when a sample is heard."""
        return position / (self._plan.sample_rate * self._plan.speed)

    def as_heard(self, words: tuple[WordTime, ...], start: int, offset: int) -> tuple[WordTime, ...]:
        """Move words of a take to when they are heard, and to where they stand in the whole text."""
        return tuple(self._moved(word, start, offset) for word in words)

    def check_as_heard(self, check: SegmentCheck | None, start: int, offset: int) -> SegmentCheck | None:
        """Move what was found in a take to where it is heard, and to where it stands in the whole text."""
        if check is None or not check.findings:
            return check
        return replace(check, findings=tuple(self._moved(found, start, offset) for found in check.findings))

    def _moved(self, found: Placed, start: int, offset: int) -> Placed:
        speed, since = self._plan.speed, self.seconds(start)
        return replace(
            found,
            text_start=offset + found.text_start,
            text_end=offset + found.text_end,
            start_s=since + found.start_s / speed,
            end_s=since + found.end_s / speed,
        )

    def _pause(self, seconds: float, segment: int) -> AudioChunk:
        rate = self._plan.sample_rate
        pause = decay(self._last_sample or 0.0, seconds * self._plan.speed, rate)
        chunk = AudioChunk(pause, rate, max(0, segment - 1), self.position)
        self.position += len(pause)
        self._last_sample = None
        return chunk

    def _pause_s(self, take: Take) -> float:
        asked, self._asked_s = self._asked_s, None
        if asked is not None:
            return asked
        return min(self._plan.pause_s, _RESUME_PAUSE_S) if take.is_resumed else self._plan.pause_s
