"""What becomes of a clip: refused, or prepared, with a remark for each thing that is wrong with it."""

from __future__ import annotations

import re

import numpy as np
import pytest
import soxr

from spoken_clips import RATE, spoken
from voiceless_clips import VOICELESS, voiceless
from voxtral.audio.condition import active_level
from voxtral.audio.reference import LEVEL_DB, LEVEL_TOLERANCE_DB, PreparedClip, prepare_reference, read_reference
from voxtral.errors import ReferenceAudioError

VOICE = spoken(4.0)


def prepare(samples: np.ndarray, rate: int = RATE, **options: float) -> PreparedClip:
    return prepare_reference(samples.astype(np.float32), rate, sample_rate=RATE, **options)  # pyright: ignore[reportArgumentType]


def noise(length: int, db: float) -> np.ndarray:
    return (np.random.default_rng(0).standard_normal(length) * 10 ** (db / 20)).astype(np.float32)


# Refused.


@pytest.mark.parametrize("name", VOICELESS)
def test_what_holds_no_voice_is_refused(name: str) -> None:
    for seed in range(2):
        with pytest.raises(ReferenceAudioError, match="must hold a voice"):
            prepare(voiceless(name, seed=seed))


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(72000), "is silent"),
        (np.full(72000, 0.25), r"constant offset \(DC\) of 0\.25"),
        (voiceless("tone"), "holds tones"),
        (voiceless("hum"), "holds a steady sound"),
        (voiceless("tone beyond voices"), "nothing from 60 to 4000 Hz"),
        (VOICE * 32768, "as floats, whose full scale is 1.*32768"),
        (VOICE[:12000], r"0\.50 s long; it must be 1 to 600 s"),
        (np.concatenate([np.zeros(48000), VOICE[:9600], np.zeros(48000)]), r"0\.\d\d s of sound in 4\.40 s"),
        (np.full(72000, np.nan), "NaN"),
        (np.zeros(0), "without a single sample"),
    ],
)
def test_the_message_says_what_the_clip_holds(samples: np.ndarray, message: str) -> None:
    with pytest.raises(ReferenceAudioError, match=message):
        prepare(samples)


# Prepared.


def test_a_clean_clip_has_no_remarks_and_keeps_its_length() -> None:
    prepared = prepare(VOICE)
    assert prepared.remarks == ()
    assert (prepared.start_s, prepared.end_s, prepared.duration_s) == (0.0, 4.0, 4.0)
    assert prepared.samples.dtype == np.float32
    assert prepared.gain_db == 0.0
    assert np.abs(prepared.samples - VOICE)[480:-480].max() < 0.01
    assert np.array_equal(prepared.samples, prepare(VOICE).samples)


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 96000])
def test_a_clip_of_any_rate_is_the_same_clip(rate: int) -> None:
    prepared = prepare(spoken(4.0, rate), rate)
    assert prepared.remarks == ()
    assert len(prepared.samples) == len(VOICE)


@pytest.mark.parametrize("gain_db", [-40, -20, 0, 6])
def test_the_level_does_not_matter(gain_db: float) -> None:
    prepared = prepare(VOICE * 10 ** (gain_db / 20))
    assert active_level(prepared.samples, RATE) == pytest.approx(LEVEL_DB, abs=LEVEL_TOLERANCE_DB + 0.1)
    assert np.abs(prepared.samples).max() <= 0.98
    exact = prepare(VOICE * 10 ** (gain_db / 20), tolerance_db=0.0)
    assert active_level(exact.samples, RATE) == pytest.approx(LEVEL_DB, abs=0.5)
    assert len(prepared.remarks) == (gain_db == -40)


def test_a_wanted_level_stops_at_the_peak() -> None:
    assert np.abs(prepare(VOICE, level_db=0.0).samples).max() == pytest.approx(0.98, abs=0.001)


