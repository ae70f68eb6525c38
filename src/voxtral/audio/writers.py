"""The writers of each format: samples at the codec's own rate into memory, by hand, libsndfile or FFmpeg.

`voxtral.audio.encode` checks what it is given, resamples and gives out the bytes.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np

from voxtral.audio.pcm import to_alaw, to_int16, to_ulaw
from voxtral.errors import AudioError

_AV_FORMATS = ("aac", "m4a")

_AAC_BIT_RATE = 64_000

# Ogg Opus pages of 60 ms in a stream, where libsndfile's own choice of 1 s would hold back its start: the longest
# that give sound with the first 80 ms. It costs 3.4 kbit/s (docs/LOG.md, 2026-11-23).
# Source: SFC_SET_OGG_PAGE_LATENCY_MS in sndfile.h.
_SET_PAGE_LATENCY_MS = 0x1302
_OPUS_PAGE_MS = 60.0

# The fastest setting of libFLAC is the one with blocks of 1152 samples: the usual 4096 would hold back the start of a
# stream for 160 ms more. Nano's speech takes 7 % more bytes so.
_FLAC_STREAM_LEVEL = 0.0

# As much as AAC gets: up to about 54 kbit/s, and libsndfile's own choice is 38, Opus imitates speech instead of
# following its waveform (docs/LOG.md, 2026-11-23).
_OPUS_BIT_RATE = 64_000

# What libsndfile's compression levels of 1 and 0 stand for, with bit rates between them in a straight line. MP3 has
# the lower ones below 32 kHz. Source: ogg_opus.c and mpeg_l3_encode.c of libsndfile 1.2.2.
_OPUS_BIT_RATES = (6_000, 256_000)
_MP3_BIT_RATES, _LOW_MP3_BIT_RATES = (32_000, 320_000), (8_000, 160_000)
_LOWEST_FULL_MP3_RATE = 32_000

# libsndfile refuses 1 for MP3; the codec has no bit rate between this and the lowest.
_HIGHEST_LEVEL = 0.999

# Ogg Opus counts in ticks of 48 kHz at any rate, and libsndfile makes packets of 20 ms.
_OPUS_CLOCK = 48000
_OPUS_PACKET_TICKS = 960

# Source: RFC 3533 section 6, with the bit that falls out of 32.
_OGG_POLYNOMIAL = 0x104C11DB7

# The container and codec of libsndfile.
_SOUNDFILE_KINDS = {
    "flac": ("FLAC", "PCM_16"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "opus": ("OGG", "OPUS"),
    "ogg": ("OGG", "VORBIS"),
}

_UNKNOWN_SIZE = 0xFFFFFFFF
_WAV_HEADER_BYTES = 44


class MemorySink:
    """A file in memory whose bytes are taken away as they come.

    What is written behind the bytes already taken becomes a correction. Nothing here can fail, because an error inside
    a C library's callback would be printed and forgotten.
    """

    def __init__(self) -> None:
        self.corrections: list[tuple[int, bytes]] = []
        self._pending = bytearray()
        self._drained = 0
        self._position = 0

    def write(self, data: Any) -> int:
        """Take bytes at the current position, like a file."""
        data = bytes(data)
        behind = min(max(self._drained - self._position, 0), len(data))
        if behind:
            self.corrections.append((self._position, data[:behind]))
        if behind < len(data):
            start = self._position + behind - self._drained
            self._pending[start : start + len(data) - behind] = data[behind:]
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move, like a file; what has been drained can still be corrected."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._drained + len(self._pending)}
        self._position = base[whence] + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def peek(self) -> bytes:
        """Return what has not been drained, and keep it."""
        return bytes(self._pending)

    def replace_end(self, data: bytes) -> None:
        """Write over the last bytes that have not been drained."""
        self._pending[-len(data) :] = data

    def drain(self) -> bytes:
        """Take what has not been drained."""
        data = bytes(self._pending)
        self._drained += len(data)
        self._pending.clear()
        return data


class Writer(Protocol):
    """One container being written into a sink."""

    def write(self, samples: np.ndarray) -> None:
        """Encode samples [S] at the writer's rate."""
        ...

    def close(self) -> None:
        """Write what is left, and the end."""
        ...


