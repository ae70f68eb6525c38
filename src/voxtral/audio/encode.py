"""Samples to bytes of eight formats and three raw kinds, piece by piece, for streams and for files.

One encoder per format writes into memory; a stream takes the bytes as they come, a file also takes the corrections
that a container makes to its own header at the end. It knows no model and touches no disk;
`voxtral.audio.file` writes files with it.
"""

from __future__ import annotations

import os
from typing import Any, Protocol

import numpy as np

from voxtral.audio.pcm import check_samples
from voxtral.audio.writers import MemorySink, bit_rates_of, open_writer
from voxtral.errors import AudioError, quoted

FORMATS: tuple[str, ...] = ("wav", "flac", "mp3", "opus", "ogg", "aac", "m4a", "pcm")
"""opus is Ogg Opus, ogg is Ogg Vorbis, aac is ADTS, m4a is AAC in MP4, pcm is 16-bit little-endian without a header."""

RAW_FORMATS: tuple[str, ...] = ("f32", "ulaw", "alaw")
"""Samples without a header that no file is made of: 32-bit floats, little-endian, and G.711 of one byte, for 8 kHz."""

MIN_RATE = 4000
MAX_RATE = 384000

_CONTENT_TYPES = {
    "wav": "audio/wav",
    "flac": "audio/flac",
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "ogg": "audio/ogg",
    "aac": "audio/aac",
    "m4a": "audio/mp4",
    "pcm": "audio/pcm",
    "f32": "audio/pcm",
    "ulaw": "audio/PCMU",
    "alaw": "audio/PCMA",
}

_EXTENSIONS = {
    ".wav": "wav",
    ".flac": "flac",
    ".mp3": "mp3",
    ".opus": "opus",
    ".ogg": "ogg",
    ".oga": "ogg",
    ".aac": "aac",
    ".m4a": "m4a",
    ".mp4": "m4a",
    ".pcm": "pcm",
    ".raw": "pcm",
}

