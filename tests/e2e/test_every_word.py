"""Every word is heard, on nano: ends that come early, words and their times, and nothing changed where all is well."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from voxtral import Audio, AudioChunk, SegmentInfo, VoxtralTTS
from voxtral.align.follow import Follower
from voxtral.config import END_AUDIO
from voxtral.engine.following import Decision
from voxtral.engine.options import EngineOptions
from voxtral.model import acoustic

# What an end in the middle has swallowed, what a reader would say, and a seed with which it did.
SWALLOWED = [
    (
        "Hello there, my ... friend, the train leaves at noon today.",
        "Hello there, my friend, the train leaves at noon today.",
        0,
    ),
    ("The U.S. economy grew. The U.K. did not follow it.", "The US economy grew. The UK did not follow it.", 2),
    ("Hello 你好 there, my friend.", "Hello there, my friend.", 1),
    ("The train leaves at noon. It is 12 o'clock.", "The train leaves at noon. It is o'clock.", 0),
    ("Das ist ... nun ja ... nicht so einfach, mein Freund.", "Das ist, nun ja, nicht so einfach, mein Freund.", 0),
]
PATIENCE_S = 20.0
PLAIN = "The train leaves at noon today. It will be late."


@pytest.fixture(scope="module")
def nano() -> Iterator[VoxtralTTS]:
    # One at a time, so that the same bits come whatever was asked before.
    model = VoxtralTTS.from_pretrained("nano", device="cpu", options=EngineOptions(max_batch=1))
    yield model
    model.close()


def words_heard(audio: Audio) -> list[str]:
    return [audio.text[word.text_start : word.text_end] for word in audio.words if word.confidence > 0]


@pytest.mark.parametrize(
    ("text", "twin", "seed"),
    # The first, with an abbreviation and with letters that nano has not are of each kind one.
    [pytest.param(*case, marks=[pytest.mark.slow] * (place > 2)) for place, case in enumerate(SWALLOWED)],
    ids=[text[:20] for text, *_ in SWALLOWED],
)
def test_what_an_early_end_would_swallow_is_said(nano: VoxtralTTS, text: str, twin: str, seed: int) -> None:
    audio = nano.synthesize(text, seed=seed, timestamps=True)
    plain = nano.synthesize(twin, seed=seed)
    assert audio.duration > 0.75 * plain.duration
    last = text.split()[-1]
    assert words_heard(audio)[-1] == last


@pytest.fixture
def ends_early(monkeypatch: pytest.MonkeyPatch) -> Callable[[range], None]:
    """Let the model want to end at some of the frames that it makes from here on, wherever its text is."""

    def at(frames: range) -> None:
        count = itertools.count()
        chosen = acoustic.choose_semantic

        def choose(logits: Tensor, may_end: bool | Tensor, vocab: int) -> Tensor:
            made = chosen(logits, may_end, vocab)
            if next(count) not in frames:
                return made
            return torch.where(torch.as_tensor(may_end), torch.full_like(made, END_AUDIO), made)

        monkeypatch.setattr(acoustic, "choose_semantic", choose)

    return at


def test_an_early_end_is_not_believed(nano: VoxtralTTS, ends_early: Callable[[range], None]) -> None:
    text, *_ = SWALLOWED[0]
    ends_early(range(12, 13))
    audio = nano.synthesize(text, seed=0, timestamps=True)
    assert words_heard(audio)[-1] == "today."


def test_without_keeping_to_the_text_the_end_is_the_models_own(
    nano: VoxtralTTS, ends_early: Callable[[range], None]
) -> None:
    text, *_ = SWALLOWED[0]
    ends_early(range(12, 13))
    audio = nano.synthesize(text, seed=0, keep_to_text=False, timestamps=True)
    assert audio.duration < 2.0
    # What was not heard is listed all the same, without length.
    assert "noon" not in words_heard(audio)
    assert [text[word.text_start : word.text_end] for word in audio.words] == text.split()
    assert audio.words[-1].start_s == audio.words[-1].end_s


def test_where_all_is_well_no_sample_changes(nano: VoxtralTTS) -> None:
    plain = nano.synthesize(PLAIN, seed=3, keep_to_text=False)
    for options in ({}, {"timestamps": True, "verify": "report"}):
        assert np.array_equal(nano.synthesize(PLAIN, seed=3, **options).samples, plain.samples)


def test_each_word_is_there_once_in_order_and_inside_of_its_segment(nano: VoxtralTTS) -> None:
    text = f"{PLAIN} {SWALLOWED[0][0]}"
    audio = nano.synthesize(text, seed=1, timestamps=True, speed=1.5, pause=0.4)
    assert [text[word.text_start : word.text_end] for word in audio.words] == text.split()
    assert all(segment.timing == "attention" for segment in audio.segments)
    starts = [word.start_s for word in audio.words]
    assert starts == sorted(starts)
    for segment in audio.segments:
        for word in segment.words:
            assert segment.start_s - 1e-6 <= word.start_s <= word.end_s <= segment.end_s + 1e-6
            assert segment.text_start <= word.text_start < word.text_end <= segment.text_end


def test_what_is_not_spoken_is_told_of_too(nano: VoxtralTTS) -> None:
    text = "# One <b>two</b>.\n\n***\n\n😀 [Three](http://a.b) 😀"
    audio = nano.synthesize(text, seed=1, timestamps=True, normalize="auto")
    assert [text[word.text_start : word.text_end] for word in audio.words] == text.split()
    assert [text[word.text_start : word.text_end] for word in audio.words if word.start_s < word.end_s] == [
        "One",
        "<b>two</b>.",
        "[Three](http://a.b)",
    ]


def test_a_resumed_part_takes_what_its_first_take_left(nano: VoxtralTTS) -> None:
    text = "😀 A. B. C. <b>D. E.</b> F. G. H. 😀"
    for seed in (0, 1):
        audio = nano.synthesize(text, seed=seed, timestamps=True, normalize="auto")
        told = [text[word.text_start : word.text_end] for word in audio.words]
        assert "".join(told) == "".join(text.split())


def test_a_stream_brings_the_words_that_the_whole_has(nano: VoxtralTTS) -> None:
    text = f"{SWALLOWED[0][0]} It will be late."
    whole = nano.synthesize(text, seed=2, timestamps=True)
    chunks: list[AudioChunk] = []
    with_words = nano.synthesize_stream(text, seed=2, timestamps=True)
    chunks += with_words
    assert np.array_equal(np.concatenate([chunk.samples for chunk in chunks]), whole.samples)
    assert tuple(word for chunk in chunks for word in chunk.words) == whole.words
    assert with_words.handle.segments == whole.segments
    position = 0
    for chunk in chunks:
        assert chunk.start == position
        position += len(chunk)
        # Final by this chunk means that its audio is there, but for the words that an end makes final.
        assert all(word.end_s <= position / whole.sample_rate + 1e-6 for word in chunk.words)


def test_chunks_of_one_size_bring_all_words_too(nano: VoxtralTTS) -> None:
    whole = nano.synthesize("It will be late.", seed=2, timestamps=True)
    for size in (100, 4096):
        chunks = list(nano.synthesize_stream("It will be late.", seed=2, timestamps=True, chunk_size=size))
        assert tuple(word for chunk in chunks for word in chunk.words) == whole.words
        assert all(len(chunk) == size for chunk in chunks[:-1])


def test_what_is_said_by_another_take_is_a_part_of_its_own(nano: VoxtralTTS, monkeypatch: pytest.MonkeyPatch) -> None:
    text, *_ = SWALLOWED[0]
    count, decide = itertools.count(), Follower.decide

    def lose(self: Follower, *, says_end: bool) -> Decision:
        return "lost" if next(count) == 15 else decide(self, says_end=says_end)

    monkeypatch.setattr(Follower, "decide", lose)
    audio = nano.synthesize(text, seed=0, timestamps=True)
    assert len(audio.segments) > 1
    assert audio.finish_reason == "retried"
    assert audio.stats is not None
    assert audio.stats.num_retries == len(audio.segments) - 1
    _check_parts(text, audio.segments)


def _check_parts(text: str, segments: tuple[SegmentInfo, ...]) -> None:
    assert segments[0].text_start == 0
    assert segments[-1].text_end == len(text)
    for before, after in pairwise(segments):
        assert not text[before.text_end : after.text_start].strip()
        assert before.text_end <= after.text_start
        assert before.end_s < after.start_s


def test_speech_begins_before_the_text_is_whole(nano: VoxtralTTS) -> None:
    is_heard = threading.Event()

    def pieces() -> Iterator[str]:
        yield "The train leaves at noon. It "
        # Only what was heard makes the rest come.
        assert is_heard.wait(PATIENCE_S)
        yield "will be late."

    stream = nano.synthesize_stream(pieces(), "en", seed=0, timestamps=True)
    for chunk in stream:
        if len(chunk):
            is_heard.set()
    assert [segment.text_end for segment in stream.handle.segments] == [25, 42]
    assert stream.text == "The train leaves at noon. It will be late."
