"""Audio: finished speech with its samples, its segments and what it took; and reading an utterance into one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from voxtral.captions.formats import check_style, encode, format_for_path, render
from voxtral.disk import why, write_whole
from voxtral.errors import AudioError, GenerationError, OptionError
from voxtral.types import FinishReason, SegmentInfo, SpeechStats, SpokenLanguage, WordTime

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from voxtral.speech.utterance import SpeechHandle


@dataclass(frozen=True, eq=False)
class Audio:
    """Speech in memory.

    Attributes:
        samples: [S] float32, mono, about -1 to 1 (files are clipped, the samples are not).
        sample_rate: samples per second.
        segments: the parts of the text and where each is heard; empty for decoded codes.
        finish_reason: "end", "length" (an explicit max_frames ran out in some segment) or "retried".
        stats: what it took; None for decoded codes.
        language: that chose the voice and the rules of normalisation, and what chose it; None for decoded codes.
        text: as given; empty for decoded codes.
    """

    samples: npt.NDArray[np.float32]
    sample_rate: int
    segments: tuple[SegmentInfo, ...] = ()
    finish_reason: FinishReason = "end"
    stats: SpeechStats | None = None
    language: SpokenLanguage | None = None
    text: str = ""

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self.samples) / self.sample_rate

    @property
    def seed(self) -> int | None:
        """The seed that makes the same samples again."""
        return self.stats.seed if self.stats else None

    @property
    def words(self) -> tuple[WordTime, ...]:
        """When each word is heard, in order; empty where timestamps were not wanted."""
        return tuple(word for segment in self.segments for word in segment.words)

    def numpy(self) -> npt.NDArray[np.float32]:
        """Return the samples."""
        return self.samples

    def __len__(self) -> int:
        return len(self.samples)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file; the extension chooses the format: wav flac mp3 opus ogg aac m4a.

        The file appears complete or not at all; an existing one is replaced at the end.

        Raises:
            AudioError: the extension is unknown, a needed extra is not installed, or writing fails.
        """
        from voxtral.audio.file import AudioFileWriter

        with AudioFileWriter(path, self.sample_rate) as writer:
            writer.write(self.samples)

    def save_captions(self, path: str | os.PathLike[str], style: str | None = None) -> None:
        """Write captions; the extension chooses the format: srt vtt json lrc. docs/CAPTIONS.md has the rules.

        The file appears complete or not at all; an existing one is replaced at the end.

        Args:
            path: of the file.
            style: "karaoke" for a vtt with the time of each word, "elevenlabs" for a json with that of each character.

        Raises:
            AudioError: the extension is unknown, or writing fails.
            OptionError: the format has no such style, or the times of the words were not wanted.
        """
        format = format_for_path(path)
        check_style(format, style)
        if not self.words:
            raise OptionError(
                "the audio has no times of words; captions are made of them; speak the text with timestamps=True"
            )
        write_captions(path, render(format, self.text, self.segments, self.duration, style))


def write_captions(path: str | os.PathLike[str], document: str) -> None:
    """Write captions into a file that appears complete or not at all.

    Raises:
        AudioError: the disk refuses.
    """
    try:
        write_whole(Path(path), encode(document))
    except (OSError, ValueError) as error:
        raise AudioError(
            f"the captions {os.fsdecode(path)} cannot be written ({why(error)}); their folder must be there, be "
            "writable and have room; choose another place"
        ) from error


def collect(handle: SpeechHandle, sample_rate: int, text: str) -> Audio:
    """Read an utterance of a text to its end, into memory.

    Raises:
        GenerationError: a segment failed twice; its `audio` has what was made.
        EngineError: as `SpeechHandle.chunks`.
    """
    import numpy as np

    parts: list[npt.NDArray[np.float32]] = []
    try:
        parts.extend(chunk.samples for chunk in handle.chunks())
    except GenerationError as error:
        made = [*parts, error.audio] if error.audio is not None else parts
        error.audio = np.concatenate(made) if made else None
        raise
    return Audio(
        np.concatenate(parts), sample_rate, handle.segments, handle.finish_reason, handle.stats, handle.language, text
    )
