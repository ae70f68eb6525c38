"""Sounds in which nobody speaks: silence, offsets, tones, noises, clicks and bytes of other things."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

RATE = 24000

Make = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def _coloured(power: float) -> Make:
    """Noise whose amplitude falls with that power of the frequency."""

    def make(time: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        spectrum = np.fft.rfft(draw.standard_normal(len(time)))
        noise = np.fft.irfft(spectrum / (np.arange(len(spectrum)) + 1.0) ** power, len(time))
        return 0.3 * noise / np.abs(noise).max()

    return make


def _tone(hz: float) -> Make:
    return lambda time, draw: 0.3 * np.sin(2 * np.pi * hz * draw.uniform(0.9, 1.1) * time)


def _clicks(time: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    samples = np.zeros(len(time))
    samples[draw.integers(0, len(time), 1 + len(time) // 2000)] = 0.8
    return samples


def _sweep(time: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * (100 * time + draw.uniform(50, 400) * time**2))


def _chord(time: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    return 0.1 * sum((np.sin(2 * np.pi * hz * time) for hz in draw.uniform(100, 800, 3)), np.zeros(len(time)))


VOICELESS: dict[str, Make] = {
    "zeros": lambda time, draw: np.zeros(len(time)),
    "last bit": lambda time, draw: draw.integers(-1, 2, len(time)) / 32768,
    "offset": lambda time, draw: np.full(len(time), draw.uniform(0.01, 0.9)),
    "offset and last bit": lambda time, draw: 0.3 + draw.integers(-1, 2, len(time)) / 32768,
    "rumble": _tone(20),
    "tone": _tone(170),
    "high tone": _tone(2500),
    "tone beyond voices": _tone(6000),
    "tone that swells": lambda time, draw: _tone(170)(time, draw) * (1 + np.sin(2 * np.pi * 4 * time)),
    "vibrato": lambda time, draw: 0.3 * np.sin(2 * np.pi * 300 * time + 20 * np.sin(2 * np.pi * 3 * time)),
    "sweep": _sweep,
    "square": lambda time, draw: 0.3 * np.sign(np.sin(2 * np.pi * draw.uniform(80, 300) * time)),
    "saw": lambda time, draw: 0.3 * (time * draw.uniform(80, 300) % 1 - 0.5),
    "chord": _chord,
    "hum": lambda time, draw: 0.1 * sum((np.sin(2 * np.pi * 50 * k * time) / k for k in range(1, 9)), 0 * time),
    "white noise": _coloured(0.0),
    "pink noise": _coloured(0.5),
    "brown noise": _coloured(1.0),
    "blue noise": _coloured(-0.5),
    "noise that swells": lambda time, draw: _coloured(0.0)(time, draw) * (1 + np.sin(2 * np.pi * 4 * time)),
    "noise that comes and goes": lambda time, draw: _coloured(0.5)(time, draw) * (np.sin(2 * np.pi * 3 * time) > 0),
    "clicks": _clicks,
    "other bytes": lambda time, draw: draw.integers(0, 256, len(time)) / 128 - 1,
}


def voiceless(name: str, seconds: float = 3.0, *, seed: int = 0) -> np.ndarray:
    """Make one of them: [S] float32 at 24 kHz."""
    time = np.arange(round(seconds * RATE)) / RATE
    return VOICELESS[name](time, np.random.default_rng(seed)).astype(np.float32)
