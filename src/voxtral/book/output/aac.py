"""AAC frames, by PyAV or an ffmpeg program, and what separately made stretches of them need to be one stream.

An encoder turns blocks of 1024 samples into frames; each frame covers two blocks, the one before and its own, so one
frame more than there are blocks, and a player drops the first block, which is none. The licences of both encoders are
told in the README, "Optional formats". Read next: `voxtral.book.output.parts`.

Source: ISO 14496-3, 1.A.2 (ADTS) and 1.6 (AudioSpecificConfig).
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from voxtral.audio.encode import ContainerEncoder
from voxtral.errors import AacEncoderMissingError, AudioError

BLOCK_SAMPLES = 1024
"""Of a frame; also the encoder's delay."""

BIT_RATE = 64_000

_HEADER_BYTES, _CHECKED_HEADER_BYTES = 7, 9
_TRIAL_TIMEOUT_S = 30.0
_PIPE_BYTES = 65536


class AacStream(Protocol):
    """One stream of frames being made."""

    def write(self, samples: np.ndarray) -> bytes:
        """Take the next samples [S] float32 and return what is ready, as ADTS."""
        ...

    def finish(self) -> bytes:
        """End the stream and return its last bytes."""
        ...

    def close(self) -> None:
        """Give everything back, also in the middle; may be called again."""
        ...


@dataclass(frozen=True)
class AacEncoder:
    """What makes AAC on this machine.

    Attributes:
        kind: "av" for PyAV, "ffmpeg" for a program.
        program: where that is.
    """

    kind: Literal["av", "ffmpeg"]
    program: str = ""

    def open(self, sample_rate: int) -> AacStream:
        """Begin a stream.

        Raises:
            AudioError: the encoder does not start, or AAC does not know the rate.
        """
        return _AvStream(sample_rate) if self.kind == "av" else _FfmpegStream(self.program, sample_rate)


def find_aac_encoder() -> AacEncoder:
    """Find what makes AAC here, and try it; to be asked before hours of speech are made.

    Raises:
        AacEncoderMissingError: there is nothing.
    """
    if _makes_frames(AacEncoder("av")):
        return AacEncoder("av")
    program = shutil.which("ffmpeg")
    if program is not None and _makes_frames(AacEncoder("ffmpeg", program)):
        return AacEncoder("ffmpeg", program)
    raise AacEncoderMissingError(
        "an m4b needs an AAC encoder, and neither PyAV nor a working ffmpeg program is here: "
        "run pip install 'voxtral-tts[av]', install ffmpeg, or choose another format with --format mp3"
    )


def _makes_frames(encoder: AacEncoder) -> bool:
    """Make a few frames of silence."""
    try:
        stream = encoder.open(24000)
        try:
            data = stream.write(np.zeros(2 * BLOCK_SAMPLES, dtype=np.float32)) + stream.finish()
            return len(AdtsReader().push(data)) == 3
        finally:
            stream.close()
    except AudioError:
        return False


class _AvStream:
    """Frames by PyAV."""

    def __init__(self, sample_rate: int) -> None:
        self._encoder = ContainerEncoder("aac", sample_rate, is_seekable=False, output_rate=sample_rate)
        # An interrupt is raised in the main thread, where it could get lost in the library's callbacks.
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="voxtral-encoder")

    def write(self, samples: np.ndarray) -> bytes:
        return self._worker.submit(self._encoder.write, samples).result()

    def finish(self) -> bytes:
        return self._worker.submit(self._encoder.finish).result()

    def close(self) -> None:
        self._worker.shutdown()


