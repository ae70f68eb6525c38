"""Speech whose words have times, made by hand: a letter lasts as long as any other."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import replace

import pytest

from voxtral.speech.utterance import SpeechHandle
from voxtral.types import AudioChunk, Finding, SegmentCheck, SegmentInfo, Verdict, WordTime

LETTER_S = 0.06


def words_of(text: str, *, start: int = 0, stop: int | None = None, start_s: float = 0.0) -> tuple[WordTime, ...]:
    """What stands between the spaces of a text, each word as long as it has letters, one after another."""
    words = []
    for found in re.compile(r"\S+").finditer(text, start, len(text) if stop is None else stop):
        end_s = start_s + LETTER_S * len(found.group())
        words.append(WordTime(*found.span(), start_s, end_s, 0.9))
        start_s = end_s
    return tuple(words)


def segment_of(text: str, *, start: int = 0, stop: int | None = None, start_s: float = 0.0) -> SegmentInfo:
    """A part of a text, spoken from `start_s` on."""
    stop = len(text) if stop is None else stop
    words = words_of(text, start=start, stop=stop, start_s=start_s)
    end_s = words[-1].end_s if words else start_s
    return SegmentInfo(start, stop, start_s, end_s, 1, "end", 0, words, "attention")


def check_of(verdict: Verdict = "bad", text_end: int = 5) -> SegmentCheck:
    """A verdict, with a finding where it is not good."""
    findings = () if verdict == "ok" else (Finding("skipped", 0, text_end, 0.0, 0.30001, 1.5),)
    return SegmentCheck(verdict, 0.25, findings, 2)


def give_words(monkeypatch: pytest.MonkeyPatch, text: str, verdict: Verdict | None = None) -> None:
    """Let whatever is spoken from now on be that text, with words: as they get final, and in its segments.

    In a stream a letter lasts LETTER_S; in the segments, which are known at the end, words share their time.
    """
    chunks, segments = SpeechHandle.chunks, SpeechHandle.segments
    assert isinstance(segments, property)
    assert segments.fget is not None
    known = segments.fget

    def chunks_with_words(handle: SpeechHandle, chunk_size: int | None = None) -> Iterator[AudioChunk]:
        return _with_words(chunks(handle, chunk_size), deque(words_of(text)))

    def segments_with_words(handle: SpeechHandle) -> tuple[SegmentInfo, ...]:
        return tuple(_fitted(text, segment, verdict) for segment in known(handle))

    monkeypatch.setattr(SpeechHandle, "chunks", chunks_with_words)
    monkeypatch.setattr(SpeechHandle, "segments", property(segments_with_words))


def _with_words(chunks: Iterator[AudioChunk], pending: deque[WordTime]) -> Iterator[AudioChunk]:
    chunk = next(chunks, None)
    while chunk is not None:
        end_s = (chunk.start + len(chunk)) / chunk.sample_rate
        following = next(chunks, None)
        words = []
        while pending and (following is None or pending[0].end_s <= end_s):
            word = pending.popleft()
            words.append(replace(word, start_s=min(word.start_s, end_s), end_s=min(word.end_s, end_s)))
        yield replace(chunk, words=tuple(words))
        chunk = following


def _fitted(text: str, segment: SegmentInfo, verdict: Verdict | None) -> SegmentInfo:
    spoken = segment_of(text, start=segment.text_start, stop=segment.text_end)
    scale = (segment.end_s - segment.start_s) / max(spoken.end_s, LETTER_S)
    words = tuple(
        replace(word, start_s=segment.start_s + word.start_s * scale, end_s=segment.start_s + word.end_s * scale)
        for word in spoken.words
    )
    check = None if verdict is None else check_of(verdict)
    return replace(segment, words=words, timing="attention", check=check)
