"""Speed without a change of pitch: length, pitch, level, no clicks, bounded state."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from voxtral.audio.stretch import TimeStretcher
from voxtral.errors import AudioError, OptionError

RATE = 24000


def stretch(samples: np.ndarray, speed: float, rate: int = RATE) -> np.ndarray:
    stretcher = TimeStretcher(speed, rate)
    return np.concatenate([stretcher.push(samples), stretcher.finish()])


def tone(hertz: float, seconds: float, rate: int = RATE) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def glide(start_hz: float, slope_hz_per_s: float, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """A voice-like sum of harmonics whose pitch rises, and its pitch at every sample."""
    pitch = start_hz + slope_hz_per_s * np.arange(int(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    samples = sum(0.2 / k * np.sin(k * phase + k) for k in range(1, 12))
    return np.asarray(samples, dtype=np.float32), pitch


def pitch_of(samples: np.ndarray, near_hz: float) -> float:
    """Estimate the pitch by the highest peak of the autocorrelation within 30 % of a guess."""
    samples = samples.astype(np.float64) - samples.mean()
    correlation = np.correlate(samples, samples, "full")[len(samples) - 1 :] / np.arange(len(samples), 0, -1)
    first, last = int(RATE / near_hz / 1.3), int(RATE / near_hz * 1.3)
    best = first + int(np.argmax(correlation[first:last]))
    before, at, after = correlation[best - 1 : best + 2]
    return RATE / (best + 0.5 * (before - after) / (before - 2 * at + after))


@pytest.mark.parametrize("speed", [0.25, 0.5, 0.8, 1.25, 2.0, 4.0])
@pytest.mark.parametrize("start_hz", [80.0, 220.0])
def test_keeps_the_pitch(speed, start_hz):
    samples, pitch = glide(start_hz, 0.15 * start_hz, 3.0)
    output = stretch(samples, speed)
    window = int(0.08 * RATE)
    for center in np.linspace(0.1, 0.9, 15) * len(output):
        expected = pitch[int(center * speed)]
        found = pitch_of(output[int(center) - window // 2 : int(center) + window // 2], expected)
        # 2 %, the pitch itself moving by up to 1 % within the 10 ms that a piece may be away from its place.
        assert found == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("speed", [0.25, 0.5, 0.77, 1.3, 2.0, 3.1, 4.0])
@pytest.mark.parametrize("num_samples", [1, 100, 288, 5000, 48001])
def test_length(speed, num_samples):
    output = stretch(tone(200, 3)[:num_samples], speed)
    assert abs(len(output) - num_samples / speed) <= 0.5
    assert output.dtype == np.float32


@pytest.mark.parametrize("speed", [0.5, 0.9, 1.1, 2.0, 4.0])
@pytest.mark.parametrize("hertz", [110.0, 441.0, 1234.5])
def test_a_pure_tone_has_no_clicks_and_keeps_its_level(speed, hertz):
    samples = tone(hertz, 1.5)
    output = stretch(samples, speed)
    largest_step = np.abs(np.diff(samples)).max()
    assert np.abs(np.diff(output)).max() <= 1.1 * largest_step
    # 20 ms windows, so that a gap or a bump of one hop would show.
    levels = np.sqrt(np.mean(np.square(output[: len(output) // 480 * 480].reshape(-1, 480)), axis=1))
    assert levels.min() > 0.9 * np.sqrt(np.mean(np.square(samples)))
    assert np.abs(output).max() <= 0.501


def test_speed_one_is_the_input():
    samples = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    assert np.array_equal(stretch(samples, 1.0), samples)


def test_almost_speed_one_is_almost_the_input():
    samples, _ = glide(120.0, 10.0, 1.0)
    output = stretch(samples, 1.0001)
    assert np.allclose(output[:2000], samples[:2000], atol=1e-6)


def test_silence_stays_silent():
    assert not stretch(np.zeros(10_000, dtype=np.float32), 0.7).any()


def test_nothing_in_nothing_out():
    assert len(stretch(np.zeros(0, dtype=np.float32), 2.0)) == 0


@pytest.mark.parametrize("speed", [0.5, 1.0, 4.0])
def test_never_gives_more_than_the_end_could_take_back(speed):
    # At any moment the input may end; what was given by then must not be longer than the whole.
    stretcher = TimeStretcher(speed, RATE)
    given = 0
    for count in range(1, 40):
        given += len(stretcher.push(tone(150, 0.01)))
        assert given <= count * 240 / speed


@pytest.mark.parametrize("speed", [0.5, 2.0])
def test_the_delay_is_below_a_tenth_of_a_second(speed):
    stretcher = TimeStretcher(speed, RATE)
    assert len(stretcher.push(tone(150, 0.1))) > 0


def test_memory_does_not_grow():
    stretcher = TimeStretcher(2.0, RATE)
    second = tone(150, 1.0)
    stretcher.push(second)
    tracemalloc.start()
    try:
        for _ in range(20):
            stretcher.push(second)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 50_000  # 100 ms are 10 kB; 20 s are 2 MB


@pytest.mark.parametrize("speed", [0.0, 0.24, 4.01, -1.0, float("nan"), float("inf"), "fast", None])
def test_refuses_other_speeds(speed):
    with pytest.raises(OptionError, match=r"0\.25 to 4"):
        TimeStretcher(speed, RATE)


def test_refuses_other_rates():
    with pytest.raises(OptionError, match="sample rate"):
        TimeStretcher(2.0, 0)


def test_refuses_bad_samples():
    with pytest.raises(AudioError, match="sample 1 of 2"):
        TimeStretcher(2.0, RATE).push(np.array([0.0, np.nan], dtype=np.float32))


def test_serves_one_stream():
    stretcher = TimeStretcher(2.0, RATE)
    stretcher.finish()
    with pytest.raises(AudioError, match="one stream"):
        stretcher.push(tone(100, 0.1))
    with pytest.raises(AudioError, match="one stream"):
        stretcher.finish()
