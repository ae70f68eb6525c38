"""Captions as files: srt, vtt, lrc and json. UTF-8, and lines end with a line feed alone.

Sources: WebVTT (W3C), which has escapes and times inside of cues; srt and lrc have no specification, and are written so
that what a text holds is never taken for a time or a tag: an invisible word joiner stands inside of it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence

from voxtral.captions.alignment import align_characters
from voxtral.captions.cues import Cue, Part, cut_cues, join
from voxtral.errors import AudioError, OptionError, quoted
from voxtral.types import SegmentInfo

FORMATS = ("srt", "vtt", "json", "lrc")
"""Names of formats, which are the extensions of their files too."""

STYLES = {"vtt": ("karaoke",), "json": ("elevenlabs",)}
"""Other ways to write a format than the plain one."""

_JOINER = "\u2060"

# An arrow, what players take for a tag of HTML or of ASS, and a character reference, which some of them resolve.
_SRT_MARKS = re.compile(r"(?<=--)(?=>)|(?<=<)(?=[A-Za-z/!])|(?<=\{)(?=[\\/A-Za-z])|(?<=&)(?=#?\w+;)")
# A time before a line, and one before a word.
_LRC_MARKS = re.compile(r"^(?=\[)|(?<=<)(?=\d)")

# Where nothing is heard for so long, the line before is taken away.
_LRC_SILENCE_MS = 1000

_VTT_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def format_for_path(path: str | os.PathLike[str]) -> str:
    """Choose the format by the extension of a path.

    Raises:
        AudioError: it is none of a format.
    """
    name = os.path.basename(os.fsdecode(path))
    extension = os.path.splitext(name)[1].removeprefix(".").lower()
    if extension not in FORMATS:
        raise AudioError(
            f"got {quoted(name)} for captions; the extension chooses their format, and must be one of "
            f"{', '.join(FORMATS)}; rename it"
        )
    return extension


def check_style(format: str, style: str | None) -> None:
    """Refuse a style that a format does not have.

    Raises:
        OptionError: the format is unknown, or it has no such style.
    """
    if format not in FORMATS:
        raise OptionError(f"format is {quoted(format)}; it must be one of {', '.join(FORMATS)}; choose one")
    styles = STYLES.get(format, ())
    if style is not None and style not in styles:
        known = " or ".join(f'"{name}"' for name in styles) or "no style but the plain one"
        raise OptionError(f"style is {quoted(style)}; {format} has {known}; leave it out, or choose another extension")


def render(format: str, text: str, segments: Sequence[SegmentInfo], duration_s: float, style: str | None = None) -> str:
    """Write captions.

    Args:
        format: one of FORMATS.
        text: that was spoken, as given.
        segments: of its speech, in order.
        duration_s: of the audio.
        style: one of STYLES, or None for the plain one.

    Raises:
        OptionError: as `check_style`.
    """
    check_style(format, style)
    if format == "json":
        as_characters = style == "elevenlabs"
        document = (
            align_characters(text, segments).to_dict() if as_characters else _document(text, segments, duration_s)
        )
        return json.dumps(document, ensure_ascii=False) + "\n"
    cues = cut_cues(text, segments)
    if format == "lrc":
        return _lrc(cues)
    if format == "srt":
        return _srt(cues)
    return _vtt(cues, has_times=style == "karaoke")


def encode(document: str) -> bytes:
    """Make the bytes of a file; half a surrogate, which UTF-8 has not, is a question mark."""
    return document.encode("utf-8", "replace")


def _srt(cues: list[Cue]) -> str:
    blocks: list[str] = []
    for number, cue in enumerate(cues, start=1):
        times = f"{_clock(cue.start_ms, ',')} --> {_clock(cue.end_ms, ',')}"
        blocks.append("\n".join([str(number), times, *(_SRT_MARKS.sub(_JOINER, line) for line in cue.texts)]))
    return "".join(f"{block}\n\n" for block in blocks)


def _vtt(cues: list[Cue], *, has_times: bool) -> str:
    write: Callable[[Cue], list[str]] = _karaoke_lines if has_times else _plain_lines
    blocks = [
        "\n".join([f"{_clock(cue.start_ms)} --> {_clock(cue.end_ms)}", *(line for line in write(cue))]) for cue in cues
    ]
    return "WEBVTT\n\n" + "".join(f"{block}\n\n" for block in blocks)


def _plain_lines(cue: Cue) -> list[str]:
    return [line.translate(_VTT_ESCAPES) for line in cue.texts]


def _karaoke_lines(cue: Cue) -> list[str]:
    """Write a time before each word that begins later than what is before it, and while the cue is seen."""
    lines: list[str] = []
    last_ms = cue.start_ms
    for line in cue.lines:
        parts: list[Part] = []
        for part in line:
            shown = part.text.translate(_VTT_ESCAPES)
            if last_ms < part.start_ms < cue.end_ms:
                last_ms = part.start_ms
                shown = f"<{_clock(last_ms)}>{shown}"
            parts.append(Part(shown, part.start_ms, part.has_space))
        lines.append(join(parts))
    return lines


def _lrc(cues: list[Cue]) -> str:
    lines: list[str] = []
    for index, cue in enumerate(cues):
        shown = join(part for line in cue.lines for part in line)
        lines.append(f"[{_minutes(cue.start_ms)}]{_LRC_MARKS.sub(_JOINER, shown)}")
        if index + 1 == len(cues) or cues[index + 1].start_ms - cue.end_ms > _LRC_SILENCE_MS:
            lines.append(f"[{_minutes(cue.end_ms)}]")
    return "".join(f"{line}\n" for line in lines)


def _clock(ms: int, point: str = ".") -> str:
    """Write a time.

    >>> _clock(363_723_004)
    '101:02:03.004'
    """
    seconds, ms = divmod(ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{ms:03}"


def _minutes(ms: int) -> str:
    minutes, ms = divmod(ms, 60_000)
    return f"{minutes:02}:{ms // 1000:02}.{ms % 1000 // 10:02}"


def _document(text: str, segments: Sequence[SegmentInfo], duration_s: float) -> dict[str, object]:
    """Write all that is known; segments and words as they are, nothing made up."""
    return {
        "version": 1,
        "duration": round(duration_s, 4),
        "segments": [
            {
                "text": text[segment.text_start : segment.text_end],
                "text_start": segment.text_start,
                "text_end": segment.text_end,
                "start": round(segment.start_s, 4),
                "end": round(segment.end_s, 4),
                "timing": segment.timing,
                "words": [
                    {
                        "text": text[word.text_start : word.text_end],
                        "text_start": word.text_start,
                        "text_end": word.text_end,
                        "start": round(word.start_s, 4),
                        "end": round(word.end_s, 4),
                        "confidence": round(word.confidence, 4),
                    }
                    for word in segment.words
                ],
                **({} if segment.check is None else {"check": segment.check.to_dict()}),
            }
            for segment in segments
        ],
    }