# The rates that a codec knows; what is not listed takes any. Source: RFC 6716 section 2 (Opus),
# ISO 11172-3 and 13818-3 with the common 2.5 extension (MP3), ISO 14496-3 table 1.18 (AAC).
_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
_RATES = {
    "opus": (8000, 12000, 16000, 24000, 48000),
    "mp3": (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
    "aac": _AAC_RATES,
    "m4a": _AAC_RATES,
    "ulaw": (8000,),
    "alaw": (8000,),
}

# libsndfile crashes or slows down on very long writes of some codecs, and short ones keep the memory small.
_WRITE_SAMPLES = 65536


class StreamEncoder(Protocol):
    """Turns one stream of mono float32 samples into bytes.

    Attributes:
        content_type: the media type of the bytes.
    """

    content_type: str

    def write(self, samples: np.ndarray) -> bytes:
        """Encode the next samples [S] and return the bytes that are ready, possibly none."""
        ...

    def finish(self) -> bytes:
        """End the stream and return its last bytes."""
        ...


def format_for_path(path: str | os.PathLike[str]) -> str:
    """Name the format that belongs to the extension of a path, in any case.

    Raises:
        AudioError: the extension is missing or unknown.

    >>> format_for_path("speech.MP3")
    'mp3'
    """
    name = os.fsdecode(path)
    extension = os.path.splitext(name)[1].lower()
    if extension not in _EXTENSIONS:
        known = " ".join(_EXTENSIONS)
        raise AudioError(
            f"got the path {name!r} with the extension {extension!r}; the extension names the format, "
            f"one of {known}: rename the file or give the format"
        )
    return _EXTENSIONS[extension]


def open_encoder(format: str, sample_rate: int) -> StreamEncoder:
    """Start an encoder whose bytes can be sent as they come.

    A stream cannot go back to its header, so wav says that its length is unknown, flac leaves the number of samples
    out, as its standard allows, and m4a is cut into fragments. Every player takes these; a program that wants the
    length first (for flac, `soundfile.read` is one) wants `encode` or a file.

    Sound leaves as early as the container allows. Of 24 kHz speech in pieces of 80 ms, its first bytes come with this
    piece:

        wav pcm flac mp3 opus    1
        aac                      2   FFmpeg's encoder looks one block of 43 ms ahead
        m4a                      4   a fragment has 200 ms
        ogg                     ~8   pages of 4 kB, by libsndfile

    An encoder may be called from one thread after another, by one at a time.

    Args:
        format: one of `FORMATS`.
        sample_rate: of the samples, in Hz. Opus, mp3, aac and m4a are resampled where they do not know it.

    Raises:
        AudioError: an unknown format, a rate that is not whole Hz from 4000 to 384000, or PyAV is needed and missing.
    """
    return ContainerEncoder(format, sample_rate, is_seekable=False)


def encode(samples: np.ndarray, format: str, sample_rate: int) -> bytes:
    """Encode all samples at once, with a header that tells their true length.

    Args:
        samples: [S] float32.
        format: one of `FORMATS`.
        sample_rate: of the samples, in Hz.

    Raises:
        AudioError: as `open_encoder`, and as `ContainerEncoder.write` and `finish`.
    """
    encoder = ContainerEncoder(format, sample_rate, is_seekable=True)
    data = bytearray(encoder.write(samples))
    data += encoder.finish()
    for position, correction in encoder.corrections:
        data[position : position + len(correction)] = correction
    return bytes(data)


class ContainerEncoder:
    """The encoder behind streams and files.

    Args:
        format: one of `FORMATS` or `RAW_FORMATS`.
        sample_rate: of the samples, in Hz.
        is_seekable: whether `corrections` will be applied. If not, the container is laid out so that none is needed.
        output_rate: of the sound in the container; None is the lowest that the codec knows and that loses nothing.
        bit_rate: for mp3 and opus, in bit/s; None is ours. Mp3 has the nearest that the codec knows, exactly; Opus
            comes near it, and varies with the sound.

    Attributes:
        content_type: the media type of the bytes.
        num_samples: that have been written, at their own rate.
        output_rate: of the sound in the container, in Hz.

    Raises:
        AudioError: as `open_encoder`; or the codec does not know the output rate, or the bit rate at it.
    """

    def __init__(
        self,
        format: str,
        sample_rate: int,
        *,
        is_seekable: bool,
        output_rate: int | None = None,
        bit_rate: int | None = None,
    ) -> None:
        _check_arguments(format, sample_rate)
        self.content_type = _CONTENT_TYPES[format]
        self.num_samples = 0
        self.output_rate = _codec_rate(format, sample_rate) if output_rate is None else _known(format, output_rate)
        if bit_rate is not None:
            _check_bit_rate(format, self.output_rate, bit_rate)
        self._format = format
        self._is_seekable = is_seekable
        self._is_started = False
        self._is_finished = False
        self._sink = MemorySink()
        self._resampler = _open_resampler(sample_rate, self.output_rate)
        self._writer = open_writer(format, self.output_rate, self._sink, is_seekable=is_seekable, bit_rate=bit_rate)

    @property
    def corrections(self) -> list[tuple[int, bytes]]:
        """Bytes to write over what was already returned, as (position, bytes); complete after `finish`."""
        return self._sink.corrections

    def write(self, samples: np.ndarray) -> bytes:
        """Encode the next samples.

        Args:
            samples: [S], of a float kind, clipped to [-1, 1].

        Returns:
            The bytes that are ready, possibly none.

        Raises:
            AudioError: samples that are not mono, float and finite; the stream is finished; the encoder failed;
                or a wav file is full.
        """
        if self._is_finished:
            raise AudioError("got samples after finish(); an encoder makes one stream: open another encoder")
        samples = check_samples(samples)
        self.num_samples += len(samples)
        for start in range(0, len(samples), _WRITE_SAMPLES):
            piece = samples[start : start + _WRITE_SAMPLES]
            if self._resampler is not None:
                piece = self._resampler.resample_chunk(np.ascontiguousarray(piece))
            self._writer.write(piece)
        return self._drain()

    def finish(self) -> bytes:
        """End the stream.

        Returns:
            The last bytes.

        Raises:
            AudioError: the stream is already finished, holds no samples though only wav and pcm may, or the encoder
                failed.
        """
        if self._is_finished:
            raise AudioError("got a second finish(); an encoder makes one stream: open another encoder")
        if not self.num_samples and self._format not in ("wav", "pcm", *RAW_FORMATS):
            raise AudioError(
                f"got no samples for {self._format}; only wav and pcm may be empty: write some samples first"
            )
        self._is_finished = True
        if self._resampler is not None:
            self._writer.write(self._resampler.resample_chunk(np.zeros(0, dtype=np.float32), last=True))
        self._writer.close()
        return self._drain()

    def _drain(self) -> bytes:
        """Return the bytes that the writer has made."""
        data = self._sink.drain()
        if data and not self._is_started:
            self._is_started = True
            if self._format == "mp3" and not self._is_seekable:
                return _without_info_frame(data)
        return data


def _check_arguments(format: str, sample_rate: int) -> None:
    if format not in (*FORMATS, *RAW_FORMATS):
        raise AudioError(f"got the format {quoted(format)}; it is one of {', '.join(FORMATS)}: choose one of these")
    if not isinstance(sample_rate, int) or not MIN_RATE <= sample_rate <= MAX_RATE:
        raise AudioError(
            f"got a sample rate of {sample_rate!r} Hz; it is a whole number from {MIN_RATE} to {MAX_RATE}: "
            "pass the rate of the samples"
        )


def _codec_rate(format: str, sample_rate: int) -> int:
    """Choose the lowest rate the codec knows that loses nothing, or the highest there is."""
    rates = _RATES.get(format, (sample_rate,))
    return min((rate for rate in rates if rate >= sample_rate), default=rates[-1])


def _known(format: str, rate: int) -> int:
    """Refuse a rate that a codec does not know."""
    rates = _RATES.get(format)
    if (rates is None and MIN_RATE <= rate <= MAX_RATE) or (rates is not None and rate in rates):
        return rate
    choices = (
        f"a whole number from {MIN_RATE} to {MAX_RATE}" if rates is None else f"one of {', '.join(map(str, rates))}"
    )
    raise AudioError(f"got {rate} Hz for {format}; its rate is {choices}: choose another rate or format")


def _check_bit_rate(format: str, rate: int, bit_rate: int) -> None:
    """Refuse a bit rate that a codec does not know."""
    bit_rates = bit_rates_of(format, rate)
    if bit_rates is None or not bit_rates[0] <= bit_rate <= bit_rates[1]:
        choices = "chosen for mp3 and opus" if bit_rates is None else f"from {bit_rates[0]} to {bit_rates[1]} bit/s"
        raise AudioError(
            f"got {bit_rate} bit/s for {format} at {rate} Hz; a bit rate is {choices}: choose another, or leave it out"
        )


def _open_resampler(sample_rate: int, rate: int) -> Any | None:
    if rate == sample_rate:
        return None
    import soxr

    return soxr.ResampleStream(sample_rate, rate, 1, dtype="float32", quality="HQ")


def _without_info_frame(data: bytes) -> bytes:
    """Drop the empty first frame of an MP3, which is only there to be filled in at the end.

    Left in a stream, it is heard as silence and counted as sound.
    """
    end = data.find(b"\xff", 4)
    end = len(data) if end < 0 else end
    return data if any(data[4:end]) else data[end:]
