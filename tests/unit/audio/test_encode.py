"""Encoders as streams and at once: what decoders get back, when bytes come, and what is refused."""

from __future__ import annotations

import builtins
import gc
import io
import struct
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile

from voxtral.audio.encode import FORMATS, ContainerEncoder, encode, format_for_path, open_encoder
from voxtral.audio.pcm import from_int16, to_int16
from voxtral.audio.read import read_audio
from voxtral.audio.writers import _set_page_latency
from voxtral.errors import AudioError

RATE = 24000
LOSSLESS = ("wav", "flac", "pcm")
LOSSY = ("mp3", "opus", "ogg")
PLAIN = LOSSLESS + LOSSY
AV = ("aac", "m4a")


def chirp(seconds: float = 2.0, rate: int = RATE) -> np.ndarray:
    """Rises from 150 to 1500 Hz with a syllable-like level."""
    time = np.arange(int(seconds * rate)) / rate
    level = 0.3 * (1.2 + np.sin(2 * np.pi * 3 * time)) / 2.2
    return (level * np.sin(2 * np.pi * (150 * time + 675 / seconds * time**2))).astype(np.float32)


def stream(samples: np.ndarray, format: str, rate: int = RATE, piece: int = 1920) -> bytes:
    encoder = open_encoder(format, rate)
    parts = [encoder.write(samples[start : start + piece]) for start in range(0, len(samples), piece)]
    return b"".join([*parts, encoder.finish()])


def decode(data: bytes, format: str, rate: int = RATE) -> np.ndarray:
    if format == "pcm":
        return from_int16(np.frombuffer(data, dtype="<i2"))
    return read_audio(data, sample_rate=rate)


def best_match(samples: np.ndarray, decoded: np.ndarray, max_delay: int) -> tuple[float, int]:
    """Return the delay in samples at which the decoded signal fits best, with the correlation there."""
    size = 1 << (len(samples) + len(decoded)).bit_length()
    products = np.fft.irfft(np.fft.rfft(decoded, size) * np.conj(np.fft.rfft(samples, size)), size)
    delay = int(np.argmax(products[:max_delay]))
    length = min(len(samples), len(decoded) - delay)
    return float(np.corrcoef(samples[:length], decoded[delay : delay + length])[0, 1]), delay


@pytest.mark.parametrize("format", LOSSLESS)
@pytest.mark.parametrize("make", [stream, encode])
def test_lossless_formats_give_back_every_sample(format, make):
    samples = chirp()[:47_777]
    assert np.array_equal(decode(make(samples, format, RATE), format), from_int16(to_int16(samples)))


@pytest.mark.parametrize("format", LOSSY)
@pytest.mark.parametrize("rate", [16000, 22050, 24000, 44100, 96000])
def test_lossy_files_keep_length_and_sound(format, rate):
    samples = chirp(1.0, rate)
    decoded = decode(encode(samples, format, rate), format, rate)
    # Resampled there and back, the length may be one sample off.
    assert abs(len(decoded) - len(samples)) <= (1 if rate in (22050, 44100, 96000) else 0)
    correlation, delay = best_match(samples, decoded, 100)
    assert correlation > 0.95
    assert delay == 0


@pytest.mark.parametrize("format", ["opus", "ogg"])
def test_ogg_streams_keep_length_and_sound(format):
    samples = chirp()
    decoded = decode(stream(samples, format), format)
    assert len(decoded) == len(samples)
    assert np.corrcoef(samples, decoded)[0, 1] > 0.95


def test_an_mp3_stream_is_delayed_by_the_encoder_and_no_more():
    samples = chirp()
    decoded = decode(stream(samples, "mp3"), "mp3")
    assert len(samples) <= len(decoded) <= len(samples) + 1105 + 2 * 576
    correlation, delay = best_match(samples, decoded, 1800)
    assert correlation > 0.95
    assert delay == 1105


