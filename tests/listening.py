"""OpenAI's client, and what clients make of a body: events, decoded samples, and how far those agree with others."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
import openai

from serving import Serving
from voxtral.audio.pcm import from_int16, to_int16
from voxtral.audio.read import read_audio

RATE = 24000

FORMATS = ("mp3", "opus", "aac", "flac", "wav", "pcm")
STREAM_FORMATS = ("audio", "sse")


@dataclass(frozen=True)
class Codec:
    """What a lossy stream does to a signal at 24 kHz.

    Attributes:
        frame: samples of one frame.
        delay: samples before the signal that a stream cannot tell a player to skip.
    """

    frame: int
    delay: int


# Source: ISO 13818-3 (mp3), with the delays of LAME (576) and of a decoder (529); ISO 14496-3 (aac), whose encoder
# looks one block ahead; RFC 7845 (opus), whose header and last page name delay and end.
LOSSY = {"mp3": Codec(frame=576, delay=1105), "aac": Codec(frame=1024, delay=1024), "opus": Codec(frame=480, delay=0)}


@contextmanager
def openai_client(server: Serving, **options: Any) -> Iterator[openai.OpenAI]:
    """Open the real client, which tries only once unless told otherwise."""
    settings = {"api_key": "any", "max_retries": 0, "base_url": f"{server.url}/v1"}
    with openai.OpenAI(**(settings | options)) as client:
        yield client


def decode(data: bytes, format: str) -> np.ndarray:
    """Decode a whole body to float32 samples at 24 kHz."""
    return from_int16(np.frombuffer(data, dtype="<i2")) if format == "pcm" else read_audio(data, sample_rate=RATE)


def num_playable(data: bytes, format: str) -> int:
    """Count the samples that a player can make of the beginning of a stream."""
    if format == "pcm":
        return len(data) // 2
    try:
        # So little of ADTS is not recognised.
        with av.open(io.BytesIO(data), format="aac" if format == "aac" else None) as file:
            return sum(frame.samples for frame in file.decode(audio=0))
    except av.FFmpegError:
        return 0  # nothing yet, or a part of the headers


def check_samples(data: bytes, format: str, samples: np.ndarray) -> None:
    """Fail unless a body is the encoding of these samples: exact to 16 bits, or as close as a lossy format comes."""
    decoded = decode(data, format)
    if format not in LOSSY:
        assert np.array_equal(decoded, from_int16(to_int16(samples)))
        return
    codec = LOSSY[format]
    correlation, delay = best_match(samples, decoded)
    assert delay == codec.delay
    assert abs(len(decoded) - delay - len(samples)) <= codec.frame
    assert correlation >= 0.95


def best_match(samples: np.ndarray, decoded: np.ndarray, max_delay: int = 4800) -> tuple[float, int]:
    """Find the delay at which a decoded signal fits best: the correlation there, and the delay in samples."""
    size = 1 << (len(samples) + len(decoded)).bit_length()
    products = np.fft.irfft(np.fft.rfft(decoded, size) * np.conj(np.fft.rfft(samples, size)), size)
    delay = int(np.argmax(products[:max_delay]))
    length = min(len(samples), len(decoded) - delay)
    return float(np.corrcoef(samples[:length], decoded[delay : delay + length])[0, 1]), delay


def events_of(body: bytes) -> list[dict[str, Any]]:
    """Read the events of a body; one that is not whole does not count."""
    *whole, _ = body.decode().split("\n\n")
    events = []
    for event in whole:
        name, data = event.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        # Clients look for the type in either place.
        assert name == f"event: {events[-1]['type']}"
    return events


def audio_of(body: bytes, stream_format: str) -> bytes:
    """Take the encoded audio out of a body."""
    if stream_format == "audio":
        return body
    deltas = [event["audio"] for event in events_of(body) if event["type"] == "speech.audio.delta"]
    return b"".join(base64.b64decode(delta) for delta in deltas)


def pitch_ratio(before: np.ndarray, after: np.ndarray, speed: float) -> float:
    """Measure how a change of speed moved the pitch: the median, over all voiced moments, of F0 after by F0 before.

    Moments are compared with themselves, because the pitch of speech moves, and a median over other moments with it.
    """
    last = min(len(before), len(after) * speed) - 2 * _WINDOW * max(1.0, speed)
    starts = np.arange(0, last, _HOP)
    f0_before, strength_before = _pitch(before, starts)
    f0_after, strength_after = _pitch(after, starts / speed)
    is_voiced = np.minimum(strength_before, strength_after) > 0.5
    assert is_voiced.sum() >= 20, "too little voice to measure"
    return float(np.median(f0_after[is_voiced] / f0_before[is_voiced]))


# 50 ms every 10 ms; voices from 60 to 400 Hz, which the lowest harmonics tell best.
_WINDOW, _HOP = 1200, 240
_SHORTEST, _LONGEST = RATE // 400, RATE // 60
_HIGHEST_HZ = 800


def _pitch(samples: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Measure F0 in Hz of windows by autocorrelation, and how periodic each is: 1 for a steady tone."""
    spectrum = np.fft.rfft(samples.astype(np.float64))
    spectrum[np.fft.rfftfreq(len(samples), 1 / RATE) > _HIGHEST_HZ] = 0
    low = np.fft.irfft(spectrum, len(samples))
    windows = np.stack([low[start : start + _WINDOW] for start in np.round(starts).astype(int)])
    windows -= windows.mean(axis=1, keepdims=True)
    products = np.fft.irfft(np.abs(np.fft.rfft(windows, 4 * _WINDOW)) ** 2)[:, : _LONGEST + 1]
    # What a window has in common with itself later becomes less with the delay.
    strength = products / (products[:, :1] * (1 - np.arange(_LONGEST + 1) / _WINDOW) + 1e-12)
    lags = _SHORTEST + np.argmax(strength[:, _SHORTEST:_LONGEST], axis=1)
    f0 = [RATE / _peak(row, lag) for row, lag in zip(strength, lags, strict=True)]
    return np.array(f0), strength[np.arange(len(lags)), lags]


def _peak(values: np.ndarray, index: int) -> float:
    """Place a peak between samples, by a parabola through it and its neighbours."""
    before, at, after = values[index - 1 : index + 2]
    return index + 0.5 * (before - after) / (before - 2 * at + after - 1e-12)
