"""The AAC of one chapter as a stretch of the AAC of the book, made alone and kept, so that it need not be made again.

All stretches lie on one grid of blocks that begins with the book, and together they are one stream: each is encoded
behind the last samples of the chapter before, whose frames are dropped, so that the frames on both sides of a seam say
the same of what they share. Chapters begin at any sample. What is kept is a playable file, and beside it what the next
chapter wants to know.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from voxtral.audio.pcm import check_samples
from voxtral.book.output.aac import BIT_RATE, BLOCK_SAMPLES, AacEncoder, AdtsReader, with_header
from voxtral.disk import temporary_beside, write_whole
from voxtral.errors import AudioError

# Blocks of the chapter before that an encoder hears before its own: as many as its choices look back.
_LEAD_BLOCKS = 4
_FORMAT = 1
_READ_BYTES = 2**18
_KEY_CHARS = 32

FrameTaker = Callable[[list[bytes], bytes], None]
"""Takes frames and their AudioSpecificConfig."""


@dataclass(frozen=True)
class Stretch:
    """What a chapter leaves to the next one.

    Attributes:
        num_samples: of the chapter.
        tail: [T] float32, the last samples of the book so far: whole blocks, and what is left of the last one.
        was_kept: whether it was read instead of made.
    """

    num_samples: int
    tail: np.ndarray
    was_kept: bool


def first_tail() -> np.ndarray:
    """Return what is before a book: silence."""
    return np.zeros(_LEAD_BLOCKS * BLOCK_SAMPLES, dtype=np.float32)


@dataclass(frozen=True)
class PartMaker:
    """Makes stretches.

    Attributes:
        encoder: to make them with.
        sample_rate: in Hz.
        folder: where they are kept; None keeps nothing.
    """

    encoder: AacEncoder
    sample_rate: int
    folder: Path | None = None

    def make(
        self,
        blocks: Iterable[np.ndarray],
        digest: str | None,
        tail: np.ndarray,
        take: FrameTaker,
        *,
        is_last: bool,
    ) -> Stretch:
        """Make or read the stretch of a chapter.

        Args:
            blocks: of its samples; not asked for where the stretch was kept.
            digest: of all that its samples depend on; None: it is not kept.
            tail: what the chapter before left, or `first_tail`.
            take: gets the frames.
            is_last: whether the book ends with it; its last block is then filled with silence.

        Raises:
            AudioError: the encoder failed, samples are not mono, float and finite, or the disk failed.
        """
        if self.folder is None or digest is None:
            return self._encode(blocks, tail, take, None, is_last=is_last)
        path = self.folder / f"{self._key(digest, tail, is_last=is_last)}.aac"
        kept = _read_notes(path)
        if kept is not None and _is_whole(path, kept[1]):
            _read_frames(path, take)
            return kept[0]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            partial = temporary_beside(path)
            try:
                stretch = self._encode(blocks, tail, take, partial, is_last=is_last)
                _write_notes(path, stretch, partial.stat().st_size)
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
        except OSError as error:
            raise AudioError(
                f"got an error while writing {str(path)!r} ({error.strerror or error}); "
                "chapters that are done are kept there: make room and try again"
            ) from error
        return stretch

    def _key(self, digest: str, tail: np.ndarray, *, is_last: bool) -> str:
        """Name a stretch by all that its frames depend on."""
        about = [_FORMAT, self.encoder.kind, self.sample_rate, BIT_RATE, _LEAD_BLOCKS, is_last, digest]
        data = json.dumps(about).encode() + tail.astype("<f4", copy=False).tobytes()
        return hashlib.sha256(data).hexdigest()[:_KEY_CHARS]

    def _encode(
        self, blocks: Iterable[np.ndarray], tail: np.ndarray, take: FrameTaker, keep: Path | None, *, is_last: bool
    ) -> Stretch:
        phase = len(tail) - _LEAD_BLOCKS * BLOCK_SAMPLES
        num_samples, kept_tail = 0, tail
        file = keep.open("wb") if keep is not None else None
        try:
            with closing(self.encoder.open(self.sample_rate)) as stream:
                window = _Window(_LEAD_BLOCKS, take, file)
                window.push(stream.write(tail))
                for block in blocks:
                    samples = check_samples(block)
                    num_samples += len(samples)
                    kept_tail = np.concatenate([kept_tail, samples])[-(_LEAD_BLOCKS + 1) * BLOCK_SAMPLES :]
                    window.push(stream.write(samples))
                own_blocks = (phase + num_samples) // BLOCK_SAMPLES
                rest = (phase + num_samples) % BLOCK_SAMPLES
                if rest:
                    # Only the last block of the book is filled with silence; else it is the next chapter's.
                    window.push(stream.write(np.zeros(BLOCK_SAMPLES - rest, dtype=np.float32)))
                    own_blocks += is_last
                window.push(stream.finish())
                # Behind the last block of all comes the frame that gives out its second half.
                window.finish(own_blocks + is_last)
        finally:
            if file is not None:
                file.close()
        size = _LEAD_BLOCKS * BLOCK_SAMPLES + rest
        return Stretch(num_samples, kept_tail[len(kept_tail) - size :], was_kept=False)


class _Window:
    """Passes on the frames from one place to another, as far as it is known where that is."""

    # The last frames an encoder makes cover silence behind the end: two at most, filled block and flush.
    _HELD = 2

    def __init__(self, skip: int, take: FrameTaker, file: Any) -> None:
        self._reader = AdtsReader()
        self._skip, self._take, self._file = skip, take, file
        self._held: list[bytes] = []
        self._num_given = 0

    def push(self, data: bytes) -> None:
        frames = self._reader.push(data)
        skipped = min(self._skip, len(frames))
        self._skip -= skipped
        self._held += frames[skipped:]
        if len(self._held) > self._HELD:
            self._give(self._held[: -self._HELD])
            del self._held[: -self._HELD]

    def finish(self, num_frames: int) -> None:
        """Give out the rest, as many as there are to be in all."""
        self._reader.finish()
        missing = num_frames - self._num_given
        if not 0 <= missing <= len(self._held):
            raise AudioError(
                f"got {self._num_given + len(self._held)} frames from the AAC encoder where {num_frames} were to come; "
                "make the file again, with another format if that does not help"
            )
        self._give(self._held[:missing])

    def _give(self, frames: list[bytes]) -> None:
        config = self._reader.config
        if not frames or config is None:
            return
        self._num_given += len(frames)
        if self._file is not None:
            self._file.write(b"".join(with_header(frame, config) for frame in frames))
        self._take(frames, config)


def _notes_path(path: Path) -> Path:
    return path.with_suffix(".json")


def _write_notes(path: Path, stretch: Stretch, num_bytes: int) -> None:
    tail = base64.b64encode(stretch.tail.astype("<f4", copy=False).tobytes()).decode("ascii")
    notes = {"format": _FORMAT, "num_samples": stretch.num_samples, "num_bytes": num_bytes, "tail": tail}
    write_whole(_notes_path(path), json.dumps(notes).encode())


def _read_notes(path: Path) -> tuple[Stretch, int] | None:
    """Read what is known of a stretch that was kept, and its file's size; None where nothing is, or it is damaged."""
    try:
        notes = json.loads(_notes_path(path).read_bytes())
        tail = np.frombuffer(base64.b64decode(notes["tail"], validate=True), dtype="<f4").astype(np.float32)
        stretch = Stretch(int(notes["num_samples"]), tail, was_kept=True)
        is_known = notes["format"] == _FORMAT and 0 <= len(tail) // BLOCK_SAMPLES - _LEAD_BLOCKS < 1
        return (stretch, int(notes["num_bytes"])) if is_known else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_whole(path: Path, num_bytes: int) -> bool:
    """Walk through a file of frames."""
    try:
        if path.stat().st_size != num_bytes:
            return False
        for _ in _frames(path):
            pass
    except (OSError, AudioError):
        return False
    return True


def _read_frames(path: Path, take: FrameTaker) -> None:
    try:
        for frames, config in _frames(path):
            take(frames, config)
    except OSError as error:
        raise AudioError(f"{str(path)!r} cannot be read ({error.strerror}); remove it and try again") from error


def _frames(path: Path) -> Iterator[tuple[list[bytes], bytes]]:
    reader = AdtsReader()
    with path.open("rb") as file:
        while data := file.read(_READ_BYTES):
            frames = reader.push(data)
            if frames and reader.config is not None:
                yield frames, reader.config
    reader.finish()
