"""Reading clips: what comes out, from which sources, by which rules. Hostile files are in tests/faults."""

from __future__ import annotations

import builtins
import io
import os
import struct
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from voxtral.audio.encode import encode, open_encoder
from voxtral.audio.read import AudioLimits, read_audio
from voxtral.errors import OptionError, ReferenceAudioError

RATE = 24000
FORMATS = [
    ("WAV", "PCM_16"),
    ("WAV", "FLOAT"),
    ("WAV", "PCM_24"),
    ("WAV", "PCM_U8"),
    ("WAV", "ULAW"),
    ("AIFF", "PCM_16"),
    ("RF64", "PCM_16"),
    ("W64", "PCM_24"),
    ("AU", "ULAW"),
    ("CAF", "ALAC_16"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
]


def voice(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    """[S, C] float32, each channel of its own pitch."""
    time = np.arange(int(seconds * rate)) / rate
    rows = [0.4 * np.sin(2 * np.pi * (180 + 70 * c) * time + c) for c in range(channels)]
    return np.stack(rows, axis=1).astype(np.float32)


def make_file(samples: np.ndarray, rate: int, format: str = "WAV", subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format, subtype=subtype)
    return file.getvalue()


@pytest.mark.parametrize(("format", "subtype"), FORMATS)
@pytest.mark.parametrize("rate", [16000, 24000, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_equals_decoding_averaging_and_resampling_the_whole(format, subtype, rate, channels):
    data = make_file(voice(0.7, rate, channels), rate, format, subtype)
    expected, _ = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    expected = expected.mean(axis=1)
    if rate != RATE:
        expected = soxr.resample(expected, rate, RATE, quality="HQ")
    samples = read_audio(data, sample_rate=RATE)
    assert samples.dtype == np.float32
    assert len(samples) == len(expected)
    # MP3 in blocks rounds otherwise than MP3 at once, by half a step of float32.
    assert np.abs(samples - expected).max() <= (1e-6 if format == "MP3" else 0.0)


def test_more_than_one_block_is_joined_without_a_seam():
    data = make_file(voice(8.0, 48000, 2), 48000, "FLAC")
    expected = soxr.resample(soundfile.read(io.BytesIO(data), dtype="float32")[0].mean(axis=1), 48000, RATE, "HQ")
    assert np.array_equal(read_audio(data, sample_rate=RATE), expected)


def test_16_bit_at_the_wanted_rate_is_exact():
    values = np.arange(-32768, 32768, dtype=np.int16)
    data = make_file(values, RATE)
    assert np.array_equal(read_audio(data, sample_rate=RATE), values.astype(np.float32) / 32768)


@pytest.mark.parametrize("sample_rate", [16000, 24000, 44100])
def test_the_rate_is_a_parameter(sample_rate):
    assert len(read_audio(make_file(voice(1.0, 16000), 16000), sample_rate=sample_rate)) == sample_rate


def test_every_source_gives_the_same(tmp_path):
    data = make_file(voice(0.5, RATE), RATE)
    path = tmp_path / "clip.wav"
    path.write_bytes(data)
    link = tmp_path / "link.wav"
    link.symlink_to(path)
    expected = read_audio(data, sample_rate=RATE)
    with open(path, "rb") as file:
        sources = [
            str(path),
            path,
            link,
            bytearray(data),
            memoryview(data),
            memoryview(data)[::1],
            io.BytesIO(data),
            file,
        ]
        for source in sources:
            assert np.array_equal(read_audio(source, sample_rate=RATE), expected), type(source)


def test_a_file_object_may_return_short_pieces():
    data = make_file(voice(0.5, RATE), RATE)

    class Socket(io.RawIOBase):
        position = 0

        def read(self, size=-1):
            piece = data[self.position : self.position + min(size, 1000)]
            self.position += len(piece)
            return piece

    socket: Any = Socket()
    assert len(read_audio(socket, sample_rate=RATE)) == 12000


def test_the_extension_of_a_path_does_not_matter(tmp_path):
    path = tmp_path / "clip.txt"
    path.write_bytes(make_file(voice(0.5, RATE), RATE, "FLAC"))
    assert len(read_audio(path, sample_rate=RATE)) == 12000


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.array([-32768, 0, 16384], dtype=np.int16), [-1.0, 0.0, 0.5]),
        (np.array([-(2**31), 0, 2**30], dtype=np.int32), [-1.0, 0.0, 0.5]),
        (np.array([0, 128, 192], dtype=np.uint8), [-1.0, 0.0, 0.5]),
        (np.array([-1.0, 0.0, 0.5], dtype=np.float64), [-1.0, 0.0, 0.5]),
        (np.array([-1.0, 0.0, 0.5], dtype=np.float16), [-1.0, 0.0, 0.5]),
        (np.array([-1.0, 0.0, 0.5], dtype=">f4"), [-1.0, 0.0, 0.5]),
        (np.array([-32768, 0, 16384], dtype=">i2"), [-1.0, 0.0, 0.5]),
    ],
)
def test_arrays_of_each_kind_are_scaled(samples, expected):
    result = read_audio((samples, RATE), sample_rate=RATE)
    assert result.tolist() == expected
    assert result.dtype == np.float32


def test_arrays_may_have_channels_on_either_axis():
    samples = voice(0.1, RATE, 2)
    expected = samples.mean(axis=1)
    assert np.array_equal(read_audio((samples, RATE), sample_rate=RATE), expected)
    assert np.allclose(read_audio((samples.T, RATE), sample_rate=RATE), expected, atol=1e-7)


def test_a_small_square_is_samples_by_channels():
    samples = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]], dtype=np.float32)
    assert read_audio((samples[:2], RATE), sample_rate=RATE).tolist() == [0.5, 0.5]
    assert len(read_audio((samples, RATE), sample_rate=RATE)) == 3


