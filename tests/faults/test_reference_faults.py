"""Clips by chance: all are prepared, with what is wrong said, or refused; never a crash, never a silent voice.

A clip is a voice or a sound in which nobody speaks, changed in up to four ways, in any form that clips come in.
"""

from __future__ import annotations

import io
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from spoken_clips import RATE, spoken
from voiceless_clips import VOICELESS, voiceless
from voxtral.audio.condition import active_level
from voxtral.audio.reference import MAX_REFERENCE_S, MIN_REFERENCE_S, PreparedClip, read_reference
from voxtral.errors import ReferenceAudioError

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def _silence_around(samples: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    before, after = (np.zeros(int(draw.integers(0, 3 * RATE)), np.float32) for _ in range(2))
    return np.concatenate([before, samples, after])


def _dropouts(samples: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    samples = samples.copy()
    for place in draw.integers(0, len(samples), 5):
        samples[place : place + int(draw.integers(10, 3000))] = 0
    return samples


def _cut(samples: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    return samples[int(draw.integers(0, len(samples) // 2)) :]


# What leaves a voice one, and what is no voice none.
HARMLESS: dict[str, Change] = {
    "gain": lambda samples, draw: samples * 10 ** draw.uniform(-2, 0.5),
    "offset": lambda samples, draw: samples + draw.uniform(-0.5, 0.5),
    "silence around": _silence_around,
    "dropouts": _dropouts,
    "cut": _cut,
    "backwards": lambda samples, draw: samples[::-1],
    "inverted": lambda samples, draw: -samples,
    "twice": lambda samples, draw: np.concatenate([samples, samples]),
    "8 bits": lambda samples, draw: np.round(samples * 128) / 128,
    "hiss": lambda samples, draw: samples + draw.standard_normal(len(samples)) * 10 ** draw.uniform(-4, -1.5),
    "telephone": lambda samples, draw: soxr.resample(soxr.resample(samples, RATE, 8000), 8000, RATE),
}

# After these something must be said, if a clip is not refused.
HARMFUL: dict[str, Change] = {
    "very quiet": lambda samples, draw: samples * 10 ** draw.uniform(-2.2, -2.0) / max(1e-9, np.abs(samples).max()),
    "clipped": lambda samples, draw: np.clip(samples * 30 / max(1e-9, np.abs(samples).max()), -1, 1),
    "integers as floats": lambda samples, draw: np.round(samples * 32768),
    "not a number": lambda samples, draw: np.where(np.arange(len(samples)) == len(samples) // 2, np.nan, samples),
    "under noise": lambda samples, draw: samples + draw.standard_normal(len(samples)) * np.std(samples),
    "under a tone": lambda samples, draw: samples + np.abs(samples).max() * np.sin(np.arange(len(samples)) * 0.3),
    "a click long": lambda samples, draw: samples[:1200],
}


def _as_array(samples: np.ndarray, draw: np.random.Generator) -> Any:
    kind = draw.choice(["<f4", "<f8", "<i2", "<i4", "u1"])
    clipped = np.nan_to_num(np.clip(samples, -1, 1))
    match kind:
        case "<i2":
            return (clipped * 32767).astype(kind), RATE
        case "<i4":
            return (clipped * 2147483000).astype(kind), RATE
        case "u1":
            return (clipped * 127 + 128).astype(kind), RATE
        case _:
            return samples.astype(kind), RATE


def _as_file(samples: np.ndarray, draw: np.random.Generator) -> Any:
    rate = int(draw.choice([8000, 16000, 24000, 44100]))
    container, subtype = draw.choice(
        [("WAV", "FLOAT"), ("WAV", "PCM_16"), ("AIFF", "PCM_24"), ("FLAC", "PCM_16"), ("OGG", "VORBIS")]
    )
    file = io.BytesIO()
    channels = int(draw.integers(1, 3))
    resampled = np.nan_to_num(soxr.resample(np.nan_to_num(samples), RATE, rate))
    soundfile.write(file, np.repeat(resampled[:, None], channels, 1), rate, format=str(container), subtype=str(subtype))
    return file.getvalue()


def _make(chance: random.Random) -> tuple[str, Any, bool, bool]:
    """Make a clip; tell what it is, whether it has no voice, and whether it is harmed."""
    draw = np.random.default_rng(chance.getrandbits(32))
    name = chance.choice(["voice"] * 2 * len(VOICELESS) + list(VOICELESS))
    seconds = chance.uniform(1.2, 2.4)
    if name == "voice":
        samples = spoken(seconds, hz=draw.uniform(90, 240), seed=int(draw.integers(1000)))
    else:
        samples = voiceless(name, seconds, seed=int(draw.integers(1000)))
    changes = chance.choices(list(HARMLESS), k=chance.randint(0, 3))
    harm = chance.choice(list(HARMFUL)) if chance.random() < 0.3 else None
    for change in changes:
        samples = HARMLESS[change](samples, draw).astype(np.float32)
    if harm is not None:
        samples = HARMFUL[harm](samples, draw).astype(np.float32)
    clip = chance.choice([_as_array, _as_file])(samples, draw)
    # As integers a clip is clipped or has no NaN any more, so that nothing may be left to say.
    survives = harm not in ("integers as floats", "not a number") or (
        isinstance(clip, tuple) and clip[0].dtype.kind == "f"
    )
    if isinstance(clip, bytes) and chance.random() < 0.2:
        data = bytearray(clip)
        for _ in range(chance.randint(1, 6)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        clip, survives = bytes(data), False
    return f"{name} {changes} {harm}", clip, name != "voice", harm is not None and survives


def _check(prepared: PreparedClip, what: str) -> None:
    samples = prepared.samples
    assert samples.dtype == np.float32
    assert np.isfinite(samples).all(), what
    assert np.abs(samples).max() <= 0.981, what
    assert MIN_REFERENCE_S - 0.001 <= len(samples) / RATE <= MAX_REFERENCE_S + 0.001, what
    assert active_level(samples, RATE) > -55, what


@pytest.mark.parametrize("num_clips", [100, pytest.param(5000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_every_clip_is_prepared_or_refused_and_none_is_a_silent_voice(num_clips: int) -> None:
    chance = random.Random(11)
    found: Counter[str] = Counter()
    slowest = 0.0
    for _ in range(num_clips):
        what, clip, is_voiceless, is_harmed = _make(chance)
        began = time.process_time()
        try:
            prepared = read_reference(clip, sample_rate=RATE)
        except ReferenceAudioError:
            found["no voice, refused" if is_voiceless else "voice, refused"] += 1
            continue
        finally:
            slowest = max(slowest, time.process_time() - began)
        _check(prepared, what)
        faults = [remark for remark in prepared.remarks if "clone better" not in remark]
        kind = "no voice" if is_voiceless else "harmed voice" if is_harmed else "voice"
        found[f"{kind}, {'told' if faults else 'taken'}"] += 1
        assert faults or not (is_voiceless or is_harmed), what
    assert found["voice, taken"] > num_clips / 5
    assert found["no voice, refused"] > num_clips / 5
    assert slowest < 5.0
    print(f"{num_clips} clips: {dict(sorted(found.items()))}; slowest {slowest:.2f} s of CPU")