def can_write(format: str) -> bool:
    """Say whether what a format needs is installed; it is looked for, and not imported."""
    return format not in _AV_FORMATS or find_spec("av") is not None


def bit_rates_of(format: str, rate: int) -> tuple[int, int] | None:
    """Tell the lowest and the highest bit rate that may be chosen, in bit/s; None where there is no choice.

    >>> bit_rates_of("mp3", 22050), bit_rates_of("opus", 48000), bit_rates_of("flac", 48000)
    ((8000, 160000), (6000, 256000), None)
    """
    if format == "mp3":
        return _MP3_BIT_RATES if rate >= _LOWEST_FULL_MP3_RATE else _LOW_MP3_BIT_RATES
    return _OPUS_BIT_RATES if format == "opus" else None


def _level(bit_rate: int, bit_rates: tuple[int, int]) -> float:
    """Turn a bit rate into libsndfile's compression level."""
    lowest, highest = bit_rates
    return min((highest - bit_rate) / (highest - lowest), _HIGHEST_LEVEL)


def open_writer(format: str, rate: int, sink: MemorySink, *, is_seekable: bool, bit_rate: int | None = None) -> Writer:
    """Open the writer of a format.

    Args:
        format: one of those of `voxtral.audio.encode`.
        rate: of the samples, in Hz, which the codec knows.
        sink: takes the bytes.
        is_seekable: whether its corrections will be applied.
        bit_rate: within `bit_rates_of`, in bit/s; None is ours. Opus comes near it, and varies with the sound.

    Raises:
        AudioError: the format needs PyAV, which is not installed, or its encoder failed.
    """
    if format in ("wav", "pcm"):
        return _PcmWriter(rate, sink, has_header=format == "wav", is_seekable=is_seekable)
    if format in _RAW:
        return _RawWriter(_RAW[format], sink)
    if format in _AV_FORMATS:
        return _AvWriter(format, rate, sink, is_seekable=is_seekable)
    if format == "opus":
        return _OpusWriter(rate, sink, is_seekable=is_seekable, bit_rate=bit_rate)
    return _SoundfileWriter(format, rate, sink, is_seekable=is_seekable, bit_rate=bit_rate)


class _PcmWriter:
    """16-bit samples, with or without a WAV header before them."""

    def __init__(self, rate: int, sink: MemorySink, *, has_header: bool, is_seekable: bool) -> None:
        self._rate = rate
        self._sink = sink
        self._has_header = has_header
        self._is_seekable = is_seekable
        self._num_bytes = 0
        if has_header:
            sink.write(wav_header(rate, None))

    def write(self, samples: np.ndarray) -> None:
        data = to_int16(samples).astype("<i2", copy=False).tobytes()
        self._num_bytes += len(data)
        if self._has_header and self._is_seekable and self._num_bytes > _UNKNOWN_SIZE - _WAV_HEADER_BYTES:
            raise AudioError(
                f"got {self._num_bytes} bytes of samples for one wav file; its header counts to 4 GiB: "
                "write flac, or several files"
            )
        self._sink.write(data)

    def close(self) -> None:
        if self._has_header and self._is_seekable:
            self._sink.seek(0)
            self._sink.write(wav_header(self._rate, self._num_bytes))


class _RawWriter:
    """Samples as bytes, and nothing else."""

    def __init__(self, to_bytes: Callable[[np.ndarray], bytes], sink: MemorySink) -> None:
        self._to_bytes = to_bytes
        self._sink = sink

    def write(self, samples: np.ndarray) -> None:
        self._sink.write(self._to_bytes(samples))

    def close(self) -> None:
        pass


def _to_floats(samples: np.ndarray) -> bytes:
    return np.clip(samples, -1.0, 1.0).astype("<f4", copy=False).tobytes()


_RAW: dict[str, Callable[[np.ndarray], bytes]] = {
    "f32": _to_floats,
    "ulaw": lambda samples: to_ulaw(to_int16(samples)),
    "alaw": lambda samples: to_alaw(to_int16(samples)),
}


