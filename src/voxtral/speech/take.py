"""A take: a part of the text as it was once spoken, with what is known of it when it ends.

Read next: `voxtral.speech.segment_speaker`, which makes takes until a segment has been said.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from voxtral.audio.measure import is_silent
from voxtral.engine.noise import derive_seed
from voxtral.types import Finding, FinishReason, SegmentCheck, Timing, WordTime

if TYPE_CHECKING:
    import numpy.typing as npt

    from voxtral.align.follow import Follower
    from voxtral.align.pace import KnownPace
    from voxtral.align.signals import SpokenSegment
    from voxtral.align.words import WordSpans
    from voxtral.engine.sequence import GenerationHandle, GenerationTrace
    from voxtral.speech.plan import PlannedSegment, SpeechPlan
    from voxtral.types import AudioChunk, Samples

Verdict = Literal["ok", "length", "lost", "runaway", "empty", "silent"]


class Take:
    """One generation, and what has been heard of it.

    Args:
        plan: of the utterance.
        segment: the part that is spoken.
        handle: of the generation.
        follower: that watches it; None where the text is not followed.
        number: 0 for the first take of a segment; no two takes of one have the same.
        is_resumed: whether it goes on where another one has lost its place.
        trace: of its frames, where they are to be checked.
    """

    def __init__(
        self,
        plan: SpeechPlan,
        segment: PlannedSegment,
        handle: GenerationHandle,
        follower: Follower | None,
        *,
        number: int,
        is_resumed: bool = False,
        trace: GenerationTrace | None = None,
    ) -> None:
        self.segment = segment
        self.handle = handle
        self.seed = derive_seed(plan.seed, number)
        self.number = number
        self.is_resumed = is_resumed
        self.was_heard = False
        self.last_sample = 0.0
        self.rest: PlannedSegment | None = None  # what it has left unsaid, once that is known
        self.words: tuple[WordTime, ...] = ()  # all of them, once it has ended; seconds from its start
        self.check: SegmentCheck | None = None
        self._plan = plan
        self._follower = follower
        self._trace = trace
        self._has_sound = False
        self._num_samples = 0
        wants_all = plan.timestamps or plan.verify != "off"
        self._samples: list[Samples] | None = [] if wants_all else None
        self._timer = _Timer(plan, follower) if wants_all and follower is not None else None

    @property
    def finish_reason(self) -> FinishReason:
        """How it ended, once it has."""
        if self.handle.stop == "length":
            return "length"
        return "retried" if self.number else "end"

    @property
    def has_sound(self) -> bool:
        """Whether anything of it is louder than silence."""
        return self._has_sound

    @property
    def timing(self) -> Timing:
        """Where the times of its words come from."""
        if not self._plan.timestamps:
            return "none"
        return "attention" if self._is_followed else "proportional"

    @property
    def _is_followed(self) -> bool:
        """Whether the attention of all its frames was measured; a device may fail at that and speak on."""
        return self._follower is not None and len(self._follower.weights) >= self.handle.stats.num_frames

    def hear(self, chunk: AudioChunk) -> AudioChunk:
        """Note a chunk, and give it the words that are final with it."""
        is_quiet = is_silent(chunk.samples, chunk.sample_rate)
        self._has_sound |= not is_quiet
        self.last_sample = float(chunk.samples[-1])
        self._num_samples += len(chunk)
        if self._samples is not None:
            self._samples.append(chunk.samples)
        if self._timer is None:
            return chunk
        self._timer.add_samples(chunk.samples)
        # Frames that have not been heard may be dropped yet; and so it does not hang on how far the engine is.
        words = self._timer.advance(self._num_frames_heard)
        return replace(chunk, words=words) if words and self._plan.timestamps else chunk

    @property
    def _num_frames_heard(self) -> int:
        return int(self._num_samples * self._plan.frame_rate / self._plan.sample_rate)

    def note_heard(self, chunk: AudioChunk) -> None:
        """Note that a chunk has been given out."""
        self.was_heard |= not is_silent(chunk.samples, chunk.sample_rate)

    def finish(self, left: Left, known: KnownPace | None = None) -> tuple[WordTime, ...]:
        """Take the end, check it if that is wanted, and give the words that no chunk has brought.

        Args:
            left: what it has left unsaid.
            known: how fast the voice was heard to speak.
        """
        self.rest = left.rest
        late: tuple[WordTime, ...] = ()
        if self._timer is not None and self._is_followed:
            late = self._timer.finish(self.handle.stats.num_frames, self._words_end)
            self.words = self._timer.words
        elif self._plan.timestamps and self.segment.script is not None:
            given = () if self._timer is None else self._timer.words
            late = after(given, self.segment.script.proportional_times(self.segment, self.samples))
            self.words = given + late
        if self._plan.verify != "off":
            self.check = self._checked(known)
        if left.given_up is not None:
            self.check = self._with_given_up(left.given_up)
        if not self._plan.timestamps:
            self.words = late = ()
        return late

    def _checked(self, known: KnownPace | None) -> SegmentCheck:
        from voxtral.align.checks import check_speech, unchecked_speech

        plan, text, stop = self._plan, self.segment.text, self.handle.stop
        if self._timer is None or not self._is_followed or plan.alignment is None:
            span = (text.start, text.end)
            return unchecked_speech(text.text, span, self.samples, plan.sample_rate, stop=stop, known=known)
        return check_speech(self._as_spoken(self._timer), plan.alignment)

    def _as_spoken(self, timer: _Timer) -> SpokenSegment:
        from voxtral.align.signals import SpokenSegment

        num_frames, plan = self.handle.stats.num_frames, self._plan
        codes = None if self._trace is None else self._trace.audio_tokens[:num_frames]
        return SpokenSegment(
            spoken=self.segment.text.text,
            words=timer.spans,
            times=self._all_times(timer.spans),
            weights=timer.clock.weights,
            path=timer.clock.path,
            samples=self.samples,
            sample_rate=plan.sample_rate,
            frame_rate=plan.frame_rate,
            # What is left is said by another take, and the end of this one is no fault any more.
            stop=self.handle.stop if self.rest is None else None,
            language=plan.language.code,
            codes=torch.stack(codes).numpy() if codes else None,
            text_end=None if self.rest is None else self.text_end,
            sound=timer.clock.sound,
        )

    def _all_times(self, spans: WordSpans) -> tuple[WordTime, ...]:
        """Give the times of all words of the segment; those that another take says have no length."""
        missing = spans.words[len(self.words) :]
        end_s = self._num_samples / self._plan.sample_rate
        return self.words + tuple(WordTime(word.text_start, word.text_end, end_s, end_s, 0.0) for word in missing)

    def _with_given_up(self, span: tuple[int, int]) -> SegmentCheck:
        """Say that words were given up, also where nobody asked for checks: nothing is left out without a word."""
        from voxtral.align.checks import MAX_STRENGTH, SCORE_BAND

        end_s = self._num_samples / self._plan.sample_rate
        finding = Finding("skipped", *span, end_s, end_s, strength=MAX_STRENGTH)
        worst = SegmentCheck("bad", 3 * SCORE_BAND, (finding,), 1)
        return worst if self.check is None else replace(worst, findings=(*self.check.findings, finding))

    def count_attempts(self, number: int) -> None:
        """Say in its check how many attempts the segment took."""
        if self.check is not None:
            self.check = replace(self.check, attempts=number)

    @property
    def text_end(self) -> int:
        """Where what it has said ends in the text as given, exclusive."""
        return self.segment.text.end if self.rest is None else max(self.segment.text.start, self.rest.text.start)

    @property
    def _words_end(self) -> int:
        """Where the words that are told of with it end in the text as given, exclusive."""
        if self.rest is None:
            return self.segment.word_range[1]
        # Where all is said by another take, so is what stands before it.
        return self.rest.text.start if self.rest.spoken_start > self.segment.spoken_start else 0

    @property
    def token(self) -> int:
        """The token of its text that it came to."""
        return 0 if self._follower is None else self._follower.token

    @property
    def samples(self) -> Samples:
        """All samples, where they are kept."""
        return np.concatenate(self._samples) if self._samples else np.zeros(0, dtype=np.float32)

    def verdict(self) -> Verdict:
        """Judge it, once it has ended."""
        stop = self.handle.stop
        if stop == "lost":
            return "lost"
        if self.handle.stats.num_frames == 0:
            return "empty"
        if stop == "length":
            return "length" if self._plan.has_explicit_budget else "runaway"
        return "ok" if self._has_sound else "silent"


def after(given: tuple[WordTime, ...], times: tuple[WordTime, ...]) -> tuple[WordTime, ...]:
    """Take the words that were not given yet, none before the end of the last one that was."""
    if not given:
        return times
    end_s, num_given = given[-1].end_s, len(given)
    return tuple(
        replace(word, start_s=max(word.start_s, end_s), end_s=max(word.end_s, end_s)) for word in times[num_given:]
    )


@dataclass(frozen=True)
class Left:
    """What a take has left unsaid.

    Attributes:
        rest: to be said by another take.
        given_up: of the text as given, what nothing has helped to say.
    """

    rest: PlannedSegment | None = None
    given_up: tuple[int, int] | None = None


class _Timer:
    """Times the words of a take as its audio comes.

    Args:
        plan: of the utterance, with alignment.
        follower: of the take.
    """

    def __init__(self, plan: SpeechPlan, follower: Follower) -> None:
        from voxtral.align.times import WordClock

        if plan.alignment is None:
            raise AssertionError("a text was followed without an alignment")
        self.words: tuple[WordTime, ...] = ()
        self.spans = follower.words
        self._follower = follower
        self._num_frames = 0
        self.clock = WordClock(
            follower.words,
            plan.alignment,
            frame_rate=plan.frame_rate,
            sample_rate=plan.sample_rate,
            path=follower.path,
        )

    def add_samples(self, samples: Samples) -> None:
        self.clock.add_samples(samples)

    def advance(self, num_frames: int) -> tuple[WordTime, ...]:
        """Give the words that are final now that so many frames have been heard."""
        # Even without new frames: a word may have waited for samples alone.
        return self._note(self.clock.add_frames(self._new_rows(num_frames)))

    def finish(self, num_frames: int, text_end: int) -> tuple[WordTime, ...]:
        """Give the words that are left, but those of a part of the text that is spoken by another take."""
        left = self.clock.add_frames(self._new_rows(num_frames)) + self.clock.end()
        kept = (word for word in left if word.text_start < text_end)
        # A place in the middle of a word makes it one on both sides.
        return self._note(tuple(replace(word, text_end=min(word.text_end, text_end)) for word in kept))

    def _new_rows(self, num_frames: int) -> list[npt.NDArray[np.float32]]:
        new = self._follower.weights[self._num_frames : num_frames]
        self._num_frames += len(new)
        return new

    def _note(self, words: tuple[WordTime, ...]) -> tuple[WordTime, ...]:
        self.words += words
        return words