@pytest.mark.parametrize("format", LOSSY)
@pytest.mark.parametrize("rate", [8000, 16000, 24000, 48000])
def test_the_end_sounds_like_the_middle(format, rate):
    # libsndfile alone repeats the last samples of Opus, loudly, at about a third of all lengths.
    for extra in range(0, rate // 50, rate // 50 // 7):
        count = rate // 2 + extra
        samples = (0.5 * np.sin(2 * np.pi * 200 * np.arange(count) / rate)).astype(np.float32)
        # An mp3 stream does not tell where it ends.
        for data in [encode(samples, format, rate)] + [stream(samples, format, rate)] * (format != "mp3"):
            decoded = decode(data, format, rate)
            assert len(decoded) == count
            # A tone that stops at full level rings a little; what libsndfile repeats is 0.3 to 0.5 off.
            assert np.abs(decoded - samples)[-rate // 50 :].max() < 0.2, extra


@pytest.mark.parametrize(
    ("format", "rate", "kbits", "tolerance"),
    [
        ("mp3", 22050, 32, 0.02), ("mp3", 24000, 48, 0.02), ("mp3", 24000, 160, 0.02),
        *(("mp3", 44100, kbits, 0.02) for kbits in (32, 64, 96, 128, 192, 320)),
        # Opus varies with the sound, and short pages take some.
        *(("opus", 48000, kbits, 0.15) for kbits in (32, 64, 96, 128, 192)),
    ],
)  # fmt: skip
def test_a_bit_rate_that_is_asked_for_is_that_of_the_bytes(format, rate, kbits, tolerance):
    noise = 0.1 * np.random.default_rng(0).standard_normal(6 * RATE).astype(np.float32)
    encoder = ContainerEncoder(format, RATE, is_seekable=False, output_rate=rate, bit_rate=1000 * kbits)
    data = encoder.write(np.clip(noise, -1, 1)) + encoder.finish()
    assert len(data) * 8 / 6 / 1000 == pytest.approx(kbits, rel=tolerance)
    assert abs(len(decode(data, format)) - len(noise)) < 0.1 * RATE


@pytest.mark.parametrize(
    ("format", "rate", "bit_rate"),
    [("mp3", 24000, 192_000), ("mp3", 44100, 8000), ("opus", 48000, 300_000), ("flac", 24000, 64_000)],
)
def test_a_bit_rate_that_a_codec_does_not_know_is_refused(format, rate, bit_rate):
    with pytest.raises(AudioError, match="a bit rate is"):
        ContainerEncoder(format, RATE, is_seekable=False, output_rate=rate, bit_rate=bit_rate)


def test_an_opus_stream_ends_with_a_valid_page():
    data = stream(chirp()[:24_400], "opus")
    page = bytearray(data[data.rindex(b"OggS") :])
    assert page[5] & 4  # end of stream
    assert int.from_bytes(page[6:14], "little") == 2 * 24_400 + 312
    checksum, register = int.from_bytes(page[22:26], "little"), 0
    page[22:26] = bytes(4)
    for bit in (byte >> shift & 1 for byte in page for shift in range(7, -1, -1)):
        register = (register << 1) ^ (0x04C11DB7 if (register >> 31) ^ bit else 0)
        register &= 0xFFFFFFFF
    assert register == checksum


def test_files_tell_their_length_to_soundfile():
    samples = chirp()
    for format in ("wav", "flac", "mp3", "opus", "ogg"):
        with soundfile.SoundFile(io.BytesIO(encode(samples, format, RATE))) as file:
            assert (file.frames, file.samplerate, file.channels) == (len(samples), RATE, 1), format


def test_streams_of_known_containers_are_read_by_soundfile_at_once():
    samples = chirp()
    for format in ("wav", "opus", "ogg"):
        assert len(soundfile.read(io.BytesIO(stream(samples, format)))[0]) == len(samples), format


def test_a_wav_stream_says_that_its_length_is_unknown():
    data = stream(chirp(0.1), "wav")
    assert data[:4] == b"RIFF"
    assert data[36:40] == b"data"
    assert struct.unpack("<I", data[4:8]) == struct.unpack("<I", data[40:44]) == (0xFFFFFFFF,)


def test_a_wav_file_has_the_right_sizes():
    data = encode(chirp(0.1), "wav", RATE)
    assert struct.unpack("<I", data[4:8])[0] == len(data) - 8
    assert struct.unpack("<I", data[40:44])[0] == len(data) - 44 == 2400 * 2
    assert struct.unpack("<HHIIHH", data[20:36]) == (1, 1, RATE, RATE * 2, 2, 16)


def test_a_flac_stream_leaves_its_length_open_and_a_file_does_not():
    def total_samples(data: bytes) -> int:
        return int.from_bytes(data[21:26], "big") & 0xFFFFFFFFF

    samples = chirp()
    assert total_samples(stream(samples, "flac")) == 0
    assert total_samples(encode(samples, "flac", RATE)) == len(samples)


# Pieces of 80 ms, the frames of the model, until sound leaves. Pages of Vorbis end by bytes, not by time.
FIRST_SOUND = {"wav": 1, "pcm": 1, "flac": 1, "mp3": 1, "opus": 1, "aac": 2, "m4a": 4}


def num_decoded(data: bytes, format: str) -> int:
    """Count the samples that a player can make of the beginning of a stream."""
    if format == "pcm":
        return len(data) // 2
    av = pytest.importorskip("av")
    try:
        # ADTS is too little at the start to be recognised.
        with av.open(io.BytesIO(data), format="aac" if format == "aac" else None) as file:
            return sum(frame.samples for frame in file.decode(audio=0))
    except av.FFmpegError:
        return 0  # nothing yet, or a part of the headers


@pytest.mark.parametrize("format", FIRST_SOUND)
def test_sound_leaves_as_early_as_the_container_allows(format):
    samples, encoder, head = chirp(), open_encoder(format, RATE), b""
    counts = []
    for start in range(0, FIRST_SOUND[format] * 1920, 1920):
        head += encoder.write(samples[start : start + 1920])
        counts.append(num_decoded(head, format))
    assert counts[:-1] == [0] * (len(counts) - 1)
    # More than an encoder's delay, which is silence.
    assert counts[-1] > 1105
    # And at this pace it goes on: no more than this many pieces are inside of the encoder at any time.
    for end in range(len(counts) * 1920, len(samples), 1920):
        head += encoder.write(samples[end : end + 1920])
    assert num_decoded(head, format) > len(samples) - (FIRST_SOUND[format] + 1) * 1920


@pytest.mark.parametrize("format", FORMATS)
def test_encoders_go_from_thread_to_thread(format):
    if format in AV:
        pytest.importorskip("av")
    samples = chirp(0.8)

    def encode_across_threads(_: int) -> np.ndarray:
        encoder, parts = open_encoder(format, RATE), []
        for start in range(0, len(samples), 1920):
            piece = samples[start : start + 1920]
            thread = threading.Thread(target=lambda piece=piece: parts.append(encoder.write(piece)))
            thread.start()
            thread.join()
        return decode(b"".join([*parts, encoder.finish()]), format)

    expected = decode(stream(samples, format), format)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(encode_across_threads, range(4)))
    assert all(np.array_equal(result, expected) for result in results)


@pytest.mark.parametrize("format", PLAIN)
def test_the_memory_of_an_encoder_is_given_away(format):
    # All bytes but a page or a frame are out before the end, so nothing grows with the stream.
    encoder = open_encoder(format, RATE)
    noise = (0.1 * np.random.default_rng(0).standard_normal(RATE)).astype(np.float32)
    sizes = [len(encoder.write(noise)) for _ in range(10)]
    assert len(encoder.finish()) < sum(sizes) / 5


@pytest.mark.parametrize("format", ["wav", "pcm"])
def test_an_empty_stream_is_valid_where_it_can_be(format):
    encoder = open_encoder(format, RATE)
    assert len(encoder.write(np.zeros(0, dtype=np.float32)) + encoder.finish()) == (44 if format == "wav" else 0)


@pytest.mark.parametrize("format", ["flac", "mp3", "opus", "ogg"])
def test_an_empty_stream_is_refused_elsewhere(format):
    with pytest.raises(AudioError, match="no samples"):
        open_encoder(format, RATE).finish()


@pytest.mark.parametrize("format", PLAIN)
def test_a_single_sample_survives(format):
    assert len(decode(encode(np.full(1, 0.5, dtype=np.float32), format, RATE), format)) == 1


@pytest.mark.parametrize("format", PLAIN)
def test_too_loud_is_clipped_and_not_wrapped(format):
    loud = (1.5 * np.sin(2 * np.pi * 200 * np.arange(RATE) / RATE)).astype(np.float32)
    decoded = decode(encode(loud, format, RATE), format)
    assert np.corrcoef(decoded, np.clip(loud, -1, 1))[0, 1] > 0.99
    assert np.abs(decoded).max() < 1.4


@pytest.mark.parametrize("format", PLAIN)
def test_bad_samples_are_refused(format):
    encoder = open_encoder(format, RATE)
    with pytest.raises(AudioError, match="sample 0 of 1"):
        encoder.write(np.array([np.nan], dtype=np.float32))
    with pytest.raises(AudioError, match="mono float32"):
        encoder.write(np.zeros((10, 1), dtype=np.float32))


@pytest.mark.parametrize("format", PLAIN)
def test_an_encoder_serves_one_stream(format):
    encoder = open_encoder(format, RATE)
    encoder.write(chirp(0.1))
    encoder.finish()
    with pytest.raises(AudioError, match="one stream"):
        encoder.write(chirp(0.1))
    with pytest.raises(AudioError, match="one stream"):
        encoder.finish()


@pytest.mark.parametrize(
    ("path", "format"),
    [("a.wav", "wav"), ("A.WAV", "wav"), ("/x.y/b.Mp3", "mp3"), ("c.opus", "opus"), ("d.oga", "ogg"), ("e.m4a", "m4a")],
)
def test_the_extension_names_the_format(path, format):
    assert format_for_path(path) == format


@pytest.mark.parametrize("path", ["noext", "a.txt", ".wav", "dir.wav/file", ""])
def test_other_extensions_are_refused_with_the_list(path):
    with pytest.raises(AudioError, match=r"\.wav \.flac \.mp3 \.opus"):
        format_for_path(path)


def test_every_format_has_an_extension():
    assert {format_for_path(f"x.{format}") for format in FORMATS} == set(FORMATS)


def test_other_formats_are_refused_with_the_list():
    with pytest.raises(AudioError, match="wav, flac, mp3, opus, ogg, aac, m4a, pcm"):
        open_encoder("wma", RATE)


@pytest.mark.parametrize("rate", [0, -1, 3999, 384001, 24000.0, None])
def test_other_rates_are_refused(rate):
    with pytest.raises(AudioError, match="4000 to 384000"):
        open_encoder("wav", rate)


@pytest.mark.parametrize("format", AV)
def test_without_pyav_the_error_names_the_extra_and_the_rest(format, monkeypatch):
    real_import = builtins.__import__

    def no_av(name, *args, **kwargs):
        if name == "av":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_av)
    with pytest.raises(AudioError, match=r"wav, flac, mp3, opus, ogg, pcm work without.*pip install voxtral-tts\[av\]"):
        open_encoder(format, RATE)


