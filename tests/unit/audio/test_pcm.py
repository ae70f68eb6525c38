"""16-bit integers: scale, rounding, clipping, refusals."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from voxtral.audio.pcm import check_samples, from_int16, to_alaw, to_int16, to_ulaw
from voxtral.errors import AudioError


def test_full_scale_is_symmetric_and_clipped():
    samples = np.array([0.0, 1.0, -1.0, 1.5, -7.0], dtype=np.float32)
    assert to_int16(samples).tolist() == [0, 32767, -32767, 32767, -32767]


def test_rounds_half_to_even():
    # Halves of a step are exact in float64 / 32767 only by luck, so they are made from the integers.
    halves = np.array([0.5, 1.5, 2.5, -0.5, -1.5], dtype=np.float64) / 32767
    exact = [value for value in halves if np.float32(value) * np.float32(32767) % 0.5 == 0]
    assert len(exact) >= 3
    for value in exact:
        scaled = float(np.float32(value) * np.float32(32767))
        assert to_int16(np.array([value], dtype=np.float32))[0] == round(scaled)  # Python rounds half to even


def test_from_int16_divides_by_32768():
    values = np.array([-32768, -1, 0, 1, 32767], dtype=np.int16)
    assert from_int16(values).tolist() == [-1.0, -1 / 32768, 0.0, 1 / 32768, 32767 / 32768]
    assert from_int16(values).dtype == np.float32


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_names_the_first_sample_that_is_not_finite(bad):
    samples = np.zeros(10, dtype=np.float32)
    samples[[4, 7]] = bad
    with pytest.raises(AudioError, match=r"sample 4 of 10"):
        to_int16(samples)


def test_float64_beyond_float32_is_not_finite():
    with pytest.raises(AudioError, match="sample 0"):
        to_int16(np.array([1e300]))


@pytest.mark.parametrize(
    "samples", [np.zeros((2, 3), dtype=np.float32), np.zeros(3, dtype=np.int16), [0.0, 1.0], np.float32(0.0)]
)
def test_only_rows_of_floats_are_samples(samples):
    with pytest.raises(AudioError, match="mono float32"):
        to_int16(samples)


def test_float32_samples_are_not_copied():
    samples = np.zeros(3, dtype=np.float32)
    assert check_samples(samples) is samples


@pytest.mark.parametrize("samples", [np.zeros(3, dtype=np.float32), [1, 2]])
def test_from_int16_takes_int16_only(samples):
    with pytest.raises(AudioError, match="int16"):
        from_int16(samples)


@pytest.mark.parametrize(("compress", "subtype"), [(to_ulaw, "ULAW"), (to_alaw, "ALAW")])
def test_telephones_hear_every_value_as_near_as_their_steps_are(compress, subtype):
    values = np.arange(-32768, 32768, dtype=np.int32).astype(np.int16)

    def expand(data):
        raw = io.BytesIO(data)
        return soundfile.read(raw, samplerate=8000, channels=1, subtype=subtype, format="RAW", dtype="int16")[0]

    heard = expand(compress(values))
    every = np.unique(expand(bytes(range(256))).astype(np.int32))
    steps = np.diff(every)[np.clip(np.searchsorted(every, heard), 0, len(every) - 2)]
    clipped = np.abs(values.astype(np.int32)) > every[-1]
    assert (np.abs(heard - values.astype(np.int32)) <= np.maximum(steps, 8))[~clipped].all()
    assert (np.diff(heard.astype(np.int32)) >= 0).all()
    assert len(np.unique(heard)) == len(every)
    # What has been through a telephone once goes through unchanged.
    assert np.array_equal(expand(compress(heard)), heard)