def wav_header(sample_rate: int, data_bytes: int | None) -> bytes:
    """Make the 44 bytes before 16-bit mono samples.

    Args:
        sample_rate: in Hz.
        data_bytes: size of the samples, or None where it is not known: both sizes are then all ones, which readers
            take as "to the end of the stream".
    """
    riff_bytes = _UNKNOWN_SIZE if data_bytes is None else data_bytes + _WAV_HEADER_BYTES - 8
    data_bytes = _UNKNOWN_SIZE if data_bytes is None else data_bytes
    layout = struct.pack("<HHIIHH", 1, 1, sample_rate, sample_rate * 2, 2, 16)
    return b"".join(
        (
            struct.pack("<4sI4s", b"RIFF", riff_bytes, b"WAVE"),
            struct.pack("<4sI", b"fmt ", len(layout)) + layout,
            struct.pack("<4sI", b"data", data_bytes),
        )
    )


class _SoundfileWriter:
    """flac, mp3 and Ogg Vorbis, by libsndfile."""

    def __init__(self, format: str, rate: int, sink: Any, *, is_seekable: bool, bit_rate: int | None = None) -> None:
        import soundfile

        container, codec = _SOUNDFILE_KINDS[format]
        bit_rates = bit_rates_of(format, rate)
        quality: dict[str, Any] = {}
        if bit_rate is not None and bit_rates is not None:
            quality = {"compression_level": _level(bit_rate, bit_rates)}
        elif format == "mp3":
            quality = {"compression_level": 0.5}
        elif format == "flac" and not is_seekable:
            quality = {"compression_level": _FLAC_STREAM_LEVEL}
        if format == "mp3":
            # A constant bitrate, because a stream has no table from which a player could tell times at a varying one.
            quality["bitrate_mode"] = "CONSTANT"
        self._is_lossless = format == "flac"
        self._error = soundfile.SoundFileError
        try:
            self._file = soundfile.SoundFile(sink, "w", rate, 1, codec, format=container, **quality)
        except self._error as error:
            raise AudioError(
                f"got {format} at {rate} Hz, which libsndfile refuses ({error}); "
                "its build must have that codec: use wav, or install another build of soundfile"
            ) from error

    def write(self, samples: np.ndarray) -> None:
        try:
            self._file.write(to_int16(samples) if self._is_lossless else np.clip(samples, -1.0, 1.0))
        except self._error as error:
            raise _encoder_failed(error) from error

    def close(self) -> None:
        try:
            self._file.close()
        except self._error as error:
            raise _encoder_failed(error) from error