def test_arrays_are_resampled_and_not_shared():
    samples = voice(0.5, 48000)[:, 0]
    assert np.array_equal(read_audio((samples, 48000), sample_rate=RATE), soxr.resample(samples, 48000, RATE, "HQ"))
    same = read_audio((samples, 48000), sample_rate=48000)
    same[:] = 0
    assert samples.any()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ((np.zeros(10, dtype=np.int64), RATE), "int64"),
        ((np.zeros(10, dtype=np.uint16), RATE), "uint16"),
        ((np.zeros(10, dtype=bool), RATE), "bool"),
        ((np.zeros(10, dtype=complex), RATE), "complex128"),
        ((np.zeros((2, 3, 4), dtype=np.float32), RATE), r"shape \(2, 3, 4\)"),
        ((np.zeros((), dtype=np.float32), RATE), r"shape \(\)"),
        ((np.zeros((20, 20), dtype=np.float32), RATE), "20 channels"),
        ((np.zeros((10, 0), dtype=np.float32), RATE), "0 channels"),
        ((np.zeros(10, dtype=np.float32), 24000.0), "float"),
        ((np.zeros(10, dtype=np.float32), 1), "1 Hz"),
        ((np.zeros(10, dtype=np.float32), -24000), "-24000 Hz"),
        (([0.0, 1.0], RATE), "list, int"),
        ((np.zeros(10, dtype=np.float32),), "ndarray"),
        ((np.zeros(0, dtype=np.float32), RATE), "without a single sample"),
        ((np.full(10, np.nan, dtype=np.float32), RATE), "NaN"),
        ((np.full(10, np.inf, dtype=np.float32), 48000), "NaN"),
        ((np.full(10, 1e300), RATE), "too large"),
        ((np.full((10, 2), 3e38, dtype=np.float32), RATE), "too large"),
        ((np.zeros(60 * RATE + 1, dtype=np.float32), RATE), "60 s"),
    ],
)
def test_arrays_that_are_refused(source, message):
    with pytest.raises(ReferenceAudioError, match=message):
        read_audio(source, sample_rate=RATE)


def test_sixty_seconds_are_allowed():
    assert len(read_audio((np.zeros(60 * RATE, dtype=np.float32), RATE), sample_rate=RATE)) == 60 * RATE


@pytest.mark.parametrize("source", [None, 5, ["a.wav"], object()])
def test_other_types_are_refused(source):
    with pytest.raises(ReferenceAudioError, match="must be a path, bytes"):
        read_audio(source, sample_rate=RATE)


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:1/a.wav",
        "https://example.org/a.wav?key=SECRET",
        "HTTPS://example.org",
        " https://example.org",
        "file:///etc/passwd",
        "file:/etc/passwd",
        "ftp://example.org/a.wav",
        "s3://bucket/a.wav",
        "data:audio/wav;base64,SECRET",
    ],
)
def test_addresses_are_refused_and_not_repeated(address):
    with pytest.raises(ReferenceAudioError, match="never fetched") as caught:
        read_audio(address, sample_rate=RATE)
    assert "SECRET" not in str(caught.value)


def test_the_wanted_rate_must_be_positive():
    with pytest.raises(OptionError, match="0 Hz"):
        read_audio((np.zeros(10, dtype=np.float32), RATE), sample_rate=0)


def test_a_wav_stream_of_unknown_length_is_read_to_its_end():
    encoder = open_encoder("wav", RATE)
    data = encoder.write(voice(0.5, RATE)[:, 0]) + encoder.finish()
    assert len(read_audio(data, sample_rate=RATE)) == 12000
    for claim in (0x7FFFFFFF, 0x7FFFF000):  # what other recorders write for "unknown"
        assert len(read_audio(data[:40] + struct.pack("<I", claim) + data[44:], sample_rate=RATE)) == 12000


def test_chunks_before_the_samples_are_skipped():
    data = make_file(voice(0.5, RATE), RATE)
    note = b"LIST" + struct.pack("<I", 5) + b"INFOx" + b"\0"
    assert len(read_audio(data[:36] + note + data[36:], sample_rate=RATE)) == 12000


