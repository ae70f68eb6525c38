"""Readers of captions that know nothing of how the package writes them.

WebVTT by the parsing algorithm of its specification (W3C, sections 6.1 to 6.5); srt and lrc as players read them, which
take the first thing that looks like a time for one.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class ReadCue:
    """A cue as somebody reads it: milliseconds, lines, and times inside of it."""

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]
    times_ms: tuple[int, ...] = ()


_SRT_TIMES = re.compile(r"(\d+):(\d\d):(\d\d)[,.](\d{3})\s*-->\s*(\d+):(\d\d):(\d\d)[,.](\d{3})")
_TAG = re.compile(r"</?[A-Za-z][^>]*>|\{\\[^}]*\}")


def read_srt(document: str) -> list[ReadCue]:
    assert "\r" not in document
    blocks: list[tuple[int, int, list[str]]] = []
    lines = document.split("\n")
    for index, line in enumerate(lines):
        found = _SRT_TIMES.search(line)
        if found:
            assert int(lines[index - 1]) == len(blocks) + 1
            if blocks:
                assert blocks[-1][2].pop() == lines[index - 1]  # the number is no line of the text before
            values = [int(value) for value in found.groups()]
            blocks.append((_ms(*values[:4]), _ms(*values[4:]), []))
        elif blocks:
            blocks[-1][2].append(line)
    cues = []
    for start_ms, end_ms, shown in blocks:
        shown = [_TAG.sub("", line) for line in shown]
        while shown and not shown[-1]:
            shown.pop()
        assert all(shown), "a blank line ends a cue"
        cues.append(ReadCue(start_ms, end_ms, tuple(_resolve(line) for line in shown)))
    return cues


def _resolve(line: str) -> str:
    return re.sub(r"&#?\w+;", lambda found: html.unescape(found.group()), line)


_VTT_TIMES = re.compile(r"(\d{2,}):(\d\d):(\d\d)\.(\d{3})[ \t]+-->[ \t]+(\d{2,}):(\d\d):(\d\d)\.(\d{3})[ \t]*$")
_VTT_STAMP = re.compile(r"<(\d{2,}):(\d\d):(\d\d)\.(\d{3})>")


def read_vtt(document: str) -> list[ReadCue]:
    assert "\r" not in document
    assert "\0" not in document
    header, *blocks = re.split(r"\n\n+", document.rstrip("\n"))
    assert re.match(r"WEBVTT(?=[ \t\n]|$)", header)
    cues = []
    for block in blocks:
        times, *lines = block.split("\n")
        found = _VTT_TIMES.match(times)
        assert found, times
        # A line with an arrow would end the cue.
        assert not any("-->" in line for line in lines)
        values = [int(value) for value in found.groups()]
        start_ms, end_ms = _ms(*values[:4]), _ms(*values[4:])
        stamps = [_ms(*(int(value) for value in stamp)) for line in lines for stamp in _VTT_STAMP.findall(line)]
        # Inside of the cue, and each later than the one before.
        assert all(a < b for a, b in zip([start_ms, *stamps], [*stamps, end_ms], strict=True))
        shown = [_VTT_STAMP.sub("", line) for line in lines]
        assert not any("<" in line or ">" in line for line in shown)
        assert not any(re.search(r"&(?!(amp|lt|gt);)", line) for line in shown)
        cues.append(ReadCue(start_ms, end_ms, tuple(_resolve(line) for line in shown), tuple(stamps)))
    return cues


_LRC_TIME = re.compile(r"\[(\d{2,}):(\d\d)\.(\d\d)\]")


def read_lrc(document: str) -> list[tuple[int, str]]:
    lines = []
    for line in document.splitlines() if "\u2028" not in document else document.split("\n"):
        found = _LRC_TIME.match(line)
        assert found, line
        rest = line[found.end() :]
        assert not _LRC_TIME.match(rest)
        assert not re.search(r"<\d", rest)
        minutes, seconds, hundredths = (int(value) for value in found.groups())
        assert seconds < 60
        lines.append((60_000 * minutes + 1000 * seconds + 10 * hundredths, rest))
    return lines


def _ms(hours: int, minutes: int, seconds: int, ms: int) -> int:
    assert minutes < 60
    assert seconds < 60
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + ms