class _FfmpegStream:
    """Frames by a program, with its own encoder of AAC, which every build has."""

    def __init__(self, program: str, sample_rate: int) -> None:
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115 (closed in close)
        self._ready = bytearray()
        self._lock = threading.Lock()
        command = [
            *(program, "-v", "error", "-nostdin", "-f", "f32le", "-ar", str(sample_rate), "-ac", "1", "-i", "pipe:0"),
            *("-c:a", "aac", "-b:a", str(BIT_RATE), "-f", "adts", "pipe:1"),
        ]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._messages,
                start_new_session=True,  # an interrupt is for this program, which then ends that one
            )
        except OSError as error:
            self._messages.close()
            raise AudioError(f"{program} does not start ({error.strerror}); install it again, or PyAV") from error
        self._reader = threading.Thread(target=self._read, name="voxtral-ffmpeg", daemon=True)
        self._reader.start()

    def write(self, samples: np.ndarray) -> bytes:
        stdin = self._process.stdin
        try:
            if stdin is not None:
                stdin.write(np.clip(samples, -1.0, 1.0).astype("<f4", copy=False).tobytes())
        except OSError as error:
            raise self._failed() from error
        return self._take()

    def finish(self) -> bytes:
        try:
            if self._process.stdin is not None:
                self._process.stdin.close()
        except OSError as error:
            raise self._failed() from error
        self._reader.join()
        if self._process.wait() != 0:
            raise self._failed()
        return self._take()

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout, self._messages):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:  # samples that nobody took
                continue

    def _read(self) -> None:
        stdout = self._process.stdout
        while stdout is not None and (data := stdout.read1(_PIPE_BYTES)):  # type: ignore[union-attr]
            with self._lock:
                self._ready += data

    def _take(self) -> bytes:
        with self._lock:
            data = bytes(self._ready)
            self._ready.clear()
        return data

    def _failed(self) -> AudioError:
        self._messages.seek(0)
        said = self._messages.read(400).decode("utf-8", "replace").strip() or "it said nothing"
        return AudioError(f"ffmpeg failed while it made AAC ({said}); the file is not written: make it again")


class AdtsReader:
    """Cuts a stream of ADTS into frames without their headers.

    Attributes:
        config: what a player must know of the frames (AudioSpecificConfig); None before the first one.
    """

    def __init__(self) -> None:
        self.config: bytes | None = None
        self._rest = b""

    def push(self, data: bytes) -> list[bytes]:
        """Take the next bytes and return the frames that are whole.

        Raises:
            AudioError: they are no ADTS, or change in the middle.
        """
        data = self._rest + data
        frames: list[bytes] = []
        at = 0
        while at + _HEADER_BYTES <= len(data):
            size = (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
            header_bytes = _HEADER_BYTES if data[at + 1] & 1 else _CHECKED_HEADER_BYTES
            # A sync word, layer 0, and one block in a frame.
            if data[at] != 0xFF or data[at + 1] & 0xF6 != 0xF0 or data[at + 6] & 3 or size < header_bytes:
                raise AudioError("got bytes from the AAC encoder that are no ADTS; make the file again")
            if at + size > len(data):
                break
            self._check(data[at : at + _HEADER_BYTES])
            frames.append(data[at + header_bytes : at + size])
            at += size
        self._rest = data[at:]
        return frames

    def finish(self) -> None:
        """Say that no more bytes come.

        Raises:
            AudioError: the last frame is cut.
        """
        if self._rest:
            raise AudioError("got AAC that ends within a frame; make the file again")

    def _check(self, header: bytes) -> None:
        kind = (header[2] >> 6) + 1
        rate = header[2] >> 2 & 15
        channels = (header[2] & 1) << 2 | header[3] >> 6
        config = bytes([kind << 3 | rate >> 1, (rate & 1) << 7 | channels << 3])
        if self.config not in (None, config):
            raise AudioError("got AAC whose rate or channels change within it; make the file again")
        self.config = config


def with_header(frame: bytes, config: bytes) -> bytes:
    """Put the header of ADTS before a frame, so that a file of such frames can be played."""
    size = len(frame) + _HEADER_BYTES
    kind, rate, channels = config[0] >> 3, (config[0] & 7) << 1 | config[1] >> 7, config[1] >> 3 & 15
    header = bytes(
        [
            *(0xFF, 0xF1, (kind - 1) << 6 | rate << 2 | channels >> 2),
            *((channels & 3) << 6 | size >> 11, size >> 3 & 0xFF, (size & 7) << 5 | 0x1F, 0xFC),
        ]
    )
    return header + frame
