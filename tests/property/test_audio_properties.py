"""Rules of the audio layer that hold for every input: round trips, and that cutting changes nothing."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from voxtral.audio.encode import encode, open_encoder
from voxtral.audio.measure import is_silent
from voxtral.audio.pcm import from_int16, to_int16
from voxtral.audio.read import AudioLimits, read_audio
from voxtral.audio.stretch import TimeStretcher
from voxtral.errors import ReferenceAudioError

RATE = 16000
QUICK = settings(max_examples=30, deadline=None)

signals = hnp.arrays(np.float32, st.integers(0, 400), elements=st.floats(-1.5, 1.5, width=32))
integers = hnp.arrays(np.int16, st.integers(1, 400))


@st.composite
def voices(draw: st.DrawFn) -> np.ndarray:
    """A second or less of harmonics, noise or silence: long enough for every stage to run many times."""
    length = draw(st.integers(0, RATE))
    seed = draw(st.integers(0, 2**16))
    pitch = draw(st.floats(60, 400))
    noise = draw(st.sampled_from([0.0, 0.01, 0.3]))
    level = draw(st.sampled_from([0.0, 0.3]))
    phase = 2 * np.pi * pitch * np.arange(length) / RATE
    samples = level * (np.sin(phase) + 0.5 * np.sin(2 * phase + 1))
    samples += noise * np.random.default_rng(seed).standard_normal(length)
    return samples.astype(np.float32)


@st.composite
def cuts(draw: st.DrawFn) -> list[int]:
    """Piece lengths, zero included, to be repeated until a signal is used up."""
    return [*draw(st.lists(st.integers(0, 3000), max_size=8)), draw(st.integers(50, 3000))]


def pieces(samples: np.ndarray, lengths: list[int]) -> list[np.ndarray]:
    result = []
    start = index = 0
    while start < len(samples):
        length = lengths[index % len(lengths)]
        result.append(samples[start : start + length])
        start += length
        index += 1
    return result


@given(integers)
def test_integers_come_back_within_one_step(values):
    back = to_int16(from_int16(values)).astype(int)
    assert np.abs(back - values).max() <= 1
    assert (np.abs(back) <= np.abs(values.astype(int))).all()


@given(signals)
def test_samples_come_back_within_one_step(samples):
    clipped = np.clip(samples, -1, 1)
    assert np.abs(from_int16(to_int16(samples)) - clipped).max(initial=0) <= 1.5 / 32768


@given(signals)
def test_conversion_keeps_the_order(samples):
    assert (np.diff(to_int16(np.sort(samples)).astype(int)) >= 0).all()


@QUICK
@given(integers, st.sampled_from(["WAV", "FLAC", "AIFF"]))
def test_16_bit_files_are_read_exactly(values, format):
    file = io.BytesIO()
    soundfile.write(file, values, RATE, format=format, subtype="PCM_16")
    assert np.array_equal(read_audio(file.getvalue(), sample_rate=RATE), values.astype(np.float32) / 32768)


@QUICK
@given(voices(), cuts(), st.sampled_from(["wav", "flac", "pcm"]))
def test_lossless_streams_do_not_depend_on_cuts(samples, lengths, format):
    if not len(samples):
        return
    encoder = open_encoder(format, RATE)
    data = b"".join([*(encoder.write(piece) for piece in pieces(samples, lengths)), encoder.finish()])
    expected = from_int16(to_int16(samples))
    decoded = from_int16(np.frombuffer(data, "<i2")) if format == "pcm" else read_audio(data, sample_rate=RATE)
    assert np.array_equal(decoded, expected)


@QUICK
@given(voices(), cuts(), st.sampled_from(["opus", "mp3"]))
def test_lossy_streams_do_not_depend_on_cuts(samples, lengths, format):
    if not len(samples):
        return
    encoder = open_encoder(format, RATE)
    data = b"".join([*(encoder.write(piece) for piece in pieces(samples, lengths)), encoder.finish()])
    whole = open_encoder(format, RATE)
    expected = read_audio(whole.write(samples) + whole.finish(), sample_rate=RATE)
    assert np.array_equal(read_audio(data, sample_rate=RATE), expected)


@QUICK
@given(voices(), cuts(), st.sampled_from(["opus", "ogg"]))
def test_ogg_streams_keep_their_length(samples, lengths, format):
    if not len(samples):
        return
    encoder = open_encoder(format, RATE)
    data = b"".join([*(encoder.write(piece) for piece in pieces(samples, lengths)), encoder.finish()])
    assert len(read_audio(data, sample_rate=RATE)) == len(samples)


@QUICK
@given(voices(), st.sampled_from(["wav", "flac", "mp3", "opus", "ogg"]))
def test_whole_files_keep_their_length(samples, format):
    if len(samples):
        assert len(read_audio(encode(samples, format, RATE), sample_rate=RATE)) == len(samples)


@QUICK
@given(voices(), cuts(), st.floats(0.25, 4.0))
def test_stretching_does_not_depend_on_cuts(samples, lengths, speed):
    whole = TimeStretcher(speed, RATE)
    expected = np.concatenate([whole.push(samples), whole.finish()])
    cut = TimeStretcher(speed, RATE)
    output = np.concatenate([*(cut.push(piece) for piece in pieces(samples, lengths)), cut.finish()])
    assert np.array_equal(output, expected)
    assert abs(len(output) - len(samples) / speed) <= 0.5
    # A cross-fade is a weighted mean, so nothing gets louder than the loudest sample.
    assert np.abs(output).max(initial=0) <= np.abs(samples).max(initial=0) * (1 + 1e-6)


@given(hnp.arrays(np.float32, st.integers(1, 500), elements=st.floats(-1, 1, width=32)))
def test_what_never_reaches_the_threshold_is_silent(samples):
    # -60 dB is an amplitude of 0.001.
    assert is_silent(np.clip(samples, -0.0009, 0.0009), RATE)
    assert not is_silent(np.concatenate((samples, np.full(RATE // 10, 0.01, dtype=np.float32))), RATE)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 2000),
    st.integers(1, 3),
    st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000]),
    st.sampled_from([16000, 24000]),
)
def test_any_file_equals_decoding_averaging_and_resampling(length, channels, rate, wanted):
    samples = np.random.default_rng(length).uniform(-1, 1, (length, channels)).astype(np.float32)
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="FLOAT")
    mono = samples.mean(axis=1)
    expected = soxr.resample(mono, rate, wanted, quality="HQ") if rate != wanted else mono
    if not len(expected):
        with pytest.raises(ReferenceAudioError, match="shorter than one sample"):
            read_audio(file.getvalue(), sample_rate=wanted)
        return
    assert np.allclose(read_audio(file.getvalue(), sample_rate=wanted), expected, atol=1e-6)


TEMPLATES = ("wav", "flac", "ogg", "opus")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_damaged_files_are_read_or_refused_and_nothing_else(data):
    base = _template(data.draw(st.sampled_from(TEMPLATES)))
    damaged = bytearray(base)
    for _ in range(data.draw(st.integers(1, 6))):
        position = data.draw(st.integers(0, data.draw(st.sampled_from([63, len(base) - 1]))))
        damaged[position] = data.draw(st.integers(0, 255))
    damaged = damaged[: data.draw(st.integers(1, len(base)))]
    limits = AudioLimits(max_seconds=2.0)
    try:
        samples = read_audio(bytes(damaged), sample_rate=RATE, limits=limits)
    except ReferenceAudioError:
        return
    assert samples.dtype == np.float32
    assert np.isfinite(samples).all()
    assert 0 < len(samples) <= 2 * RATE + 1


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_and_nothing_else(data):
    try:
        samples = read_audio(data, sample_rate=RATE)
    except ReferenceAudioError:
        return
    assert len(samples)


def _template(format: str) -> bytes:
    time = np.arange(RATE // 4) / RATE
    return encode((0.3 * np.sin(2 * np.pi * 200 * time)).astype(np.float32), format, RATE)
