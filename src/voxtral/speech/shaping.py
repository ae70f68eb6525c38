"""The shape of a stream of audio: its speed, the size of its chunks, and no clicks where parts meet.

What belongs to a chunk, marks and words, stays with its samples. Knows no text, no engine. Read next:
`voxtral.speech.utterance`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from voxtral.types import AudioChunk, Mark, WordTime

if TYPE_CHECKING:
    from voxtral.types import Samples

_FADE_S = 0.005


def stretch(chunks: Iterator[AudioChunk], speed: float, sample_rate: int) -> Iterator[AudioChunk]:
    """Speak faster or slower. The times of words are those as heard already; marks are moved."""
    if speed == 1.0:
        yield from chunks
        return
    from voxtral.audio.stretch import TimeStretcher

    stretcher = TimeStretcher(speed, sample_rate)
    position = 0
    marks: deque[Mark] = deque()
    words: tuple[WordTime, ...] = ()
    segment = 0
    for chunk in chunks:
        segment = chunk.segment
        marks.extend(replace(mark, start=round(mark.start / speed)) for mark in chunk.marks)
        words += chunk.words
        samples = stretcher.push(chunk.samples)
        if len(samples):
            # The stretcher lags behind: a mark rides with its own sample, not with those it came with.
            due = _take_marks(marks, position + len(samples))
            yield AudioChunk(samples, sample_rate, segment, position, due, words)
            position += len(samples)
            words = ()
    rest = stretcher.finish()
    if len(rest) or words:
        yield AudioChunk(rest, sample_rate, segment, position, tuple(marks), words)


def decay(last_sample: float, seconds: float, sample_rate: int) -> Samples:
    """Make a pause: speech may end off zero, and its last sample decays into it instead of clicking."""
    fade = round(_FADE_S * sample_rate)
    pause = np.zeros(max(round(seconds * sample_rate), fade), dtype=np.float32)
    pause[:fade] = last_sample * (1 - _ramp(fade))
    return pause


def _ramp(length: int) -> Samples:
    return (0.5 - 0.5 * np.cos(np.pi * (np.arange(length) + 0.5) / max(length, 1))).astype(np.float32)


def fade_in(samples: Samples, sample_rate: int) -> Samples:
    """Begin from zero."""
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


def reblock(chunks: Iterator[AudioChunk], size: int) -> Iterator[AudioChunk]:
    """Cut a stream into chunks of exactly `size` samples; the last may be shorter."""
    waiting: deque[AudioChunk] = deque()
    num_waiting = 0
    for chunk in chunks:
        waiting.append(chunk)
        num_waiting += len(chunk)
        while num_waiting >= size:
            yield _take(waiting, size)
            num_waiting -= size
    if waiting:
        yield _take(waiting, num_waiting)


def _take(waiting: deque[AudioChunk], size: int) -> AudioChunk:
    """Join the first `size` samples of what waits."""
    parts: list[AudioChunk] = []
    missing = size
    while missing or (waiting and not len(waiting[0])):
        chunk = waiting.popleft()
        if len(chunk) > missing:
            chunk, rest = _cut(chunk, missing)
            waiting.appendleft(rest)
        parts.append(chunk)
        missing -= len(chunk)
    samples = np.concatenate([part.samples for part in parts])
    marks = tuple(mark for part in parts for mark in part.marks)
    return replace(parts[0], samples=samples, marks=marks, words=tuple(word for part in parts for word in part.words))


def _cut(chunk: AudioChunk, place: int) -> tuple[AudioChunk, AudioChunk]:
    """Cut a chunk in two; each mark stays with its sample, and words, which are final already, come with the first."""
    start = chunk.start + place
    before = tuple(mark for mark in chunk.marks if mark.start < start)
    head = replace(chunk, samples=chunk.samples[:place], marks=before)
    marks = chunk.marks[len(before) :]
    return head, replace(chunk, samples=chunk.samples[place:], start=start, marks=marks, words=())
