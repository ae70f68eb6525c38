"""Audio: finished speech with its samples, its segments and what it took; and reading an utterance into one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from voxtral.errors import GenerationError
from voxtral.types import FinishReason, SegmentInfo, SpeechStats, SpokenLanguage

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
    """

    samples: npt.NDArray[np.float32]
    sample_rate: int
    segments: tuple[SegmentInfo, ...] = ()
    finish_reason: FinishReason = "end"
    stats: SpeechStats | None = None
    language: SpokenLanguage | None = None

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self.samples) / self.sample_rate

    @property
    def seed(self) -> int | None:
        """The seed that makes the same samples again."""
        return self.stats.seed if self.stats else None

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


def collect(handle: SpeechHandle, sample_rate: int) -> Audio:
    """Read an utterance to its end, into memory.

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
        np.concatenate(parts), sample_rate, handle.segments, handle.finish_reason, handle.stats, handle.language
    )
