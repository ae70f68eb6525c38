"""Loudness: what EBU's signals must measure, what FFmpeg measures, and that pieces change nothing."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from book_output import RATE, babble
from voxtral.book.output.loudness import LoudnessMeter, gain_to
from voxtral.errors import AudioError, OptionError


def measure(samples: np.ndarray, rate: int = RATE) -> float:
    meter = LoudnessMeter(rate)
    meter.push(samples)
    return meter.integrated_lufs()


def tone(level_db: float, seconds: float, rate: int = RATE, pitch: float = 1000.0) -> np.ndarray:
    """Make a tone whose loudness in one channel is the level: in stereo both add to 3 dB more."""
    wave = math.sqrt(2.0) * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)
    return (10.0 ** (level_db / 20.0) * wave).astype(np.float32)


# EBU Tech 3341, table 1, cases 1 to 5: levels in dBFS for so many seconds each, and what is measured.
@pytest.mark.parametrize("rate", [24000, 48000])
@pytest.mark.parametrize(
    ("levels", "wanted"),
    [
        ([(-23, 20)], -23.0),
        ([(-33, 20)], -33.0),
        ([(-36, 10), (-23, 60), (-36, 10)], -23.0),
        ([(-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)], -23.0),
        ([(-26, 20), (-20, 20.1), (-26, 20)], -23.0),
    ],
)
def test_reference_signals(levels: list[tuple[float, float]], wanted: float, rate: int) -> None:
    samples = np.concatenate([tone(level, seconds, rate) for level, seconds in levels])
    assert measure(samples, rate) == pytest.approx(wanted, abs=0.1)


def by_ffmpeg(samples: np.ndarray) -> tuple[float, float]:
    """Measure loudness and true peak in dB with FFmpeg's filter."""
    av = pytest.importorskip("av")
    pytest.importorskip("av.filter")
    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=RATE, format="flt", layout="mono", time_base=f"1/{RATE}")
    meter = graph.add("ebur128", "peak=true:metadata=1:framelog=quiet")
    sink = graph.add("abuffersink")
    source.link_to(meter)
    meter.link_to(sink)
    graph.configure()
    frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="flt", layout="mono")
    frame.sample_rate, frame.pts = RATE, 0
    graph.push(frame)
    graph.push(None)
    found = {}
    while True:
        try:
            found = graph.pull().metadata
        except (av.error.EOFError, av.error.BlockingIOError):
            return float(found["lavfi.r128.I"]), 20 * math.log10(float(found["lavfi.r128.true_peaks_ch0"]))


@pytest.mark.parametrize("pitch", [60.0, 200.0, 3000.0, 9000.0])
def test_tones_as_ffmpeg_measures_them(pitch: float) -> None:
    samples = tone(-20.0, 5.0, pitch=pitch)
    assert measure(samples) == pytest.approx(by_ffmpeg(samples)[0], abs=0.02)


def test_speech_with_pauses_as_ffmpeg_measures_it() -> None:
    loud, quiet = babble(6 * RATE, 1, 0.8), babble(5 * RATE, 2, 0.02)
    samples = np.concatenate([loud, np.zeros(3 * RATE, dtype=np.float32), quiet, loud * 0.3])
    assert measure(samples) == pytest.approx(by_ffmpeg(samples)[0], abs=0.05)


@given(cuts=st.lists(st.integers(0, 5 * RATE), max_size=8))
def test_pieces_change_nothing(cuts: list[int]) -> None:
    samples = babble(5 * RATE, 3)
    meter = LoudnessMeter(RATE)
    for piece in np.split(samples, sorted(cuts)):
        meter.push(piece)
        meter.integrated_lufs()
    assert meter.integrated_lufs() == measure(samples)


def test_silence_and_too_little_have_no_loudness_and_get_no_gain() -> None:
    assert measure(np.zeros(RATE, dtype=np.float32)) == -math.inf
    assert measure(tone(-20.0, 0.3)) == -math.inf
    assert LoudnessMeter(RATE).integrated_lufs() == -math.inf
    assert gain_to(-math.inf) == 1.0


def test_gain_brings_speech_to_the_target_but_never_lifts_noise() -> None:
    samples = babble(4 * RATE, 4, 0.1)
    assert measure(samples * np.float32(gain_to(measure(samples), -19.0))) == pytest.approx(-19.0, abs=0.01)
    assert gain_to(-69.0, -19.0) == pytest.approx(10**1.5)


def test_memory_stays() -> None:
    meter = LoudnessMeter(RATE)
    block = babble(10 * RATE, 5)
    tracemalloc.start()
    meter.push(block)
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(30):
        meter.push(block)
    assert tracemalloc.get_traced_memory()[0] - before < 10_000
    tracemalloc.stop()


def test_what_is_refused() -> None:
    with pytest.raises(OptionError, match="multiple of ten"):
        LoudnessMeter(11025)
    with pytest.raises(AudioError):
        LoudnessMeter(RATE).push(np.array([np.nan], dtype=np.float32))
