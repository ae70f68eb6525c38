"""Takes of a segment, with takes that only pretend: attempts compared, places lost, words given up."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtral.errors import GenerationError
from voxtral.speech.segment_speaker import Event, SegmentSpeaker
from voxtral.speech.take import Left
from voxtral.text.segment import TextSegment
from voxtral.types import AudioChunk, SegmentCheck


def part(start: int, text: str = "one two three four") -> Any:
    place = TextSegment(text[start:], start, len(text))
    return SimpleNamespace(text=place, spoken_start=start, prompt=None, script=FakeScript(), offset=0)


class FakeScript:
    """Leaves what lies behind a token, which is an offset here."""

    def rest(self, segment: Any, token: int, *, num_skipped: int = 0) -> Any:
        starts = [place for place in (0, 4, 8, 14) if place >= max(token, segment.spoken_start)][num_skipped:]
        return part(starts[0]) if starts else None

    def halves(self, segment: Any) -> list[Any]:
        return [part(0), part(8)]


class FakeTake:
    """A take whose end is written down."""

    def __init__(self, segment: Any, number: int, end: Any, *, is_resumed: bool) -> None:
        self.segment, self.number, self.is_resumed = segment, number, is_resumed
        self.seed = number
        self.outcome, self.value = end
        self.was_heard = False
        self.has_sound = True
        self.handle = SimpleNamespace(chunks=self._chunks, stats=SimpleNamespace(num_frames=1), stop="end")
        self.check: SegmentCheck | None = None
        self.left: Left | None = None
        self.token = self.value if self.outcome == "lost" else 99

    def _chunks(self) -> Iterator[AudioChunk]:
        yield AudioChunk(np.full(4, float(self.number), dtype=np.float32), 24000)

    def hear(self, chunk: AudioChunk) -> AudioChunk:
        return chunk

    def note_heard(self, chunk: AudioChunk) -> None:
        self.was_heard = True

    def verdict(self) -> str:
        return {"ok": "ok", "bad": "ok"}.get(self.outcome, self.outcome)

    def finish(self, left: Left, known: Any) -> tuple[()]:
        self.left = left
        if self.outcome in ("ok", "bad"):
            self.check = SegmentCheck(self.outcome, self.value, (), 1)
        return ()

    def count_attempts(self, number: int) -> None:
        assert self.check is not None
        self.check = SegmentCheck(self.check.verdict, self.check.score, (), number)


class Stage:
    """Takes end as they are told, one after the other."""

    def __init__(self, ends: list[Any], **options: Any) -> None:
        settings = {"verify": "off", "max_attempts": 3, "hold_segments": False}
        plan = SimpleNamespace(**(settings | {"alignment": object(), "sample_rate": 24000} | options))
        self.ends = iter(ends)
        self.takes: list[FakeTake] = []
        self.num_retries = 0
        self.speaker = SegmentSpeaker(cast(Any, plan), self.begin, self.note_retry, lambda: None)  # type: ignore[arg-type]

    def begin(self, segment: Any, index: int, number: int, *, is_resumed: bool = False) -> Any:
        self.takes.append(FakeTake(segment, number, next(self.ends), is_resumed=is_resumed))
        return self.takes[-1]

    def note_retry(self) -> None:
        self.num_retries += 1

    def events(self) -> list[Event]:
        return list(self.speaker.speak(self.begin(part(0), 0, 0), 0))


def ended(events: list[Event]) -> list[Any]:
    return [event.take for event in events if event.chunk is None]


def test_what_is_lost_is_gone_on_with_from_where_speech_had_come_to() -> None:
    stage = Stage([("lost", 8), ("ok", 0.1)])
    first, second = ended(stage.events())
    assert first.left.rest.spoken_start == second.segment.spoken_start == 8
    assert (second.is_resumed, second.number, stage.num_retries) == (True, 1, 1)


def test_a_word_that_nothing_helps_to_say_is_given_up_by_name() -> None:
    stage = Stage([("lost", 4), ("lost", 4), ("lost", 4), ("ok", 0.1)])
    takes = ended(stage.events())
    # It is tried again once, and then what follows it is said.
    assert [take.segment.spoken_start for take in takes] == [0, 4, 4, 8]
    assert [take.left.given_up for take in takes] == [None, None, (4, 8), None]


def test_the_last_word_may_be_given_up_too() -> None:
    takes = ended(Stage([("lost", 14), ("lost", 14), ("lost", 14)]).events())
    assert takes[-1].left.rest is None
    assert takes[-1].left.given_up == (14, 18)


class SilentStage(Stage):
    """Takes of which one alone is heard, or none."""

    sounding: int | None = None

    def begin(self, segment: Any, index: int, number: int, *, is_resumed: bool = False) -> Any:
        take = super().begin(segment, index, number, is_resumed=is_resumed)
        take.has_sound = number == self.sounding
        return take


def test_a_segment_of_which_every_word_is_given_up_unheard_is_an_error() -> None:
    stage = SilentStage([("lost", 0)] * 8)
    with pytest.raises(GenerationError, match=r"characters 0 to 18 of the text.*8 times") as caught:
        stage.events()
    assert caught.value.finish_reason == "silent"
    assert caught.value.seeds == tuple(range(8))


@pytest.mark.parametrize("sounding", [0, 3, 7])
def test_where_anything_was_heard_what_was_given_up_is_told_in_the_check(sounding: int) -> None:
    stage = SilentStage([("lost", 0)] * 8)
    stage.sounding = sounding
    assert sum(take.left.given_up is not None for take in ended(stage.events())) == 4


def test_an_attempt_that_says_nothing_is_followed_by_another() -> None:
    stage = SilentStage([("lost", 0)] * 8 + [("ok", 0.1)], verify="retry", hold_segments=True)
    stage.sounding = 64
    assert [take.number for take in ended(stage.events())] == [64]


SCORES = st.lists(st.tuples(st.sampled_from(["ok", "bad"]), st.floats(0, 1)), min_size=12, max_size=12)


@given(ends=SCORES, max_attempts=st.integers(1, 4))
def test_the_best_attempt_is_kept_and_none_is_made_after_one_that_is_not_bad(ends: Any, max_attempts: int) -> None:
    ends = [(verdict, score + (20 if verdict == "bad" else 0)) for verdict, score in ends]
    stage = Stage(ends, verify="retry", max_attempts=max_attempts, hold_segments=True)
    kept = ended(stage.events())
    attempts: dict[int, list[FakeTake]] = {}
    for take in stage.takes:
        attempts.setdefault(take.number // 64, []).append(take)
    scores = {number: max(take.check.score for take in takes if take.check) for number, takes in attempts.items()}
    assert max(take.check.score for take in kept) == min(scores.values())
    assert scores[0] >= min(scores.values())
    assert all(score >= 20 for score in list(scores.values())[:-1])
    assert len(scores) == max_attempts or list(scores.values())[-1] < 20
    assert {take.check.attempts for take in kept} == {len(scores)}
    assert stage.num_retries == len(scores) - 1
    # From the third attempt on a segment is cut in two.
    assert all(len(takes) == (2 if number >= 2 else 1) for number, takes in attempts.items())


def test_an_attempt_that_fails_is_no_reason_to_lose_another() -> None:
    stage = Stage(
        [("bad", 25), ("runaway", 0), ("runaway", 0), ("bad", 23), ("ok", 0.2)], verify="retry", hold_segments=True
    )
    kept = ended(stage.events())
    assert [take.check.verdict for take in kept] == ["bad", "ok"]
    failing = Stage([("runaway", 0)] * 8, verify="retry", hold_segments=True)
    with pytest.raises(GenerationError, match="no end within"):
        failing.events()