@pytest.mark.parametrize(
    ("samples", "remark"),
    [
        (VOICE * 10**-2.4, r"very quiet \(-6\d dB"),
        (np.clip(10 * VOICE, -1, 1), "is clipped"),
        (np.minimum(VOICE, 0.1), "is clipped"),
        (soxr.resample(np.clip(VOICE, -0.1, 0.1), RATE, 22050), "is clipped"),
        (VOICE + noise(len(VOICE), -22.0), r"noise in the clip is only 1\d dB below"),
        (VOICE + voiceless("high tone", 4.0), "noise in the clip is only"),
        (
            np.concatenate([voiceless("white noise", 26.0), VOICE[:24000]]),
            r"only 1\.0 s of the clip sound like.*\(\d % of",
        ),
        (VOICE[: 11 * 4800 + 1800], "ends within a word.*all was used"),
        (spoken(8.0)[: 27 * 4800 + 1800], r"ends within a word.*; 0\.0 to [45]\.\d s of 5\.5 s were used"),
        (spoken(1.6), r"1\.60 s long; 3 s and more"),
        (np.concatenate([VOICE[:28800], np.zeros(72000)]), r"1\.\d\d s of sound in 4\.20 s"),
    ],
)
def test_what_is_wrong_is_said(samples: np.ndarray, remark: str) -> None:
    prepared = prepare(samples)
    assert any(re.search(remark, one) for one in prepared.remarks), prepared.remarks
    assert len({one.split(";")[0] for one in prepared.remarks}) == len(prepared.remarks)


def test_an_offset_and_rumble_are_removed() -> None:
    time = np.arange(len(VOICE)) / RATE
    prepared = prepare(VOICE * 0.5 + 0.3 + 0.05 * np.sin(2 * np.pi * 25 * time))
    difference = prepared.samples - prepare(VOICE * 0.5).samples
    assert active_level(difference[2400:-2400], RATE) < LEVEL_DB - 30
    assert abs(prepared.samples.mean()) < 1e-4


def test_silence_around_the_voice_is_left_out_and_is_no_remark() -> None:
    silence = noise(48000, -90.0)
    prepared = prepare(np.concatenate([silence, VOICE, silence]))
    assert prepared.remarks == ()
    assert prepared.start_s == pytest.approx(1.9, abs=0.1)
    assert prepared.end_s == pytest.approx(6.25, abs=0.1)


# Long clips.


def test_the_clearest_stretch_of_a_long_clip_is_used_and_said() -> None:
    worse = spoken(40.0, seed=1) * 0.5 + noise(40 * RATE, -32.0)
    prepared = prepare(np.concatenate([worse, noise(RATE, -80.0), spoken(33.0, seed=2), worse]), max_s=16.0)
    assert 40.8 <= prepared.start_s < prepared.end_s <= 74.3
    assert 14.0 <= prepared.duration_s <= 16.0
    span = f"{prepared.start_s:.1f} to {prepared.end_s:.1f} s"
    assert len(prepared.remarks) == 1
    assert prepared.remarks[0].startswith(f"the clip is 114.0 s long and at most 16 s are used: those from {span}")


def test_a_stretch_begins_and_ends_on_a_pause() -> None:
    pieces = [np.concatenate([spoken(4.3, seed=seed), noise(14400, -85.0)]) for seed in range(9)]
    clip = np.concatenate(pieces)
    prepared = prepare(clip)
    for place in (prepared.start_s, prepared.end_s):
        assert (place % 4.9 < 0.01) or (place % 4.9 >= 4.2)
    assert prepared.duration_s > 23


def test_a_voice_between_long_tones_and_noises_is_found() -> None:
    clip = np.concatenate([voiceless("chord", 60.0), spoken(12.0), voiceless("white noise", 60.0)])
    prepared = prepare(clip, max_s=16.0)
    assert prepared.start_s < 62
    assert prepared.end_s > 70


def test_a_clip_may_not_be_longer_than_allowed() -> None:
    with pytest.raises(ReferenceAudioError, match=r"4\.00 s long; it must be 1 to 3 s.*never cut silently"):
        prepare(VOICE, max_clip_s=3.0)


# Channels.


@pytest.mark.parametrize("other", [-1.0, -0.8])
def test_channels_that_cancel_are_not_mixed(other: float) -> None:
    prepared = read_reference((np.stack([VOICE, other * VOICE], 1), RATE), sample_rate=RATE)
    assert len(prepared.remarks) == 1
    assert "cancel each other" in prepared.remarks[0]
    assert np.array_equal(prepared.samples, prepare(VOICE).samples)


@pytest.mark.parametrize("channels", [(1.0, 1.0), (1.0, 0.0), (0.0, 0.4), (1.0, -0.3)])
def test_channels_that_do_not_cancel_are_mixed(channels: tuple[float, float]) -> None:
    stereo = np.stack([gain * VOICE for gain in channels], 1)
    assert read_reference((stereo, RATE), sample_rate=RATE).remarks == ()


def test_channels_that_cancel_in_a_part_of_the_clip_are_not_mixed_either() -> None:
    second = np.where(np.arange(len(VOICE)) < len(VOICE) // 2, VOICE, -VOICE)
    (remark,) = read_reference((np.stack([VOICE, second], 1), RATE), sample_rate=RATE).remarks
    assert "cancel each other" in remark