class _OpusWriter(_SoundfileWriter):
    """Ogg Opus, by libsndfile, with short pages in a stream and a clean end.

    When the samples end so late in a packet that the encoder's delay needs one packet more, libsndfile encodes the last
    samples once again instead of silence, and up to 6 ms of that are heard. So the last packet is filled with silence
    here, to its very end, and the position in the last page says again where the samples ended: no player plays more.

    Source: ogg_opus_flush in libsndfile 1.2.2; RFC 7845 section 4.4, "Granule Position" and end trimming.
    """

    def __init__(self, rate: int, sink: MemorySink, *, is_seekable: bool, bit_rate: int | None = None) -> None:
        super().__init__("opus", rate, sink, is_seekable=is_seekable, bit_rate=bit_rate or _OPUS_BIT_RATE)
        if not is_seekable:
            _set_page_latency(self._file)
        self._sink = sink
        self._rate = rate
        self._ticks_per_sample = _OPUS_CLOCK // rate
        self._num_ticks = 0
        self._delay: int | None = None

    def write(self, samples: np.ndarray) -> None:
        super().write(samples)
        self._num_ticks += len(samples) * self._ticks_per_sample
        if self._delay is None and len(samples):
            header = self._sink.peek()
            self._delay = int.from_bytes(header[header.index(b"OpusHead") + 10 :][:2], "little")

    def close(self) -> None:
        silence = -(self._num_ticks + (self._delay or 0)) % _OPUS_PACKET_TICKS
        super().write(np.zeros(silence // self._ticks_per_sample, dtype=np.float32))
        super().close()
        self._sink.replace_end(_end_earlier(_last_ogg_page(self._sink.peek()), silence))


def _last_ogg_page(data: bytes) -> bytes:
    """Return the page that ends the data; what only looks like the start of a page has not its length."""
    start = len(data)
    while (start := data.rfind(b"OggS", 0, start)) >= 0:
        lengths = data[start + 27 : start + 27 + data[start + 26]]
        if start + 27 + len(lengths) + sum(lengths) == len(data):
            return data[start:]
    raise AudioError("got an Ogg stream without a last page; the audio is not whole: discard it and try again")


def _end_earlier(page: bytes, ticks: int) -> bytes:
    """Move the end position of an Ogg page, and renew its checksum."""
    changed = bytearray(page)
    position = int.from_bytes(page[6:14], "little") - ticks
    changed[6:14] = position.to_bytes(8, "little")
    changed[22:26] = bytes(4)
    checksum = 0
    for byte in changed:
        checksum ^= byte << 24
        for _ in range(8):
            checksum = checksum << 1 ^ (_OGG_POLYNOMIAL if checksum & 0x80000000 else 0)
    changed[22:26] = checksum.to_bytes(4, "little")
    return bytes(changed)


def _set_page_latency(file: Any) -> None:
    """Ask for short Ogg pages.

    soundfile has no public way to say it. Without its inner names a stream works as well and starts a second later.
    """
    import soundfile

    library, ffi, handle = (
        getattr(soundfile, "_snd", None),
        getattr(soundfile, "_ffi", None),
        getattr(file, "_file", None),
    )
    if library is not None and ffi is not None and handle is not None:
        library.sf_command(handle, _SET_PAGE_LATENCY_MS, ffi.new("double *", _OPUS_PAGE_MS), 8)


def _encoder_failed(error: Exception) -> AudioError:
    return AudioError(
        f"got an error from the encoder ({error}); the audio so far is not whole: discard it and try again"
    )


class _AvWriter:
    """AAC, by FFmpeg: as ADTS, as an MP4 file, or as MP4 in fragments."""

    def __init__(self, format: str, rate: int, sink: MemorySink, *, is_seekable: bool) -> None:
        try:
            import av
            import av.error
        except ImportError as error:
            others = ", ".join(("wav", *_SOUNDFILE_KINDS, "pcm"))
            raise AudioError(
                f"got the format {format!r}, which needs PyAV; {others} work without: "
                "choose one of these, or run pip install voxtral-tts[av]"
            ) from error

        self._av = av
        self._container: Any = None
        self._rate = rate
        self._num_samples = 0
        container = "adts"
        target: Any = sink
        options: dict[str, str] = {}
        if format == "m4a":
            container = "mp4"
            if not is_seekable:
                # The header waits for the first fragment, so that it can name the encoder's delay to players.
                options = {"movflags": "delay_moov+default_base_moof", "frag_duration": "200000"}
                target = _ForwardSink(sink)
        try:
            self._container = av.open(target, "w", format=container, options=options)
            self._stream: Any = self._container.add_stream("aac", rate=rate, layout="mono")
            self._stream.bit_rate = _AAC_BIT_RATE
        except (av.error.FFmpegError, ValueError) as error:
            raise AudioError(
                f"got {format} at {rate} Hz, which FFmpeg refuses ({error}); its build must have an AAC encoder: "
                "use wav, or install another build of av"
            ) from error

    def write(self, samples: np.ndarray) -> None:
        if not len(samples):
            return
        clipped = np.ascontiguousarray(np.clip(samples, -1.0, 1.0)[np.newaxis])
        frame = self._av.AudioFrame.from_ndarray(clipped, format="fltp", layout="mono")
        frame.sample_rate = self._rate
        frame.time_base = Fraction(1, self._rate)
        frame.pts = self._num_samples
        self._num_samples += len(samples)
        self._encode(frame)

    def close(self) -> None:
        self._encode(None)
        try:
            self._container.close()
        except self._av.error.FFmpegError as error:
            raise _encoder_failed(error) from error

    def __del__(self) -> None:
        # A stream that is abandoned must be closed here: the garbage collector takes the container apart
        # in an order that crashes PyAV 12. Nobody can be told of an error any more.
        container = getattr(self, "_container", None)
        if container is not None:
            with suppress(Exception):
                container.close()

    def _encode(self, frame: Any) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except self._av.error.FFmpegError as error:
            raise _encoder_failed(error) from error


class _ForwardSink:
    """A sink without a way back."""

    def __init__(self, sink: MemorySink) -> None:
        self.write = sink.write
