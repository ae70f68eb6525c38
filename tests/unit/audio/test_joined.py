"""Files that were joined by `cat`: found in every format, whatever follows, and never where there is one file."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from spoken_clips import RATE, spoken
from voxtral.audio.encode import encode
from voxtral.audio.read import read_clip
from voxtral.audio.reference import read_reference

FORMATS = ("WAV", "RF64", "W64", "CAF", "AU", "AIFF", "FLAC", "OGG", "OPUS", "MP3")
OTHERS = {"m4a": "m4a"}
SAMPLES = spoken(1.2)


def made(format: str) -> bytes:
    if format in OTHERS:
        pytest.importorskip("av")
        return encode(SAMPLES, OTHERS[format], RATE)
    file = io.BytesIO()
    container, subtype = ("OGG", "OPUS") if format == "OPUS" else (format, None)
    soundfile.write(file, SAMPLES, RATE, format=container, subtype=subtype)
    return file.getvalue()


@pytest.mark.parametrize("first", [*FORMATS, *OTHERS])
def test_a_second_file_is_found_and_the_first_is_read(first: str) -> None:
    data = made(first)
    alone = read_clip(data)
    assert not alone.is_joined
    for second in ("WAV", "FLAC", "OGG", "OPUS", "AIFF", "CAF", "W64", "AU", first):
        joined = read_clip(data + made(second))
        assert joined.is_joined, second
        assert np.array_equal(joined.samples, alone.samples), second


def test_it_is_said() -> None:
    remarks = read_reference(made("OGG") * 2, sample_rate=RATE).remarks
    assert any("more than one recording" in remark for remark in remarks)


def test_what_stands_behind_a_file_and_is_none_is_no_second_file() -> None:
    for tail in (
        b"TAG" + bytes(125),
        b"note\x04\x00\x00\x00abcd",
        b"RIFF",
        b"OggS" + bytes(600),
        b"ID3\x04" + bytes(700),
    ):
        assert not read_clip(made("WAV") + tail).is_joined