def test_opus_pages_stay_as_they_are_where_soundfile_has_other_inner_names(monkeypatch):
    calls = []

    class OtherLibrary:
        def sf_command(self, *args):
            calls.append(args)

    monkeypatch.setattr(soundfile, "_snd", OtherLibrary())
    _set_page_latency(object())
    assert not calls


@pytest.mark.parametrize("format", AV)
@pytest.mark.parametrize("rate", [16000, 24000, 44100])
def test_aac_keeps_the_sound(format, rate):
    pytest.importorskip("av")
    samples = chirp(2.0, rate)
    for data in (encode(samples, format, rate), stream(samples, format, rate)):
        decoded = decode(data, format, rate)
        assert len(samples) <= len(decoded) <= len(samples) + 1024 * 3
        correlation, delay = best_match(samples, decoded, 1200)
        assert correlation > 0.95
        # MP4 tells the delay and decoders cut it off; ADTS has no place for it.
        assert delay == (0 if format == "m4a" else 1024)


@pytest.mark.parametrize("format", AV)
def test_abandoned_streams_are_taken_apart_safely(format):
    # Left to the garbage collector, unfinished containers crash the process with PyAV 12.
    pytest.importorskip("av")
    for _ in range(20):
        encoder = open_encoder(format, RATE)
        encoder.write(chirp(0.1))
        open_encoder(format, RATE)
        del encoder
    assert gc.collect() >= 0


def test_an_m4a_stream_starts_before_its_end():
    pytest.importorskip("av")
    encoder = open_encoder("m4a", RATE)
    assert encoder.write(chirp(1.0))[4:8] == b"ftyp"


@pytest.mark.parametrize("format", ["flac", "mp3"])
def test_streams_are_read_by_ffmpeg(format):
    av = pytest.importorskip("av")
    samples = chirp()
    with av.open(io.BytesIO(stream(samples, format))) as file:
        count = sum(frame.samples for frame in file.decode(audio=0))
    assert count == len(samples) if format == "flac" else len(samples) <= count <= len(samples) + 1105 + 2 * 576
