"""How far a long speech or a batch is, as one moving line on standard error.

It reads the handles from the thread that redraws the line, so that the line moves while a segment is
under way. It never touches the audio.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from voxtral.jobs.run import BatchProgress
    from voxtral.speech.utterance import SpeechHandle
    from voxtral.types import SegmentInfo

_BAR_COLUMNS = 24
_REDRAWS_PER_S = 4


@dataclass(frozen=True)
class SpeechProgress:
    """A moment of a speech under way.

    Attributes:
        fraction: of the text, 0 to 1.
        made_s: seconds of audio made, retries included.
        compute_s: seconds that the engine has worked.
        elapsed_s: seconds since the start.
    """

    fraction: float
    made_s: float
    compute_s: float
    elapsed_s: float

    @property
    def rtf(self) -> float:
        """Compute seconds per audio second."""
        return self.compute_s / self.made_s if self.made_s else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds to go if the rest goes as the text so far did; None before the first segment is done."""
        return self.elapsed_s * (1.0 - self.fraction) / self.fraction if self.fraction else None

    def __str__(self) -> str:
        """Write the numbers.

        >>> str(SpeechProgress(fraction=0.25, made_s=80.0, compute_s=40.0, elapsed_s=45.0))
        '25 % of the text, 1:20 of audio, RTF 0.50, 2:15 left'
        """
        parts = [f"{self.fraction:.0%}".replace("%", " %") + " of the text", f"{clock(self.made_s)} of audio"]
        if self.made_s:
            parts.append(f"RTF {self.rtf:.2f}")
        if self.left_s is not None:
            parts.append(f"{clock(self.left_s)} left")
        return ", ".join(parts)


def batch_line(progress: BatchProgress) -> tuple[float, str]:
    """Write the numbers of a batch; RTF is of all side by side, seconds passed per second of audio.

    Returns:
        What `show_line` shows.

    >>> from voxtral.jobs.run import BatchProgress
    >>> batch_line(BatchProgress(num_made=3, num_failed=1, num_files=8, fraction=0.5, made_s=80.0, elapsed_s=20.0))
    (0.5, '3 of 8 files, 1 failed, 1:20 of audio, RTF 0.25, 0:20 left')
    """
    parts = [f"{progress.num_made} of {progress.num_files} files"]
    if progress.num_failed:
        parts.append(f"{progress.num_failed} failed")
    parts.append(f"{clock(progress.made_s)} of audio")
    if progress.made_s:
        parts.append(f"RTF {progress.elapsed_s / progress.made_s:.2f}")
    if progress.left_s is not None:
        parts.append(f"{clock(progress.left_s)} left")
    return progress.fraction, ", ".join(parts)


def clock(seconds: float) -> str:
    """Write a duration the way a player does.

    >>> clock(75.2), clock(3675)
    ('1:15', '1:01:15')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def show_progress(
    handle: SpeechHandle, num_characters: int, frames_per_s: float, console: Console | None = None
) -> Iterator[None]:
    """Show a line while the block runs, and take it away afterwards.

    Args:
        handle: the speech.
        num_characters: length of the text, in which its segments have their offsets.
        frames_per_s: frames in a second of the audio that is written, the speed included.
        console: where to draw; standard error by default.
    """
    started = time.perf_counter()

    def look() -> tuple[float, str]:
        stats, segments = handle.stats, handle.segments
        made_s = stats.num_frames / frames_per_s
        progress = SpeechProgress(
            fraction=_fraction(segments, made_s, num_characters),
            made_s=made_s,
            compute_s=stats.compute_s,
            elapsed_s=time.perf_counter() - started,
        )
        return progress.fraction, str(progress)

    with show_line(look, console):
        yield


def _fraction(segments: Sequence[SegmentInfo], made_s: float, num_characters: int) -> float:
    """Estimate how much of a text is spoken, by the audio that is made: several segments are under way at a time."""
    if not segments:
        return 0.0
    num_whole = segments[-1].text_end
    whole_s = sum(segment.end_s - segment.start_s for segment in segments)
    num_spoken = made_s * num_whole / whole_s if whole_s else 0.0
    return max(num_whole, min(num_spoken, 0.99 * num_characters)) / num_characters


@contextmanager
def show_line(look: Callable[[], tuple[float, str]], console: Console | None = None) -> Iterator[None]:
    """Show a bar and numbers while the block runs, and take them away afterwards.

    Args:
        look: tells how far the work is, 0 to 1, and the numbers beside the bar; called from the thread that draws.
        console: where to draw; standard error by default.
    """
    from rich.console import Console
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    def draw() -> RenderableType:
        fraction, numbers = look()
        line = Table.grid(padding=(0, 1))
        line.add_row(ProgressBar(total=1.0, completed=fraction, width=_BAR_COLUMNS), numbers)
        return line

    with Live(
        get_renderable=draw,
        console=console or Console(stderr=True),
        refresh_per_second=_REDRAWS_PER_S,
        transient=True,
        # What goes to standard output is audio or JSON, never for the screen.
        redirect_stdout=False,
    ):
        yield
