"""Speaking one segment, by as many takes as that needs.

A take that failed unheard is made again with another seed. One that has lost its place in the text is gone on with from
the last word that was heard. Where speech is to be verified, whole attempts are compared before one is heard. Read
next: `voxtral.speech.utterance`, which joins what comes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from voxtral.align.pace import KnownPace
from voxtral.errors import DeadlineError, GenerationError
from voxtral.speech.take import Left

if TYPE_CHECKING:
    from voxtral.speech.plan import PlannedSegment, SpeechPlan
    from voxtral.speech.take import Take, Verdict
    from voxtral.types import AudioChunk, SegmentCheck, WordTime

# Takes of a part that fails in the same way, before that is an error, or its first word is given up.
_MAX_TAKES = 2
# Numbers of takes that a segment may have in one attempt; those of the next attempt begin behind them.
_TAKES_PER_ATTEMPT = 64
# From this attempt on a segment is cut in two: a new seed does not cure what its length causes.
_HALVING_ATTEMPT = 2


@dataclass(frozen=True)
class Event:
    """What comes of a segment, in order.

    Attributes:
        take: whose it is.
        chunk: audio; None for the end of the take.
        words: with the end: those that no chunk has brought, seconds from the start of the take.
    """

    take: Take
    chunk: AudioChunk | None = None
    words: tuple[WordTime, ...] = ()


class Begin(Protocol):
    """Begins a take; `SpeechHandle` does."""

    def __call__(self, segment: PlannedSegment, index: int, number: int, *, is_resumed: bool = False) -> Take:
        """Ask the engine for a part of segment `index`."""
        ...


class SegmentSpeaker:
    """Speaks the segments of one utterance.

    Args:
        plan: of the utterance.
        begin: begins a take.
        note_retry: is told of each take beyond those that were planned.
        too_late: says that the deadline passed.
    """

    def __init__(
        self,
        plan: SpeechPlan,
        begin: Begin,
        note_retry: Callable[[], None],
        too_late: Callable[[], DeadlineError],
    ) -> None:
        self._plan = plan
        self._begin = begin
        self._note_retry = note_retry
        self._too_late = too_late
        self._known = KnownPace()

    def speak(self, take: Take, index: int) -> Iterator[Event]:
        """Speak a segment of which the first take has begun.

        Raises:
            GenerationError: a part failed and could not be made again unheard.
            DeadlineError: the deadline passed.
            EngineError: the engine failed.
        """
        if self._plan.verify == "retry":
            return iter(self._best_attempt(take, index))
        return self._speak_parts([take.segment], index, 0, take)

    def _best_attempt(self, first: Take, index: int) -> list[Event]:
        """Speak a segment until it is not bad; after the last attempt the best of them is taken."""
        best: list[Event] = []
        failure: GenerationError | None = None
        attempt = 0
        for attempt in range(self._plan.max_attempts):
            if attempt:
                self._note_retry()
            try:
                events = list(self._attempt(first, index, attempt))
            except GenerationError as error:
                failure = error
                continue
            if not best or _score(events) < _score(best):
                best = events
            if not any(check.verdict == "bad" for check in _checks(best)):
                break
        if best:
            for event in best:
                event.take.count_attempts(attempt + 1)
            return best
        raise failure or AssertionError("a segment has at least one attempt")

    def _attempt(self, first: Take, index: int, attempt: int) -> Iterator[Event]:
        if attempt == 0:
            return self._speak_parts([first.segment], index, 0, first)
        script = first.segment.script
        parts = script.halves(first.segment) if script and attempt >= _HALVING_ATTEMPT else [first.segment]
        return self._speak_parts(parts, index, attempt * _TAKES_PER_ATTEMPT)

    def _speak_parts(
        self, parts: list[PlannedSegment], index: int, number: int, begun: Take | None = None
    ) -> Iterator[Event]:
        """Speak parts of a segment one after the other, each with all that it leaves unsaid."""
        lost: list[Take] = []
        has_sound = False
        for part in parts:
            take = begun or self._begin(part, index, number)
            begun = None
            num_stuck = 0
            while True:
                take = yield from self._made_well(take, index)
                number = take.number + 1
                left = self._left(take, num_stuck)
                words = take.finish(left, self._known)
                self._note_pace(take)
                has_sound |= take.has_sound
                lost += [take] if take.verdict() == "lost" else []
                yield Event(take, words=words)
                if left.rest is None:
                    break
                self._note_retry()
                num_stuck = num_stuck + 1 if left.rest.spoken_start == take.segment.spoken_start else 0
                take = self._begin(left.rest, index, number, is_resumed=True)
        if lost and not has_sound:
            offset = parts[0].offset
            raise _nothing_said((offset + parts[0].text.start, offset + parts[-1].text.end), lost)

    def _left(self, take: Take, num_stuck: int) -> Left:
        """Lay out what a take has left unsaid; a word that nothing helps to say is given up."""
        script = take.segment.script
        if take.verdict() != "lost" or script is None:
            return Left()
        rest = script.rest(take.segment, take.token)
        if rest is None or num_stuck + 1 < _MAX_TAKES or rest.spoken_start != take.segment.spoken_start:
            return Left(rest)
        after = script.rest(take.segment, take.token, num_skipped=1)
        return Left(after, given_up=(rest.text.start, rest.text.end if after is None else after.text.start))

    def _note_pace(self, take: Take) -> None:
        """Learn how fast the voice speaks, where nothing else tells whether a text was said."""
        if self._plan.alignment is None and take.check is not None and take.check.verdict == "unchecked":
            from voxtral.align.checks import sounding_seconds
            from voxtral.align.pace import count_letters

            seconds = sounding_seconds(take.samples, self._plan.sample_rate)
            self._known = self._known.with_speech(count_letters(take.segment.text.text), seconds)

    def _made_well(self, take: Take, index: int) -> Generator[Event, None, Take]:
        """Give out a take; one that failed and that nobody has heard is made once more."""
        seeds = [take.seed]
        while True:
            held: list[AudioChunk] = []
            for made in self._made_in_time(take):
                chunk = take.hear(made)
                if self._plan.hold_segments:
                    held.append(chunk)
                    continue
                take.note_heard(chunk)
                yield Event(take, chunk)
            verdict = take.verdict()
            if verdict in ("ok", "length", "lost"):
                for chunk in held:
                    yield Event(take, chunk)
                return take
            if len(seeds) == _MAX_TAKES or take.was_heard:
                raise _failure(verdict, take, seeds, held)
            self._note_retry()
            take = self._begin(take.segment, index, take.number + 1, is_resumed=take.is_resumed)
            seeds.append(take.seed)

    def _made_in_time(self, take: Take) -> Iterator[AudioChunk]:
        try:
            yield from take.handle.chunks()
        except DeadlineError:
            # The engine knows what was left for this take; the caller knows what was given to all.
            raise self._too_late() from None


def _checks(events: list[Event]) -> list[SegmentCheck]:
    return [event.take.check for event in events if event.chunk is None and event.take.check is not None]


def _score(events: list[Event]) -> float:
    """Score an attempt: that of its worst part."""
    return max((check.score for check in _checks(events)), default=0.0)


def _nothing_said(span: tuple[int, int], lost: list[Take]) -> GenerationError:
    return GenerationError(
        f"the model lost its place in characters {span[0]} to {span[1]} of the text before a sound was heard, and "
        f"again wherever it was to go on ({len(lost)} times); speech must be heard; try another seed, voice or "
        "punctuation, or normalize=auto",
        finish_reason="silent",
        seeds=tuple(take.seed for take in lost),
    )


def _failure(verdict: Verdict, take: Take, seeds: list[int], held: list[AudioChunk]) -> GenerationError:
    what = {
        "runaway": f"no end within {take.handle.stats.num_frames} frames",
        "empty": "an end before the first frame",
        "silent": "only silence",
    }[verdict]
    tried = "twice" if len(seeds) > 1 else "once, and part of it has been heard"
    text, offset = take.segment.text, take.segment.offset
    start, end = offset + text.start, offset + text.end
    return GenerationError(
        f"the model made {what} for characters {start} to {end} of the text ({tried}); speech must "
        "end by itself and be heard; try another seed, voice or punctuation, or set max_frames",
        finish_reason=verdict,
        seeds=tuple(seeds),
        audio=np.concatenate([chunk.samples for chunk in held]) if held else None,
    )
