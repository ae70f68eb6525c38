"""Times follow position and sound; a stream gives the words of a finished segment, and nothing twice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtral.align.alignment import Alignment
from voxtral.align.path import find_path
from voxtral.align.times import WordClock, word_times
from voxtral.align.words import WordSpans, spoken_words, verbatim_sources
from voxtral.types import WordTime

RATE, FRAME_RATE, FRAME = 24000, 12.5, 1920
PLAIN = Alignment("0" * 64, ((3, 0),), 6, codec_lag_s=0.0, head_lead_s=0.0)


def _words(text: str) -> WordSpans:
    return spoken_words(text, text, verbatim_sources(0, len(text)), [char.encode() for char in text])


def _looking_at(tokens: list[float], num_tokens: int) -> np.ndarray:
    """Give weights of frames that look at places among tokens, each shared by its two neighbours."""
    weights = np.full((len(tokens), num_tokens), 1e-4)
    for row, place in zip(weights, tokens, strict=True):
        low = min(int(place), num_tokens - 1)
        high = min(low + 1, num_tokens - 1)
        row[low] += 1 - (place - low)
        row[high] += place - low
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _sound(parts: list[tuple[float, bool]]) -> np.ndarray:
    """Give samples: for each part its seconds, and whether it sounds."""
    rng = np.random.default_rng(0)
    return np.concatenate([rng.standard_normal(round(s * RATE)) * (0.1 if on else 1e-5) for s, on in parts]).astype(
        np.float32
    )


def _times(text: str, tokens: list[float], samples: np.ndarray | None, alignment: Alignment = PLAIN) -> list[WordTime]:
    words = _words(text)
    weights = _looking_at(tokens, words.num_tokens)
    path = find_path(weights, alignment.max_step)
    return list(word_times(words, path, weights, samples, RATE, alignment, frame_rate=FRAME_RATE))


def test_a_word_starts_where_the_position_passes_half_a_token_before_it() -> None:
    first, second = _times("ab cd", [0, 1, 2, 3, 4], None)
    # The middle of the third frame is at the space, half of the next frame leads to the c.
    assert second.start_s == pytest.approx(0.08 * 3, abs=1e-4)
    assert (first.start_s, first.end_s) == (0.0, pytest.approx(0.08 * 2, abs=1e-4))
    assert second.end_s == pytest.approx(0.08 * 5)
    assert first.confidence == pytest.approx(1, abs=0.01)


def test_lag_and_lead_make_everything_later() -> None:
    late = Alignment("0" * 64, ((3, 0),), 6, codec_lag_s=0.02, head_lead_s=0.05)
    _, plain = _times("ab cd", [0, 1, 2, 3, 4], None)
    _, shifted = _times("ab cd", [0, 1, 2, 3, 4], None, late)
    assert shifted.start_s - plain.start_s == pytest.approx(0.07)


def test_a_word_ends_before_the_silence_behind_it_and_the_next_begins_with_sound() -> None:
    samples = _sound([(0.13, True), (0.22, False), (0.45, True)])
    first, second = _times("ab, cd", [0, 1, 2, 2, 3, 4, 5, 5, 5, 5], samples)
    assert first.end_s == pytest.approx(0.13, abs=0.006)
    assert second.start_s == pytest.approx(0.35, abs=0.006)
    assert second.end_s == pytest.approx(0.80, abs=0.006)


def test_without_punctuation_no_word_is_moved_to_an_onset() -> None:
    samples = _sound([(0.13, True), (0.15, False), (0.12, True)])
    times = _times("ab cd", [0, 1, 2, 3, 4], samples)
    assert times[1].start_s == pytest.approx(0.24, abs=1e-4)


def test_the_first_word_waits_for_the_first_sound() -> None:
    samples = _sound([(0.40, False), (0.40, True)])
    (word,) = _times("abcd", [0, 0, 0, 0, 0, 1, 2, 3, 3, 3], samples)
    assert word.start_s == pytest.approx(0.40, abs=0.006)


def test_words_that_were_not_heard_have_no_length_and_no_confidence() -> None:
    skipped = _times("ab cdefg hi", [0, 1, 2, 8, 9, 10], None)[1]
    assert (skipped.confidence, skipped.start_s) == (0.0, skipped.end_s)
    times = _times("ab cd ef gh", [0, 1, 2, 3, 4], None)
    assert [time.confidence > 0 for time in times] == [True, True, False, False]
    assert times[2].start_s == times[2].end_s == times[3].end_s == pytest.approx(0.4)


def test_lone_punctuation_stands_at_the_word_it_belongs_to() -> None:
    text = "ab ! « cd »"
    times = _times(text, [float(token) for token in range(11)], None)
    ab, mark, opening, cd, closing = times
    assert mark.start_s == mark.end_s == ab.end_s
    assert opening.start_s == opening.end_s == cd.start_s
    assert closing.start_s == closing.end_s == cd.end_s


def test_what_was_final_stays_where_the_path_goes_back() -> None:
    words = _words("ab cd")
    weights = _looking_at([0, 1, 2, 3, 4], 5)
    clock = WordClock(words, PLAIN, frame_rate=FRAME_RATE, sample_rate=RATE, with_samples=False)
    path = np.arange(5)
    # A word after punctuation, or the start, may wait a quarter of a second for its sound.
    given = [clock.advance(path[:size], weights) for size in (4, 2, 3, 0)]
    assert [len(new) for new in given] == [1, 0, 0, 0]
    assert given[0] + clock.finish(path, weights) == tuple(_times("ab cd", [0, 1, 2, 3, 4], None))
    assert clock.finish(path, weights) == ()


@st.composite
def spoken(draw: st.DrawFn) -> tuple[str, np.ndarray, np.ndarray]:
    """Give a text, weights that go through it with noise, and samples with silences."""
    text = draw(st.text(st.sampled_from(list("abcde  ,.!(")), min_size=1, max_size=40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num_frames = draw(st.integers(1, 50))
    ends = draw(st.floats(0.3, 1.0)) * (len(text) - 1)
    places = np.sort(rng.uniform(0, max(ends, 0.0), num_frames))
    weights = _looking_at(list(places), len(text)).astype(np.float64)
    weights = weights * 0.8 + 0.2 * rng.dirichlet(np.full(len(text), 0.1), num_frames)
    loud = np.repeat(rng.random(4 * num_frames) < 0.7, FRAME // 4)
    samples = rng.standard_normal(num_frames * FRAME) * np.where(loud, 0.1, 1e-5)
    return text, (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32), samples.astype(np.float32)


def _stream(
    words: WordSpans, weights: np.ndarray, samples: np.ndarray, alignment: Alignment, step: int
) -> list[WordTime]:
    """Hear a few frames at a time, with samples that come two frames late."""
    clock = WordClock(words, alignment, frame_rate=FRAME_RATE, sample_rate=RATE)
    given: list[WordTime] = []
    heard = 0
    for first in range(0, len(weights), step):
        stop = max(0, (first - 2) * FRAME)
        clock.add_samples(samples[heard:stop])
        heard = max(heard, stop)
        given += clock.add_frames(weights[first : first + step])
    clock.add_samples(samples[heard:])
    return given + list(clock.end())


@given(spoken(), st.sampled_from([0.0, 0.02, 0.09]), st.integers(1, 8))
def test_a_stream_gives_the_same_words_and_times(
    case: tuple[str, np.ndarray, np.ndarray], lag_s: float, step: int
) -> None:
    text, weights, samples = case
    alignment = Alignment("0" * 64, ((3, 0),), 6, codec_lag_s=lag_s, head_lead_s=0.0)
    words = _words(text)
    whole = _stream(words, weights, samples, alignment, len(weights))
    assert _stream(words, weights, samples, alignment, step) == whole
    path = find_path(weights, alignment.max_step)
    at_once = list(word_times(words, path, weights, samples, RATE, alignment, frame_rate=FRAME_RATE))
    for times in (whole, at_once):
        assert [text[time.text_start : time.text_end] for time in times] == text.split()
        starts = [time.start_s for time in times]
        assert starts == sorted(starts)
        for time in times:
            assert 0 <= time.start_s <= time.end_s <= len(samples) / RATE
            assert 0 <= time.confidence <= 1


def test_where_the_way_is_plain_a_stream_finds_what_the_whole_finds() -> None:
    samples = _sound([(0.13, True), (0.22, False), (0.45, True)])
    words = _words("ab, cd")
    weights = _looking_at([0, 1, 2, 2, 3, 4, 5, 5, 5, 5], 6)
    assert _stream(words, weights, samples, PLAIN, 1) == _times("ab, cd", [0, 1, 2, 2, 3, 4, 5, 5, 5, 5], samples)


def test_a_segment_without_tokens_or_frames_has_its_words_unheard() -> None:
    empty = WordClock(WordSpans((), 0, ()), PLAIN, frame_rate=FRAME_RATE, sample_rate=RATE)
    assert (empty.add_frames(np.zeros((2, 0), dtype=np.float32)), empty.end()) == ((), ())
    unheard = WordClock(_words("ab"), PLAIN, frame_rate=FRAME_RATE, sample_rate=RATE).end()
    assert unheard == (WordTime(0, 2, 0.0, 0.0, 0.0),)
