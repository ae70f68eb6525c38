"""What files claim of their lengths: the truth, nothing yet, and lies. No decoder sees a claim that cannot be true."""

from __future__ import annotations

import io
import struct
import tracemalloc

import numpy as np
import pytest
import soundfile

from hostile_clips import CONTAINERS, RATE, container, recorder_left, true_claim, wav
from voxtral.audio.containers import is_cut_short, recognise, with_length
from voxtral.audio.read import read_audio
from voxtral.errors import ReferenceAudioError

SAMPLES = (8000 * np.sin(np.arange(2400) * 0.05)).astype(np.int16)
WANTED = SAMPLES.astype(np.float32) / 32768


def read(data: bytes) -> np.ndarray:
    return read_audio(data, sample_rate=RATE)


@pytest.mark.parametrize("format", CONTAINERS)
def test_each_container_is_known_and_read_exactly(format: str) -> None:
    data = container(format, SAMPLES)
    assert recognise(data) == format.lower()
    assert with_length(data, format.lower()) == data
    assert np.array_equal(read(data), WANTED)


@pytest.mark.parametrize("format", CONTAINERS)
@pytest.mark.parametrize("claimed", [0, -1, 0x7FFFFFFFFFFFFFFF])
def test_a_length_that_was_never_written_is_what_is_there(format: str, claimed: int) -> None:
    if format == "W64" and claimed == 0:
        assert np.array_equal(read(recorder_left(format, SAMPLES, 24)), WANTED)
    assert np.array_equal(read(recorder_left(format, SAMPLES, claimed)), WANTED)


@pytest.mark.parametrize("format", CONTAINERS)
@pytest.mark.parametrize("more", [1, 1000, 2**28])
def test_samples_that_are_not_there_are_missed_before_anything_is_decoded(format: str, more: int) -> None:
    data = container(format, SAMPLES, true_claim(format, len(SAMPLES)) + more)
    assert is_cut_short(data, format.lower())
    tracemalloc.start()
    with pytest.raises(ReferenceAudioError, match="cut short"):
        read(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize("format", CONTAINERS)
def test_a_file_that_was_cut_is_damaged_at_every_byte(format: str) -> None:
    data = container(format, SAMPLES[:40])
    for size in (*range(len(data) - 81, len(data)), *range(16, 100, 7)):
        with pytest.raises(ReferenceAudioError):
            read(data[:size])


@pytest.mark.parametrize("format", ["CAF", "W64"])
def test_no_part_may_claim_more_than_there_is(format: str) -> None:
    size = struct.pack(">Q", 2**40) if format == "CAF" else b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0O\x8e\xdb\x8a" + bytes(8)
    part = b"info" + size if format == "CAF" else b"list" + size[:12] + struct.pack("<Q", 2**40)
    data = container(format, SAMPLES)
    with pytest.raises(ReferenceAudioError, match="cut short"):
        read(data + part + bytes(40))


def test_empty_samples_with_a_note_behind_them_are_empty() -> None:
    note = b"LIST" + struct.pack("<I", 4) + b"INFO"
    for data in (wav(b"", claimed=0), wav(note, claimed=0)):
        with pytest.raises(ReferenceAudioError, match="without a single sample"):
            read(data)
    # Silence first, as microphones begin, looks like no note.
    assert len(read(wav(bytes(200) + SAMPLES.tobytes(), claimed=0))) == 100 + len(SAMPLES)


def test_what_only_looks_like_many_parts_costs_no_time() -> None:
    data = wav((b"AAAA" + bytes(4)) * 200_000, claimed=0)
    assert not is_cut_short(data, "wav")


def test_the_names_of_relatives_are_read_too() -> None:
    data = container("RF64", SAMPLES)
    assert np.array_equal(read(b"BW64" + data[4:]), WANTED)
    file = io.BytesIO()
    soundfile.write(file, SAMPLES, RATE, format="AU", subtype="PCM_16", endian="LITTLE")
    assert np.array_equal(read(file.getvalue()), WANTED)
