"""Verdicts and findings: each fault is named where it is, good speech passes, and the score agrees with the verdict."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtral.align.alignment import Alignment, Pace
from voxtral.align.checks import (
    MIN_UTTERANCES,
    SCORE_BAND,
    GoodSpeech,
    check_speech,
    measure_good_speech,
    thresholds_from,
    unchecked_speech,
)
from voxtral.align.pace import KnownPace
from voxtral.align.path import find_path
from voxtral.align.signals import SpokenSegment
from voxtral.align.words import spoken_words, verbatim_sources
from voxtral.types import SegmentCheck

RATE, FRAME_RATE, FRAME = 24000, 12.5, 1920
TEXT = "The carpenter measured, and cut, the narrow shelf twice."
# A letter a frame, which is about what nano does.
STEPS = list(range(len(TEXT)))
PLAIN = Alignment("0" * 64, ((3, 0),), 6, codec_lag_s=0.0, head_lead_s=0.0)
MAX_SHARE = 0.94


def _segment(steps: list[int], text: str = TEXT, **more: Any) -> SpokenSegment:
    """Lay out speech whose frames look at places among the tokens, with a little on the neighbours."""
    weights = np.full((len(steps), len(text)), 1e-4, dtype=np.float32)
    for row, place in zip(weights, steps, strict=True):
        row[max(0, place - 1)] += (1 - MAX_SHARE) / 2
        row[min(len(text) - 1, place + 1)] += (1 - MAX_SHARE) / 2
        row[place] += MAX_SHARE
    weights /= weights.sum(axis=1, keepdims=True)
    words = spoken_words(text, text, verbatim_sources(0, len(text)), [char.encode() for char in text])
    samples = np.random.default_rng(0).standard_normal(FRAME * len(steps)).astype(np.float32) * 0.1
    path = find_path(weights, 6) if steps else np.zeros(0, dtype=np.int64)
    return replace(
        SpokenSegment(text, words, (), weights, path, samples, RATE, FRAME_RATE, stop="end", language="en"), **more
    )


def _kinds(check: SegmentCheck) -> set[str]:
    return {finding.kind for finding in check.findings}


def _phrases(check: SegmentCheck, kind: str, text: str = TEXT) -> str:
    return " | ".join(text[one.text_start : one.text_end] for one in check.findings if one.kind == kind)


def test_good_speech_passes() -> None:
    check = check_speech(_segment(STEPS), PLAIN)
    assert (check.verdict, check.findings, check.attempts) == ("ok", (), 1)
    assert 0 <= check.score < SCORE_BAND


def test_a_word_that_is_jumped_over_was_skipped() -> None:
    first = TEXT.index("measured")
    check = check_speech(_segment([*range(first), *range(TEXT.index("and"), len(TEXT))]), PLAIN)
    assert check.verdict == "bad"
    assert "measured," in _phrases(check, "skipped")
    assert "shelf" not in _phrases(check, "skipped")


@pytest.mark.parametrize("stop", ["end", "lost", "length"])
def test_an_end_that_comes_too_early_cuts_off(stop: str) -> None:
    check = check_speech(_segment(list(range(TEXT.index("narrow"))), stop=stop), PLAIN)
    assert check.verdict == "bad"
    assert _phrases(check, "cut_off").endswith("narrow shelf twice.")
    assert "skipped" not in _kinds(check)  # the same words, said once


def test_what_another_take_says_is_not_missed() -> None:
    cut = TEXT.index("the narrow")
    segment = _segment(list(range(cut - 1)), text_end=cut)
    assert check_speech(segment, PLAIN).verdict == "ok"


@pytest.mark.parametrize("stop", ["length", "lost"])
def test_speech_that_was_broken_off_is_bad_even_at_the_end_of_its_text(stop: str) -> None:
    check = check_speech(_segment(STEPS, stop=stop), PLAIN)
    assert (check.verdict, _kinds(check)) == ("bad", {"cut_off"})


def test_an_improbable_end_cuts_off() -> None:
    assert check_speech(_segment(STEPS, no_end=0.2), PLAIN).verdict == "ok"
    assert _kinds(check_speech(_segment(STEPS, no_end=6.0), PLAIN)) == {"cut_off"}


def test_a_phrase_that_comes_twice_is_repeated() -> None:
    first, stop = TEXT.index("the narrow"), TEXT.index("shelf")
    check = check_speech(_segment([*range(stop), *range(first, len(TEXT))]), PLAIN)
    assert check.verdict == "bad"
    assert "narrow" in _phrases(check, "repeated")
    assert "carpenter" not in _phrases(check, "repeated")


def test_speech_that_stands_still_is_stuck() -> None:
    place = TEXT.index("narrow") + 2
    check = check_speech(_segment([*range(place), *[place] * 12, *range(place, len(TEXT))]), PLAIN)
    assert "narrow" in _phrases(check, "stuck")


def test_a_pause_at_a_comma_is_not_stuck() -> None:
    place = TEXT.index(",")
    segment = _segment([*range(place), *[place] * 12, *range(place, len(TEXT))])
    segment.samples[place * FRAME : (place + 12) * FRAME] = 0.0
    assert "stuck" not in _kinds(check_speech(segment, PLAIN))


def test_attention_that_is_nowhere_belongs_to_sounds_of_no_word() -> None:
    segment = _segment(STEPS)
    place = TEXT.index("narrow")
    segment.weights[place : place + 5] = 1 / len(TEXT)
    check = check_speech(segment, PLAIN)
    assert check.verdict != "ok"
    assert "narrow" in _phrases(check, "invented")


def test_codes_that_come_again_and_again_are_a_loop() -> None:
    codes = np.arange(len(TEXT))[:, None].repeat(4, axis=1)
    assert check_speech(_segment(STEPS, codes=codes), PLAIN).verdict == "ok"
    codes[10:31] = codes[10:17][np.arange(21) % 7]
    check = check_speech(_segment(STEPS, codes=codes), PLAIN)
    assert (check.verdict, _kinds(check)) == ("bad", {"repeated"})
    found = check.findings[0]
    assert found.start_s == pytest.approx(10 / FRAME_RATE)
    assert found.end_s == pytest.approx(31 / FRAME_RATE)
    # One sound that is held is none.
    codes[10:31] = codes[10]
    assert check_speech(_segment(STEPS, codes=codes), PLAIN).verdict == "ok"


def test_silence_is_found_inside_and_everywhere() -> None:
    segment = _segment(STEPS)
    segment.samples[10 * FRAME : 30 * FRAME] = 0.0
    check = check_speech(segment, PLAIN)
    (found,) = (one for one in check.findings if one.kind == "silence")
    assert (found.start_s, found.end_s) == (pytest.approx(0.8, abs=0.1), pytest.approx(2.4, abs=0.1))
    segment.samples[:] = 0.0
    assert check_speech(segment, PLAIN).verdict == "bad"


def test_pace_is_compared_with_that_of_the_language() -> None:
    alignment = replace(PLAIN, pace=MappingProxyType({"en": Pace(1.0, 0.1)}))
    assert _kinds(check_speech(_segment(STEPS), alignment)) == {"rate"}
    assert check_speech(_segment(STEPS, language="de"), alignment).verdict == "ok"


def test_thresholds_of_a_checkpoint_widen_what_is_let_pass() -> None:
    place = TEXT.index("narrow") + 2
    segment = _segment([*range(place), *[place] * 12, *range(place, len(TEXT))])
    wide = replace(PLAIN, thresholds=MappingProxyType({"stall": 20.0}))
    assert "stuck" not in _kinds(check_speech(segment, wide))
    # Nothing that is measured makes them narrower than they may be.
    narrow = replace(PLAIN, thresholds=MappingProxyType(dict.fromkeys(("stall", "jump", "back"), 0.0)))
    assert check_speech(_segment(STEPS), narrow).verdict == "ok"


def test_no_frames_say_nothing_and_no_words_ask_for_nothing() -> None:
    check = check_speech(_segment([]), PLAIN)
    assert (check.verdict, _phrases(check, "cut_off")) == ("bad", TEXT)
    assert check_speech(_segment([0, 1], text="  "), PLAIN).verdict == "ok"


@given(
    steps=st.lists(st.integers(0, len(TEXT) - 1), min_size=1, max_size=60),
    stop=st.sampled_from(["end", "over", "length", "lost", None]),
    no_end=st.none() | st.floats(0, 30),
)
def test_the_score_agrees_with_the_verdict(steps: list[int], stop: str | None, no_end: float | None) -> None:
    segment = _segment(steps, stop=stop, no_end=no_end)
    check = check_speech(segment, PLAIN)
    band = {"ok": 0, "suspect": 1, "bad": 2}[check.verdict]
    assert band * SCORE_BAND <= check.score < (band + 1) * SCORE_BAND
    assert bool(check.findings) == (check.verdict != "ok")
    for one in check.findings:
        assert 0 <= one.text_start < one.text_end <= len(TEXT)
        assert 0 <= one.start_s <= one.end_s <= len(segment.samples) / RATE
        assert one.strength > 1


def test_thresholds_are_those_of_good_speech() -> None:
    good = measure_good_speech(_segment(STEPS), PLAIN)
    assert good.language == "en"
    with pytest.raises(ValueError, match=str(MIN_UTTERANCES)):
        thresholds_from([good] * (MIN_UTTERANCES - 1))
    quiet = thresholds_from([good] * MIN_UTTERANCES)
    loud = GoodSpeech("fr", {**good.values, "strain": 3.0, "unseen": 2.0, "tail_frames": 11.0})
    found = thresholds_from([good] * MIN_UTTERANCES + [loud] * MIN_UTTERANCES)
    assert found["strain"] == pytest.approx(3.6)  # a fifth to spare
    assert found["tail_frames"] == 13.0
    # What is usual in a language is taken off, so that it is no fault there.
    assert found["unseen.fr"] == 2.0
    assert found["unseen"] == quiet["unseen"]


def test_without_an_aligner_an_end_that_came_far_too_early_is_bad() -> None:
    text = "Hello there, my ... friend, the train leaves at noon today."
    speech = np.random.default_rng(0).standard_normal(5 * RATE).astype(np.float32) * 0.1

    def verdict(text: str, seconds: float, **more: Any) -> str:
        return unchecked_speech(text, (0, len(text)), speech[: round(seconds * RATE)], RATE, **more).verdict

    assert verdict(text, 1.44) == "bad"
    assert verdict(text, 4.2) == "unchecked"
    assert verdict("Yes.", 0.4) == "unchecked"
    assert verdict("你好，我的朋友，我们明天中午在火车站见面吧。", 1.0) == "bad"
    assert verdict("20241130 17:45", 0.3) == "bad"
    # The voice's own pace says more: 200 letters took it 20 seconds.
    assert verdict(text, 2.2) == "unchecked"
    assert verdict(text, 2.2, known=KnownPace(200, 20)) == "bad"
    assert verdict("Yes.", 4.9, known=KnownPace(200, 20)) == "suspect"


@pytest.mark.parametrize(("stop", "verdict"), [("end", "unchecked"), ("over", "unchecked"), ("length", "bad")])
def test_without_an_aligner_the_end_is_judged(stop: Any, verdict: str) -> None:
    samples = np.random.default_rng(0).standard_normal(RATE).astype(np.float32) * 0.1
    check = unchecked_speech("Yes, of course.", (3, 18), samples, RATE, stop=stop)
    assert check.verdict == verdict
    assert all((one.text_start, one.text_end) == (3, 18) for one in check.findings)


def test_without_an_aligner_silence_is_bad_and_the_score_ranks() -> None:
    samples = np.random.default_rng(0).standard_normal(2 * RATE).astype(np.float32) * 0.1
    silent = unchecked_speech("Yes.", (0, 4), np.zeros(RATE, np.float32), RATE)
    nothing = unchecked_speech("Yes.", (0, 4), np.zeros(0, np.float32), RATE)
    good = unchecked_speech("Yes, of course I do.", (0, 20), samples, RATE)
    assert silent.verdict == nothing.verdict == "bad"
    assert good.score < SCORE_BAND < 2 * SCORE_BAND <= silent.score