def test_an_odd_wav_without_its_padding_byte_is_whole():
    data = make_file(np.zeros(11, dtype=np.float32), RATE, "WAV", "PCM_U8")
    end = data.index(b"data") + 8 + 11
    assert len(read_audio(data[:end], sample_rate=RATE)) == 11


@pytest.mark.parametrize("format", ["mp3", "flac"])
def test_tags_in_front_are_skipped(format):
    data = encode(voice(0.5, RATE)[:, 0], format, RATE)
    tag = b"ID3\x04\x00\x00\x00\x00\x01\x00" + bytes(128)
    assert np.array_equal(read_audio(tag + tag + data, sample_rate=RATE), read_audio(data, sample_rate=RATE))


def test_a_variable_mp3_without_a_frame_count_is_read_to_its_end():
    noise = 0.3 * np.random.default_rng(0).standard_normal(RATE // 2)
    samples = np.concatenate([noise, np.zeros(2 * RATE), 0.3 * np.sin(0.1 * np.arange(RATE // 2))])
    file = io.BytesIO()
    options = {"format": "MP3", "bitrate_mode": "VARIABLE", "compression_level": 0.1}
    soundfile.write(file, samples, RATE, **options)
    data = file.getvalue()[file.getvalue().index(b"\xff\xf3", 4) :]
    # libsndfile guesses the end from the bitrate of the first frame, which is loud here, and stops there.
    assert soundfile.info(io.BytesIO(data)).frames < RATE
    decoded = read_audio(data, sample_rate=RATE)
    assert len(samples) <= len(decoded) <= len(samples) + 3 * 1152
    assert np.abs(decoded[-RATE // 4 : -3000]).mean() > 0.1


def test_reading_leaves_no_file_open(tmp_path):
    path = tmp_path / "clip.wav"
    path.write_bytes(make_file(voice(0.1, RATE), RATE))
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    read_audio(path, sample_rate=RATE)
    with pytest.raises(ReferenceAudioError):
        read_audio(path, sample_rate=RATE, limits=AudioLimits(max_seconds=0.01))
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) == before


M4A_HEAD = b"\0\0\0\x1cftypM4A \0\0\0\0M4A isommp42"
WEBM_HEAD = b"\x1a\x45\xdf\xa3\x84webm\x18\x53\x80\x67\x81\x00"
AAC_HEAD = b"\xff\xf1\x58\x40\x01\x7f\xfc\x00"


@pytest.mark.parametrize(("data", "kind"), [(M4A_HEAD, "mp4"), (WEBM_HEAD, "webm"), (AAC_HEAD, "aac")])
def test_without_pyav_its_formats_are_named_with_the_extra(data, kind, monkeypatch):
    real_import = builtins.__import__

    def no_av(name, *args, **kwargs):
        if name == "av":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_av)
    with pytest.raises(ReferenceAudioError, match=rf"{kind} audio.*pip install voxtral-tts\[av\]"):
        read_audio(data, sample_rate=RATE)
    with pytest.raises(ReferenceAudioError, match=r"no audio format.*voxtral-tts\[av\] adds aac, m4a and webm"):
        read_audio(b"\x00\x01\x02\x03" * 10, sample_rate=RATE)


@pytest.mark.parametrize("format", ["aac", "m4a"])
@pytest.mark.parametrize("rate", [24000, 44100])
def test_pyav_reads_aac(format, rate):
    pytest.importorskip("av")
    samples = voice(1.0, rate)[:, 0]
    decoded = read_audio(encode(samples, format, rate), sample_rate=rate)
    delay = 0 if format == "m4a" else 1024
    assert np.corrcoef(samples, decoded[delay : delay + rate])[0, 1] > 0.99


def make_webm(samples: np.ndarray) -> bytes:
    import av  # pyright: ignore[reportMissingImports]

    file = io.BytesIO()
    with av.open(file, "w", format="webm") as container:
        stream = container.add_stream("libopus", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[np.newaxis], format="flt", layout="mono")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def test_pyav_reads_webm():
    pytest.importorskip("av")
    samples = voice(1.0, 48000)[:, 0]
    decoded = read_audio(make_webm(samples), sample_rate=48000)
    assert abs(len(decoded) - len(samples)) <= 960
    assert np.corrcoef(samples[:47000], decoded[:47000])[0, 1] > 0.99


def test_pyav_is_not_shown_playlists(tmp_path):
    pytest.importorskip("av")
    clip = tmp_path / "clip.aac"
    clip.write_bytes(encode(voice(1.0, RATE)[:, 0], "aac", RATE))
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{clip}\n#EXT-X-ENDLIST\n".encode()
    concat = f"ffconcat version 1.0\nfile {clip}\n".encode()
    for data in (playlist, concat):
        with pytest.raises(ReferenceAudioError, match="looks like text"):
            read_audio(data, sample_rate=RATE)
